"""Several `embed` on one store of features: cohorts kept apart, and tissues that others are at."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from feature_runs import WORDS, encoded, error_line, feature_store
from folders import same_files
from stores import random_tissue, three_tissues, write_store

from tissueseg.contracts import Modality
from tissueseg.modules import embedding
from tissueseg.store.embedding_writer import EmbeddingWriter, work_folder
from tissueseg.store.embeddings import DTYPES, EmbeddingStore, State
from tissueseg.store.tissues import TissueStore

Command = Callable[..., Any]  # name, overrides -> code, out, err


def states(cohort: Path, features: Path) -> dict[str, State]:
    """What a store of features has of each tissue of a cohort."""
    tissues = TissueStore(cohort)
    digests = {t: tissues.image_digests(t, Modality.HE) for t in tissues.tissues}
    return EmbeddingStore(features).states(digests)


def test_cohorts_that_share_a_folder_do_not_replace_each_other(
    command: Command, here: Path
) -> None:
    words = (*WORDS, "embeddings.path=shared")
    other = three_tissues() | {"b": random_tissue(seed=9, patient="p_b")}
    write_store(here / "other.zarr", other)
    assert command("embed", *words).code == 0
    (stored,) = (here / "shared").glob("[!.]*.zarr")
    before = shutil.copytree(stored, here / "before")
    error = error_line(command("embed", *words, "store.path=other.zarr"))
    assert f"{stored} holds features of {here / 'cohort.zarr'}, with other images of 1" in error
    assert "(b): give this cohort an embeddings.path of its own" in error
    assert same_files(before, stored)
    (here / "cohort.zarr").rename(here / "moved.zarr")
    assert command("embed", *words, "store.path=moved.zarr").code == 0
    assert same_files(before, stored)
    result = command(
        "embed", *words, "store.path=other.zarr"
    )  # the first is gone, it may have moved
    assert (result.code, encoded(result.out)) == (0, ["b"])
    assert set(states(here / "other.zarr", stored).values()) == {State.COMPLETE}


@pytest.fixture
def features(command: Command, here: Path) -> Path:
    """A store of features of all tissues but one."""
    assert command("embed", *WORDS).code == 0
    store = feature_store(here)
    shutil.rmtree(store / "b")
    return store


@pytest.fixture
def at_next_look(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], list[float]]:
    """From its call on, what happens while `embed` waits; the list is of how long it would have."""

    def let(happen: Callable[[], object]) -> list[float]:
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:  # nothing has changed at the first look
                happen()
            assert len(waits) <= 2, "waits for what is done"

        monkeypatch.setattr(embedding, "time", SimpleNamespace(sleep=sleep))
        return waits

    return let


def test_a_tissue_that_another_completes_is_waited_for_and_kept(
    command: Command, here: Path, features: Path, at_next_look: Callable[..., list[float]]
) -> None:
    store = EmbeddingStore(features)
    shape = (store.tiles("a"), store.views, *store.grid)
    digests = TissueStore(here / "cohort.zarr").image_digests("b", Modality.HE)
    with EmbeddingWriter(store) as other:
        attempt = other.begin("b", shape[0])
        assert attempt is not None

        def complete() -> None:
            attempt.put(0, np.ones(shape, DTYPES[store.dtype]))
            attempt.publish(digests).result()

        waits = at_next_look(complete)
        result = command("embed", *WORDS)
    assert (result.code, encoded(result.out), waits) == (0, [], [embedding._POLL_S] * 2)
    assert "3 tissues complete already" in result.out
    assert "not waited for" not in result.out


HOLDING = """
import sys
from pathlib import Path
from tissueseg.store.claims import Claims

assert Claims(Path(sys.argv[1])).take(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(features: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, that is at the tissue which has no features."""
    script = [sys.executable, "-c", HOLDING, str(work_folder(features) / "claims"), "b"]
    pipe = subprocess.PIPE
    with subprocess.Popen(script, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_tissue_of_a_worker_that_dies_is_encoded_here(
    command: Command,
    here: Path,
    features: Path,
    holder: subprocess.Popen[str],
    at_next_look: Callable[..., list[float]],
) -> None:
    def die() -> None:
        holder.kill()
        holder.wait()

    waits = at_next_look(die)
    result = command("embed", *WORDS)
    assert (result.code, encoded(result.out), len(waits)) == (0, ["b"], 2)
    assert "2 tissues complete already" in result.out
    assert set(states(here / "cohort.zarr", features).values()) == {State.COMPLETE}


def test_whoever_does_not_wait_says_so(
    command: Command,
    here: Path,
    features: Path,
    holder: subprocess.Popen[str],
    at_next_look: Callable[..., list[float]],
) -> None:
    waits = at_next_look(lambda: None)
    result = command("embed", *WORDS, "wait=false")
    assert (result.code, encoded(result.out), waits) == (0, [], [])
    assert "1 tissues other workers are at: not waited for" in result.out
    assert states(here / "cohort.zarr", features)["b"] == State.MISSING
