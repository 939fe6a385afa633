"""Reading run folders: all that are there, each once, and none that is broken without a word."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from study_made import CLASSES, made_confusion, write_job, write_run, write_study

from tissueseg.errors import RunFolderError
from tissueseg.reporting.records.run_record import read_runs

TISSUES = {"val": ["v"], "test": ["b", "a"]}


def a_run(folder, **options):
    confusions = {
        side: np.stack([made_confusion(0.5 + 0.1 * i) for i in range(len(names))])
        for side, names in TISSUES.items()
    }
    return write_run(folder, tissues=TISSUES, confusions=confusions, **options)


def places(*folders):
    return [record.place for record in read_runs(folders)[0]]


def test_everything_of_a_run_is_read(tmp_path):
    a_run(tmp_path / "run", fold=2, seed=7, cells=True)
    (record,), unfinished = read_runs([tmp_path])
    assert not unfinished
    assert (record.place, record.study, record.arm) == ("run", "decoders", "baseline")
    assert (record.fold, record.seed, record.classes) == ("2", 7, CLASSES)
    assert record.sides == ("val", "test")
    assert record.tissues("test") == ("b", "a")  # the confusion's order, not the alphabet's
    np.testing.assert_array_equal(record.confusion["test"][1], made_confusion(0.6))
    assert record.scores("val")["calibration"]["ece"] == pytest.approx(0.05)
    assert record.evaluations["test"]["cells"]["tissues"]["b"]["bpq_image"] == pytest.approx(0.5)
    assert record.history["train/loss"].shape == (4,)
    assert record.cost["peak_of"] == "process"
    assert {name: path.is_file() for name, path in record.panels.items()} == dict.fromkeys(
        "abv", True
    )


def test_older_runs_lack_some_files(tmp_path):
    folder = a_run(tmp_path / "run", study=None, fold=None)
    for name in ("cost.json", "history.npz"):
        (folder / name).unlink()
    shutil.rmtree(folder / "panels")
    (record,), _ = read_runs([folder])
    assert (record.fold, record.study, record.place) == ("", None, "run")
    assert not any((record.cost, record.history, record.panels, record.evaluations))


def test_a_side_that_only_evaluate_scored_is_there_too(tmp_path):
    folder = a_run(tmp_path / "run", cells=True)
    evaluation = folder / "evaluation"
    (evaluation / "val").rename(evaluation / "other")
    path = evaluation / "other" / "metrics.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "other": found["val"]}))
    (record,), _ = read_runs([folder])
    assert record.sides == ("val", "test", "other")
    assert record.tissues("other") == ("v",)
    assert record.confusion["other"].shape == (1, 4, 4)


def test_runs_are_found_below_by_name_and_each_once(tmp_path):
    for name in ("b/2", "b/1", "a/run"):
        a_run(tmp_path / name)
    for name in (".hidden/run", "b/wandb/run", "b/1/deeper/run"):
        a_run(tmp_path / name)
    assert places(tmp_path) == ["a/run", "b/1", "b/2"]
    assert places(tmp_path, tmp_path / "b") == [f"{tmp_path.name}/{n}" for n in places(tmp_path)]
    assert places(tmp_path / "b" / "2", tmp_path / "a") == ["2", "a/run"]


def test_links_that_go_round_end(tmp_path):
    a_run(tmp_path / "a" / "run")
    (tmp_path / "a" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "a" / "run", target_is_directory=True)
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    assert places(tmp_path) == ["a/run"]


def test_places_of_one_name_are_told_apart_by_their_paths(tmp_path):
    folders = [a_run(tmp_path / name / "study" / "run").parent for name in "xy"]
    assert places(*folders) == [str(folder / "run") for folder in folders]


def test_a_copied_study_is_read_where_it_lies(tmp_path):
    root = write_study(tmp_path / "here", {"a": 0}, folds=[1], seeds=[0, 1])
    shutil.copytree(root, tmp_path / "there")
    shutil.rmtree(root)
    records, unfinished = read_runs([tmp_path / "there"])
    assert [record.place for record in records] == ["a/fold_1-seed_0", "a/fold_1-seed_1"]
    assert not unfinished


def test_runs_without_scores_say_why(tmp_path):
    a_run(tmp_path / "done")
    a_run(tmp_path / "killed", finished=False)
    records, unfinished = read_runs([tmp_path])
    assert [record.place for record in records] == ["done"]
    assert unfinished == [("killed", "no metrics.json")]


def test_what_a_sweep_noted_counts_once(tmp_path):
    root = write_study(tmp_path / "s", {"a": 0}, folds=[1], seeds=[0])
    a_run(root / "a" / "fold_1-seed_1", finished=False)
    write_job(root, arm="a", label="fold_1-seed_1", state="failed", line="out of memory")
    write_job(root, arm="a", label="fold_1-seed_2", state="failed", line="no such decoder")
    write_job(root, arm="a", label="fold_1-seed_3", state="running")
    records, unfinished = read_runs([root])
    assert len(records) == 1
    assert unfinished == [
        ("a/fold_1-seed_1", "failed: out of memory"),
        ("a/fold_1-seed_2", "failed: no such decoder"),
        ("a/fold_1-seed_3", "its record says running, but its folder is not here"),
    ]


def test_nothing_found_is_said(tmp_path):
    with pytest.raises(RunFolderError, match=r"holds no run, that is no folder with config.yaml"):
        read_runs([tmp_path])
    with pytest.raises(RunFolderError, match="missing is no folder: give"):
        read_runs([tmp_path / "missing"])


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_other_shape(path):
    np.save(path, np.zeros((3, 4, 4), np.int64))


def of_other_type(path):
    with path.open("wb") as file:  # not the path, to which numpy adds a suffix
        np.save(file, np.zeros((2, 4, 4)))


def pickled(path):
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


def pickled_curve(path):
    np.savez(path, epoch=np.array([{}], dtype=object))


def of_two_lengths(path):
    np.savez(path, epoch=np.zeros(3), lr=np.zeros(4))


def of_words(path):
    np.savez(path, epoch=np.zeros(3), lr=np.array(["a", "b", "c"]))


def of_complex_numbers(path):
    np.savez(path, epoch=np.zeros(3), lr=np.zeros(3, complex))


def a_list(path):
    path.write_text("[1, 2]")


def empty(path):
    path.write_bytes(b"")


def tagged(path):
    path.write_text("!!python/object/apply:os.getcwd []")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        *[
            (f"{stem}.json", spoil)
            for stem in ("metrics", "cost")
            for spoil in (cut, a_list, empty)
        ],
        ("environment.json", cut),
        ("evaluation/test/metrics.json", cut),
        ("config.yaml", a_list),
        ("config.yaml", tagged),
        *[
            ("history.npz", spoil)
            for spoil in (
                cut,
                pickled_curve,
                of_two_lengths,
                of_words,
                of_complex_numbers,
                empty,
                of_other_type,
            )
        ],
        *[
            ("confusion_test.npy", spoil)
            for spoil in (cut, of_other_shape, of_other_type, pickled, empty)
        ],
    ],
)
def test_a_broken_file_is_named_in_one_line(tmp_path, name, spoil):
    folder = a_run(tmp_path / "run", cells=True)
    spoil(folder / name)
    with pytest.raises(RunFolderError) as found:
        read_runs([tmp_path])
    said = str(found.value)
    assert str(folder / name) in said
    assert said.endswith("Copy the run's folder again, or leave it out.")
    assert "\n" not in said


@pytest.mark.parametrize("name", ["confusion.npy", "confusion_test.npy"])
def test_a_missing_confusion_is_named(tmp_path, name):
    (a_run(tmp_path / "run") / name).unlink()
    with pytest.raises(RunFolderError, match=f"{name} cannot be read"):
        read_runs([tmp_path])


@pytest.mark.parametrize(("name", "key"), [("metrics.json", "classes"), ("config.yaml", "seed")])
def test_a_missing_key_is_named(tmp_path, name, key):
    path = a_run(tmp_path / "run") / name
    found = yaml.safe_load(path.read_text())
    path.write_text(json.dumps({k: v for k, v in found.items() if k != key}))
    with pytest.raises(RunFolderError, match=f"{name} holds no '{key}'"):
        read_runs([tmp_path])


@pytest.mark.parametrize(
    ("name", "key", "value", "says"),
    [
        ("environment.json", "digests", [1], "digests is [1], wanted keys with values"),
        ("environment.json", "encoder", {"name": 3}, "encoder.name is 3, wanted text"),
        ("metrics.json", "classes", "ab", "classes is 'ab', wanted a list"),
        ("metrics.json", "epoch", "last", "epoch is 'last', wanted a whole number"),
        ("metrics.json", "test", {"pooled": {"dice": "x"}}, "test.pooled.dice is 'x', wanted"),
        (
            "metrics.json",
            "test",
            {"calibration": {"low": [0.0], "high": [1.0], "confidence": [0.5], "accuracy": [0.5]}},
            "'accuracy': 1, 'pixels': 0}, wanted them of one length",
        ),
    ],
)
def test_a_file_of_another_form_is_named_with_its_key(tmp_path, name, key, value, says):
    a_run(tmp_path / "run", cells=True)
    path = tmp_path / "run" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(RunFolderError, match=re.escape(says)) as caught:
        read_runs([tmp_path])
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_broken_record_of_a_sweep_costs_no_run(tmp_path):
    root = write_study(tmp_path / "s", {"a": 0}, folds=[1], seeds=[0])
    cut(root / "jobs" / "a.fold_1-seed_0.json")
    (root / "jobs" / "a.fold_1-seed_1.json").touch()
    (root / "jobs" / "report.json").write_text("{}")
    records, unfinished = read_runs([root])
    assert [record.place for record in records] == ["a/fold_1-seed_0"]
    assert [run.place for run in unfinished] == ["a/fold_1-seed_1"]
    assert "broken" in unfinished[0].why


@pytest.mark.parametrize(
    "text",
    ['{"arm": ["a"]}', '{"label": "a\\u0000"}', '{"state": 3}', "[" * 9999, '{"line": {}}'],
    ids=["list", "null", "number", "nested", "mapping"],
)
def test_an_odd_record_of_a_sweep_costs_no_run(tmp_path, text):
    root = write_study(tmp_path / "s", {"a": 0}, folds=[1], seeds=[0])
    (root / "jobs" / "a.fold_1-seed_1.json").write_text(text)
    records, unfinished = read_runs([root])
    assert [record.place for record in records] == ["a/fold_1-seed_0"]
    assert [run.place for run in unfinished] == ["a/fold_1-seed_1"]


@pytest.mark.parametrize("name", ["config.yaml", "environment.json"])
def test_a_run_that_was_copied_in_part_is_no_run_and_is_said(tmp_path, name):
    a_run(tmp_path / "a")
    (a_run(tmp_path / "b") / name).unlink()
    records, unfinished = read_runs([tmp_path])
    assert [record.place for record in records] == ["a"]
    assert unfinished == [("b", f"{name} not there: copy it again")]


def test_scores_of_other_tissues_than_the_split_s_are_refused(tmp_path):
    a_run(tmp_path / "run", environment={"split": {"val": ["v"], "test": ["a", "b"]}})
    with pytest.raises(RunFolderError, match=r"test tissues \['b', 'a'\], but environment.json"):
        read_runs([tmp_path])


def test_reading_starts_without_torch():
    name = "tissueseg.reporting.records.measures"
    code = f"import sys, {name} as m; print(m.__name__, 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["tissueseg.reporting.records.measures", "False"]
