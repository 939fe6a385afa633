"""`report`: from run folders to a page, tables and a sentence; mistakes are one line."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from study_made import write_study

from .conftest import Command

FILES = [
    "report.html",
    "report.md",
    "ranking.csv",
    "comparisons.csv",
    "classes.csv",
    "runs.csv",
    "report.json",
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs") / "decoders-demo"
    return write_study(root, {"baseline": 0.0, "boundary": 0.15}, seeds=(0, 1, 2, 3), tissues=4)


def test_it_leaves_every_form_and_ends_with_the_sentence(
    command: Command, study: Path, tmp_path: Path
) -> None:
    result = command("report", f"runs={study}", f"out={tmp_path / 'made'}")
    assert (result.code, result.err) == (0, "")
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == sorted(FILES)
    said = json.loads((tmp_path / "made/report.json").read_text())["conclusion"]
    assert said.startswith("boundary is best")
    assert said in result.out
    assert "boundary is best" in (tmp_path / "made/report.md").read_text()
    with (tmp_path / "made/ranking.csv").open() as file:
        assert [row["arm"] for row in csv.DictReader(file)] == ["boundary", "baseline"]


def test_by_default_it_lies_beside_the_runs_and_is_written_anew(
    command: Command, study: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(study, copied)
    numbers = []
    for _ in range(2):  # the second time a report lies among the runs
        assert command("report", f"runs={copied}").code == 0
        numbers.append((copied / "report/comparisons.csv").read_text())
    assert numbers[0] == numbers[1]


def test_runs_copied_without_data_and_pictures_are_enough(
    command: Command, study: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    left_out = shutil.ignore_patterns("*.png", "*.ckpt", "cost.json", "*.npz")
    shutil.copytree(study, copied, ignore=left_out)
    assert command("report", f"runs={copied}").code == 0
    page = (copied / "report/report.html").read_text()
    assert "boundary is best" in page


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "give runs=…"),
        (("runs=nowhere",), "runs=nowhere is no folder"),
        (("runs=3",), "runs=3: wanted a folder"),
        (("runs={study}", "metric=test/dice/macro_foregrund"), "test/dice/macro_foreground"),
        (("runs={study}", "baseline=x"), "x"),
        (("runs={study}", "arms=baseline"), "arms=baseline: wanted names as in arms=[a,b]"),
        (("runs={study}", "level=95"), "level=95, wanted"),
        (("runs={study}", "replicates=1"), "replicates=1, wanted"),
        (("runs={study}", "out={study}/baseline/fold_1-seed_0"), "is the folder of a run"),
        (("runs={empty}",), "run"),
    ],
)
def test_mistakes_are_one_line(
    command: Command, study: Path, tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [word.format(study=study, empty=tmp_path / "empty") for word in words]
    result = command("report", *filled)
    assert result.code == 2
    assert line in result.err
    assert result.err.count("\n") == 1
    assert not (study / "report").exists()
