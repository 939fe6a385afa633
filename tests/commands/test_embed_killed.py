"""`embed` killed at any moment, and several of it at once: what is there is whole, and the same bytes."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from embed_forks import KILLED, Forks
from feature_runs import WORDS, encoded, feature_store, write_cohort
from folders import same_files, shown
from stores import random_tissue

from tissueseg.contracts import Modality
from tissueseg.store.embeddings import EmbeddingStore, State
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore

pytestmark = pytest.mark.slow  # each command of a process of its own

KILLS = 20
TISSUES = 32  # more than so many killed commands get done


def cohort(count: int) -> dict[str, Tissue]:
    """Tissues of nine tiles."""
    names = [f"t{number:02}" for number in range(count)]
    return {name: random_tissue(96, 96, seed, patient=name) for seed, name in enumerate(names)}


FEW = cohort(4)


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    runner = Forks()
    yield runner
    runner.close()


class Place(NamedTuple):
    """A folder with a cohort, and the store that one undisturbed command makes there, put aside."""

    folder: Path
    whole: Path

    @classmethod
    def prepare(cls, folder: Path, tissues: dict[str, Tissue], forks: Forks) -> Place:
        write_cohort(folder, tissues)
        assert forks.embed(folder, WORDS) == [0], (folder / "out.0").read_text()
        (folder / "cohort_embeddings").rename(folder / "aside")
        (whole,) = (folder / "aside").glob("[!.]*.zarr")
        return cls(folder, whole)

    def complete(self) -> list[str]:
        """Tissues that read as complete, each compared with the whole store's."""
        made = self.folder / "cohort_embeddings"
        if not made.exists() or not shown(made):
            return []
        tissues = TissueStore(self.folder / "cohort.zarr")
        store = EmbeddingStore(feature_store(self.folder))
        digests = {t: tissues.image_digests(t, Modality.HE) for t in tissues.tissues}
        found = [t for t in tissues.tissues if store.state(t, digests[t]) == State.COMPLETE]
        for tissue in found:
            assert same_files(Path(store.path) / tissue, self.whole / tissue), tissue
        return found

    def check(self) -> None:
        """As if no command had ever been killed."""
        assert same_files(feature_store(self.folder), self.whole)
        assert list((self.folder / "cohort_embeddings").glob(".*.work/tissues/*")) == []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, forks: Forks) -> Place:
    return Place.prepare(tmp_path_factory.mktemp("few"), FEW, forks)


@pytest.fixture
def here(prepared: Place) -> Place:
    """With nothing embedded."""
    shutil.rmtree(prepared.folder / "cohort_embeddings", ignore_errors=True)
    return prepared


def moments() -> Iterator[tuple[str, float]]:
    """When commands are killed, alike from run to run."""
    draw = random.Random(0)
    for number in range(KILLS):
        at_work = ("at work", draw.uniform(1, 30))
        yield at_work if number % 2 else ("changing", draw.randrange(1, 60))


def test_killed_twenty_times_it_ends_as_if_it_never_was(
    tmp_path: Path, forks: Forks, record_property: Any
) -> None:
    here, counts = Place.prepare(tmp_path, cohort(TISSUES), forks), []
    for when, number in moments():
        assert forks.kill(tmp_path, WORDS, when, number) == KILLED, (when, number)
        counts.append(len(here.complete()))
    summary = f"{KILLS} kills; of {TISSUES} tissues complete after each: {counts}"
    record_property("killed", summary)
    print(summary)
    assert counts == sorted(counts)
    assert 0 < counts[-1] < TISSUES
    assert forks.embed(tmp_path, WORDS) == [0]
    here.check()


@pytest.mark.parametrize("change", [1, 4, 7, 10])
def test_killed_while_the_store_is_made(here: Place, forks: Forks, change: int) -> None:
    assert forks.kill(here.folder, WORDS, "changing", change) == KILLED
    assert here.complete() == []
    assert forks.embed(here.folder, WORDS) == [0]
    here.check()


@pytest.mark.parametrize("steps", range(4))
def test_killed_about_the_publishing_of_a_tissue(here: Place, forks: Forks, steps: int) -> None:
    assert forks.kill(here.folder, WORDS, "publishing", steps) == KILLED
    assert here.complete() == ["t00"] * (steps > 0)
    assert forks.embed(here.folder, WORDS) == [0]
    here.check()


@pytest.mark.parametrize("steps", range(3))
def test_killed_while_a_stale_tissue_is_replaced(tmp_path: Path, forks: Forks, steps: int) -> None:
    changed = FEW | {"t02": random_tissue(96, 96, 99, patient="t02")}
    here = Place.prepare(tmp_path, changed, forks)
    write_cohort(tmp_path, FEW)
    assert forks.embed(tmp_path, WORDS) == [0]
    write_cohort(tmp_path, changed)
    assert here.complete() == ["t00", "t01", "t03"]
    assert forks.kill(tmp_path, WORDS, "publishing", steps) == KILLED
    assert len(here.complete()) == 3 + (steps > 0)
    assert forks.embed(tmp_path, WORDS) == [0]
    here.check()


def test_four_at_once_share_the_work(here: Place, forks: Forks) -> None:
    assert forks.embed(here.folder, WORDS, count=4) == [0] * 4
    said = [(here.folder / f"out.{number}").read_text() for number in range(4)]
    assert sorted(tissue for text in said for tissue in encoded(text)) == [*FEW]
    assert sum(int(n) for text in said for n in re.findall(r"encoded (\d+) tissue", text)) == 4
    here.check()


def test_two_devices_share_the_work(
    here: Place, run_cli: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    result = run_cli("embed", *WORDS, "trainer.devices=2", cwd=here.folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(encoded(result.stdout)) == [*FEW]
    assert here.complete() == [*FEW]
