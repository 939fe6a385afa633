"""Commands ended at any moment, and disks that are full: what is there is whole, and ends the same."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from feature_runs import WORDS as FEATURES
from killed_commands import KILLED, Commands, Ended
from stained_runs import stained
from stopped_runs import WORDS, write_training_store
from stores import write_store
from whole_or_absent import (
    WHOLE,
    readable_cells,
    readable_features,
    readable_run,
    same_features,
    same_run,
    same_tissues,
)

pytestmark = pytest.mark.slow  # tens of commands each, in processes of their own

KILLS = int(os.environ.get("TISSUESEG_KILLS", "6"))  # of each command; 30 take some minutes more
DISKS = max(KILLS // 5, 2)  # that are full
NAMES = ("train", "embed", "predict")
SPLIT = "split={train: 2, val: 1, test: 1}"


@pytest.fixture(scope="module")
def commands(demo_cache: Path) -> Iterator[Commands]:
    made = Commands(TISSUESEG_CACHE=str(demo_cache))
    yield made
    made.close()


class Drill(NamedTuple):
    """A command that is begun again and again, in one place after the other."""

    folder: Path  # where the command runs
    words: tuple[str, ...]  # the command's name first
    key: str  # of the option that says where its results go
    readable: Callable[[Path], None]  # of a place: nothing in it is half there
    same: Callable[[Path, Path], None]  # places of commands that came to their end

    def run(self, commands: Commands, place: str, **moment: Any) -> Ended:
        """Run the command once, and look at what is there then."""
        self.folder.mkdir(exist_ok=True)
        ended = commands.run(self.folder, *self.words, f"{self.key}={place}", **moment)
        assert "Traceback" not in ended.said, (moment, ended.said)
        if (self.folder / place).exists():
            self.readable(self.folder / place)
        return ended

    def finish(self, commands: Commands, place: str) -> None:
        """Let the command come to its end, which is that of one that was never disturbed."""
        ended = self.run(commands, place)
        assert ended.code == 0, ended.said
        self.same(self.folder / place, self.folder / WHOLE)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    """A folder with stores, and a trained run."""
    folder = tmp_path_factory.mktemp("faults")
    write_training_store(folder / "store")
    tissues = {name: stained(96, 96, seed) for seed, name in enumerate("abcd")}
    write_store(folder / "cohort.zarr", tissues)
    words = ("store.path=cohort.zarr", SPLIT, "epochs=12", "run_dir=run")
    ended = commands.run(folder, "train", *FEATURES, *words, "decoder=panoptic")
    assert ended.code == 0, ended.said
    return folder


def undisturbed(drill: Drill, commands: Commands) -> Ended:
    """How the command ends that nothing disturbs; what it imports late is at hand from then on."""
    if not (drill.folder / WHOLE).exists():
        drill.run(commands, WHOLE)
    shutil.rmtree(drill.folder / WHOLE)
    ended = drill.run(commands, WHOLE)
    assert ended.code == 0, ended.said
    return ended


def moments(draw: random.Random, whole: Ended) -> Iterator[dict[str, float]]:
    """All over a command: by the clock, before changes of files and within writes."""
    for number in range(KILLS):
        change = draw.randint(1, whole.changes)
        by_clock = {"kill_s": draw.uniform(0, whole.seconds)}
        yield [by_clock, {"kill_at": change}, {"cut_at": change}][number % 3]


def begin(name: str, work: Path) -> Drill:
    """The drill of a command."""
    if name == "train":
        words = ("train", *WORDS, "store.path=../store", "resume=auto", "state.every_s=0")
        return Drill(work / name, words, "run_dir", readable_run, same_run)
    if name == "embed":
        words = ("embed", *FEATURES, "store.path=../cohort.zarr", SPLIT)
        return Drill(work / name, words, "embeddings.path", readable_features, same_features)
    how = ("workers=0", "preview=false", "formats=[csv,geojson]")
    return Drill(work / name, ("predict", "run=../run", *how), "out", readable_cells, same_tissues)


@pytest.mark.parametrize("name", NAMES)
def test_a_command_killed_many_times_ends_as_if_it_never_was(
    work: Path, commands: Commands, name: str, record_property: Any
) -> None:
    drill = begin(name, work)
    whole, ends, killed = undisturbed(drill, commands), 0, 0
    for moment in moments(random.Random(8), whole):
        ended = drill.run(commands, f"killed{ends}", **moment)
        assert ended.code in {0, *KILLED}, (moment, ended.said)
        killed += ended.code != 0
        if ended.code == 0:  # it was faster
            drill.same(drill.folder / f"killed{ends}", drill.folder / WHOLE)
            ends += 1
    drill.finish(commands, f"killed{ends}")
    record_property(
        "killed", f"{killed} of {KILLS} times in {whole.seconds:.1f} s, {ends + 1} ends"
    )
    assert killed > KILLS / 3


@pytest.mark.parametrize("name", NAMES)
def test_a_command_on_a_full_disk_says_so_and_goes_on_with_room(
    work: Path, commands: Commands, name: str, record_property: Any
) -> None:
    drill = begin(name, work)
    whole, said = undisturbed(drill, commands), set()
    for number in range(DISKS):
        change, place = 1 + number * whole.changes // DISKS, f"full{number}"
        ended = drill.run(commands, place, full_at=change)
        errors = [line for line in ended.said.splitlines() if line.startswith("error: ")]
        full = 0 if ended.code == 0 else 1  # at the very end nothing is written any more
        assert (ended.code, len(errors)) == (2 * full, full), (change, ended)
        said |= {line.replace(f"{drill.folder}/", "").replace(place, "…") for line in errors}
        drill.finish(commands, place)
    assert said
    record_property("full disks", "\n".join(sorted(said)))


WRITES = {
    "environment": r"open environment\.json\.partial",
    "configuration": r"open config\.yaml\.partial",
    "panel": r"open b\.partial",
    "decoder": r"os.rename b\.partial",  # it is what is written next
    "table": r"open metrics\.csv\.partial",
    "history": r"open history\.npz\.partial",
    "state": r"open state/\.\d+\.partial",
    "cost": r"open cost\.json\.partial",
    "confusion": r"open confusion\.npy\.partial",
    "scores": r"open metrics\.json\.partial",
}
"""What is written -> the change of a file before which the disk is full."""

SAID = {"decoder": "decoder.ckpt cannot be written", "state": "does not take the state"}


@pytest.mark.parametrize("file", WRITES)
def test_whatever_file_of_a_training_finds_the_disk_full_it_is_said(
    work: Path, commands: Commands, file: str, record_property: Any
) -> None:
    training = begin("train", work)
    if not (training.folder / WHOLE).exists():
        undisturbed(training, commands)
    ended = training.run(commands, file, full_at=WRITES[file])
    (line,) = (line for line in ended.said.splitlines() if "error: " in line)
    record_property("full disk", line)
    assert ended.code == 2
    assert SAID.get(file, "cannot be written to ([Errno 27] File too large)") in line
    training.finish(commands, file)
