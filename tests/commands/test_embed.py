"""`python -m tissueseg.embed`: what is encoded and what is kept, and one line for what goes wrong."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_runs import WORDS, encoded, error_line, feature_store, write_cohort
from folders import same_files, shown
from spoilt.embeddings import MISTAKES, Mistake
from stores import random_tissue, three_tissues

from tissueseg.contracts import Modality
from tissueseg.encoders.tiny import TinyEncoder
from tissueseg.store.embeddings import EmbeddingStore, State
from tissueseg.store.tissues import TissueStore

Command = Callable[..., Any]  # name, overrides -> code, out, err


def states(folder: Path, modality: str = "he") -> dict[str, State]:
    """What the store of features has of each tissue of the cohort."""
    cohort, features = TissueStore(folder / "cohort.zarr"), EmbeddingStore(feature_store(folder))
    digests = {t: cohort.image_digests(t, Modality(modality)) for t in cohort.tissues}
    return {tissue: features.state(tissue, found) for tissue, found in digests.items()}


def test_what_is_there_is_not_encoded_again(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = command("embed", *WORDS)
    assert (result.code, encoded(result.out)) == (0, ["a", "b", "c"])
    assert f"features: {feature_store(here)}" in result.out
    assert "encoded 3 tissues in " in result.out
    assert set(states(here).values()) == {State.COMPLETE}
    before = shutil.copytree(feature_store(here), here / "before")

    def refuse(*_: Any) -> None:
        raise AssertionError("a tile is encoded")

    monkeypatch.setattr(TinyEncoder, "encode", refuse)
    result = command("embed", *WORDS)
    assert (result.code, encoded(result.out)) == (0, [])
    assert "complete already" in result.out
    assert same_files(before, feature_store(here))


def test_of_a_grown_cohort_only_the_new_tissue_is_encoded(command: Command, here: Path) -> None:
    assert command("embed", *WORDS).code == 0
    write_cohort(here, three_tissues() | {"d": random_tissue(seed=7, patient="p_d")})
    result = command("embed", *WORDS)
    assert (result.code, encoded(result.out)) == (0, ["d"])
    assert "encoded 1 tissue" in result.out
    assert "3 tissues complete already" in result.out
    assert states(here) == dict.fromkeys("abcd", State.COMPLETE)


def test_a_mended_mask_leaves_features_as_they_are(command: Command, here: Path) -> None:
    assert command("embed", *WORDS).code == 0
    tissues = three_tissues()
    mended = tissues["b"].instances.copy()
    mended[mended == mended.max()] = 0
    tissues["b"] = tissues["b"]._replace(
        instances=mended, classes=tissues["b"].classes * (mended > 0)
    )
    before = TissueStore(here / "cohort.zarr").digests()
    write_cohort(here, tissues)
    changed = TissueStore(here / "cohort.zarr").digests().items() - before.items()
    assert [tissue for tissue, _ in changed] == ["b"]
    assert command("train", *WORDS, "features=stored", "epochs=1").code == 0
    result = command("embed", *WORDS)
    assert (encoded(result.out), "complete already" in result.out) == ([], True)


def test_a_folder_of_features_of_many_kinds_keeps_them_apart(command: Command, here: Path) -> None:
    for change in ((), ("views=4",), ("embeddings.dtype=bfloat16",), ("encoder.seed=1",)):
        assert command("embed", *WORDS, *change).code == 0
    assert len(shown(here / "cohort_embeddings")) == 4
    named = "embeddings.path=one.zarr"
    assert command("embed", *WORDS, named).code == 0
    error = error_line(command("embed", *WORDS, named, "encoder.seed=1"))
    assert "one.zarr holds features of another origin" in error
    assert "encoder.weights random, seed 0" in error


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(
    command: Command, here: Path, mistake: Mistake, record_property: Any
) -> None:
    mistake.spoil(here)
    before = sorted(here.rglob("*"))
    error = error_line(command("embed", *WORDS, *mistake.words))
    record_property("message", error)
    for words in mistake.says:
        assert words in error
    assert sorted(here.rglob("*")) == before


def bright(here: Path) -> tuple[str, ...]:
    """A cohort whose middle tissue is far brighter than the source says that tissues are."""
    tissues = {}
    for seed, name in enumerate("abc"):
        sp = np.random.default_rng(seed).integers(100, 102, (2, 64, 64), np.uint16)
        part = sp * np.uint16(600 if name == "b" else 1)
        tissues[name] = random_tissue(seed=seed, sp=part, patient=f"p_{name}")
    moments = {"0.99": {"mean": [float(np.log1p(100))] * 2, "std": [1e-6] * 2}}
    write_cohort(here, tissues, moments=moments)
    return (*WORDS, "modality=sp")


def test_a_tissue_that_overflows_stops_the_command(command: Command, here: Path) -> None:
    words = bright(here)
    error = error_line(command("embed", *words))
    assert "features that are not finite as float16 for tissue b, tile at row 0, column 0" in error
    assert states(here, "sp") == {"a": "complete", "b": "missing", "c": "missing"}
    result = command("embed", *words, "embeddings.dtype=bfloat16")  # as the line says
    assert (result.code, encoded(result.out)) == (0, ["a", "b", "c"])


def test_a_tissue_that_overflows_can_be_left_out(command: Command, here: Path) -> None:
    words = bright(here)
    result = command("embed", *words, "on_error=skip")
    assert result.code == 2
    assert "encoded 2 tissues" in result.out
    first, last = result.err.splitlines()
    assert first.startswith("error: encoder=tiny gave features that are not finite as float16 for")
    assert "tissue b, tile" in first
    assert last.startswith("error: 1 tissue")
    assert states(here, "sp") == {"a": "complete", "b": "missing", "c": "complete"}
    error = error_line(command("train", *words, "features=stored"))
    assert "lacks 1 tissue" in error
    assert "(b)" in error


LIMIT_BYTES = 100_000


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """From its call on, no file may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_one_line_and_the_next_attempt_goes_on(
    command: Command, here: Path, small_disk: Callable[[int], None]
) -> None:
    large = random_tissue(128, 128, patient="p_b")  # 256 kB of features, the others 64 kB
    write_cohort(here, three_tissues() | {"b": large})
    words = (*WORDS, "views=8")
    small_disk(LIMIT_BYTES)
    result = command("embed", *words)
    small_disk(resource.RLIM_INFINITY)
    error = error_line(result)
    assert f"features cannot be written to {feature_store(here)} (File too large): free" in error
    before = states(here)  # the third may have been on its way already
    assert (before["a"], before["b"]) == (State.COMPLETE, State.MISSING)
    assert not list(feature_store(here).parent.glob(".*/tissues/*/*"))
    result = command("embed", *words)
    missing = [tissue for tissue, state in before.items() if state == State.MISSING]
    assert (result.code, encoded(result.out)) == (0, missing)
    assert set(states(here).values()) == {State.COMPLETE}
