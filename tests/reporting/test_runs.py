"""Run folders: made once, never reused; files written whole."""

import json
import math
import os

import numpy as np
import pytest

from tissueseg.errors import RunFolderError
from tissueseg.reporting import runs


def test_a_taken_name_gets_a_number(tmp_path):
    wanted = tmp_path / "deep" / "run"
    made = [runs.make_run_folder(wanted) for _ in range(3)]
    assert [folder.name for folder in made] == ["run", "run-2", "run-3"]
    assert all(folder.is_dir() for folder in made)


def test_a_folder_that_stands_is_never_reused_even_when_empty(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run-2").write_text("a file")
    assert runs.make_run_folder(tmp_path / "run").name == "run-3"


@pytest.mark.parametrize("check", [runs.check_writable, runs.make_run_folder])
def test_no_folder_can_be_made_below_a_file(tmp_path, check):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"run_dir=.*Choose another run_dir"):
        check(tmp_path / "file" / "deep" / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_leave_to_write_is_refused(tmp_path):
    (tmp_path / "locked").mkdir(0o555)
    with pytest.raises(RunFolderError, match="can be written to"):
        runs.check_writable(tmp_path / "locked" / "run")


def test_checking_makes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs.check_writable(tmp_path / "a" / "b")
    runs.check_writable(tmp_path.relative_to(tmp_path) / "relative" / "run")
    assert not list(tmp_path.iterdir())


def test_undefined_numbers_become_null(tmp_path):
    content = {"a": math.nan, "b": [1.5, (math.inf, -math.inf)], "c": {"d": math.nan}, 4: "µm"}
    runs.write_json(tmp_path / "m.json", content)
    read = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert read == {"a": None, "b": [1.5, [None, None]], "c": {"d": None}, "4": "µm"}


def test_a_write_that_fails_leaves_the_file_before(tmp_path):
    runs.write_json(tmp_path / "m.json", {"score": 1})
    with pytest.raises(TypeError):
        runs.write_json(tmp_path / "m.json", {"score": object()})
    assert json.loads((tmp_path / "m.json").read_text()) == {"score": 1}


@pytest.mark.parametrize("side", ["val", "test"])
def test_counts_are_kept_per_side(tmp_path, side):
    counts = np.arange(8).reshape(2, 2, 2)
    runs.save_confusion(tmp_path, side, counts)
    (path,) = tmp_path.iterdir()
    assert path.name == {"val": "confusion.npy", "test": "confusion_test.npy"}[side]
    np.testing.assert_array_equal(np.load(path), counts)


def test_a_folder_that_is_no_run_s_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no config.yaml: give the folder"):
        runs.open_run_folder(tmp_path)
    with pytest.raises(RunFolderError):
        runs.open_run_folder(tmp_path / "missing")
    (tmp_path / "config.yaml").write_text("")
    assert runs.open_run_folder(tmp_path) == tmp_path


def test_the_environment_says_what_ran(tmp_path):
    found = runs.environment()
    runs.write_json(tmp_path / "e.json", found)
    assert json.loads((tmp_path / "e.json").read_text())["packages"]["torch"]
    assert found["machine"]["cpus"] == os.cpu_count()
    assert all(found["packages"].values())
