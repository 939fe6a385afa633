"""Damage to what a training left in its folder, and others in it: one trains, from what is whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from shutil import copytree

import pytest
from faulty_runs import MIDST, Command, at, goes_on, left_alone, stopped, words
from feature_runs import error_line
from killed_commands import Commands, order
from stopped_runs import assert_same_run

from tissueseg.modules.state_files import StateFiles


@pytest.fixture(autouse=True)
def states_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than the steps of a run this small."""
    monkeypatch.setattr("tissueseg.modules.resumption._SHARE", 0)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return left_alone(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def store(alone: tuple[Path, Path]) -> Path:
    return alone[0]


@pytest.fixture
def whole(alone: tuple[Path, Path]) -> Path:
    return alone[1]


def damages() -> Iterator[Callable[[Path], None]]:
    """Ten bytes that are others, and ten ends that are missing."""
    draw = random.Random(8)
    for _ in range(10):
        yield partial(flip, draw.random())
        yield partial(cut, draw.random())


def flip(where: float, path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1
    path.write_bytes(content)


def cut(where: float, path: Path) -> None:
    path.write_bytes(path.read_bytes()[: int(where * path.stat().st_size)])


def test_a_state_damaged_anywhere_is_found_and_the_one_before_is_taken(
    command: Command, store: Path, whole: Path, tmp_path: Path
) -> None:
    folder = stopped(command, store, tmp_path)
    older, newer = sorted((folder / "state").glob("*.ckpt"))
    content = newer.read_bytes()
    for damage in damages():
        newer.write_bytes(content)
        damage(newer)
        assert StateFiles(folder / "state").recover() == (older, [f"{newer.name} is damaged"])
        assert not newer.exists()
    newer.write_bytes(content[:-1])
    result = command("train", f"resume={folder}")
    assert f"goes on after {older.name}" in result.out.replace("\n", "")
    assert_same_run(folder, whole)


def test_a_second_training_in_a_folder_is_refused_and_the_first_unharmed(
    command: Command, store: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, refused = tmp_path / "run", []
    with closing(Commands()) as commands:

        def another() -> None:
            refused.append(commands.run(tmp_path, "train", *words(store, folder)))
            refused.append(commands.run(tmp_path, "train", f"resume={folder}"))

        with at(MIDST, another):
            assert command("train", *words(store, folder)).code == 0
    for ended in refused:
        assert (ended.code, ended.said.count("\n")) == (2, 1)
        assert "another process trains this run" in ended.said
    assert_same_run(folder, whole)


@pytest.mark.slow
def test_of_two_trainings_that_begin_at_once_one_trains(
    store: Path, whole: Path, tmp_path: Path
) -> None:
    with closing(Commands()) as commands:
        for number in range(10):
            folder = tmp_path / str(number)
            both = commands.at_once([order(tmp_path, "train", *words(store, folder))] * 2)
            said = sorted("another process trains" in ended.said for ended in both)
            codes = sorted(ended.code for ended in both)
            assert codes == ([0, 2] if said[1] else [0, 0]), both
            assert sum("epoch 1/3" in ended.said for ended in both) == 1
            assert_same_run(folder, whole)
            assert [path.name for path in tmp_path.iterdir()].count(f"{number}-2") == 0


def test_a_folder_in_which_a_run_was_to_begin_is_its_own(
    command: Command, store: Path, whole: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()  # and there its process was killed
    assert command("train", *words(store, folder)).code == 0
    assert_same_run(folder, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_of_other_results_is_not_begun_in(
    command: Command, store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.json").write_text("mine")
    assert "holds results, but no config.yaml" in error_line(
        command("train", *words(store, folder))
    )
    assert [path.name for path in folder.iterdir()] == ["metrics.json"]


def test_the_state_that_a_finished_run_was_killed_with_is_removed(
    command: Command, store: Path, whole: Path, tmp_path: Path
) -> None:
    folder = stopped(command, store, tmp_path)
    copytree(folder / "state", tmp_path / "state")
    goes_on(command, store, folder, whole)
    (tmp_path / "state").rename(folder / "state")
    assert "finished already" in command("train", *words(store, folder)).out
    assert not (folder / "state").exists()
