"""What tests of stopped runs share: words of a run of seconds, its steps seen, two runs compared."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from stores import TINY, random_tissue, write_store

from tissueseg.modules.segmentation import SegmentationModule

STEPS = 4  # of an epoch: ten tiles, three at a time, of which the last batch has one
EPOCHS = 3
WORDS = (*TINY, "modality=he", "data.batch_size=3", f"epochs={EPOCHS}", "patience=100")


Command = Callable[..., Any]  # name, overrides -> code, out, err


class Place(NamedTuple):
    """One batch of a fit."""

    epoch: int
    batch: int
    side: str = "train"


def write_training_store(path: Path) -> Path:
    """One tissue a side; ten training tiles of 32 px, then eight and four."""
    sizes = {"a": (64, 160), "b": (64, 128), "c": (64, 64)}
    made = {
        name: random_tissue(*size, seed=seed, patient=f"p_{name}")
        for seed, (name, size) in enumerate(sizes.items())
    }
    return write_store(path, made).path


@contextmanager
def watched(
    stop_at: Mapping[Place, int] | None = None, module: type[Any] = SegmentationModule
) -> Iterator[list[Place]]:
    """Note every batch that a fit of this process takes; send it signals before some of them.

    Args:
        stop_at: places, and the signal that comes there.
        module: class of what is fitted.
    """
    seen: list[Place] = []
    stops = stop_at or {}

    def noting(side: str, step: Any) -> Any:
        def noted(self: Any, batch: Any, batch_idx: int) -> Any:
            seen.append(Place(self.current_epoch, batch_idx, side))
            if number := stops.get(seen[-1]):
                os.kill(os.getpid(), number)
            return step(self, batch, batch_idx)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for side, name in (("train", "training_step"), ("val", "validation_step")):
            patch.setattr(module, name, noting(side, getattr(module, name)))
        yield seen


def stopped_at(*places: Place) -> list[dict[Place, int]]:
    """A SIGTERM at each, one after the other."""
    return [{place: signal.SIGTERM} for place in places]


class Uninterrupted:
    """Runs that were never stopped, one for each choice of words, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[tuple[str, ...], tuple[Path, list[Place]]] = {}

    def run(self, command: Command, words: Sequence[str]) -> tuple[Path, list[Place]]:
        """The folder of the run, and the batches it took."""
        if tuple(words) not in self._made:
            folder = self.folder / str(len(self._made))
            with watched() as seen:
                result = command("train", *words, f"run_dir={folder}")
            assert result.code == 0, result.err
            self._made[tuple(words)] = folder, seen
        return self._made[tuple(words)]


def interrupted_run(
    command: Command,
    words: Sequence[str],
    folder: Path,
    stops: Sequence[dict[Place, int]],
    name: str = "train",
    module: type[Any] = SegmentationModule,
) -> list[Place]:
    """Begin, be stopped at some places, one after the other, and go on to the end; what it took."""
    taken: list[Place] = []
    begin = (*words, f"run_dir={folder}")
    for attempt, stop in enumerate([*stops, {}]):
        with watched(stop, module) as seen:
            result = command(name, *(begin if attempt == 0 else [f"resume={folder}"]))
        assert result.code == (128 + next(iter(stop.values())) if stop else 0), result.err
        if stop:
            assert f"  python -m tissueseg.{name} resume={folder}\n" in result.out
            assert not (folder / "metrics.json").exists()
        taken += seen
    return taken


def assert_same_run(one: Path, other: Path) -> None:
    """Nothing of what two runs left tells them apart, but where they are and what they took."""
    assert (one / "metrics.csv").read_bytes() == (other / "metrics.csv").read_bytes()
    left, right = (json.loads((f / "metrics.json").read_text()) for f in (one, other))
    assert left == right
    for name in ("confusion.npy", "confusion_test.npy"):
        assert np.array_equal(np.load(one / name), np.load(other / name))
    with np.load(one / "history.npz") as history, np.load(other / "history.npz") as again:
        assert history.files == again.files
        for name in history.files:
            assert np.array_equal(history[name], again[name], equal_nan=True)
    assert same_tensors(decoder_of(one), decoder_of(other))


def decoder_of(folder: Path) -> dict[str, Any]:
    """All that `decoder.ckpt` holds."""
    return torch.load(folder / "decoder.ckpt", weights_only=True)


def same_tensors(one: Any, other: Any) -> bool:
    """Whether two trees of mappings hold the same numbers, bit by bit."""
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same_tensors(one[k], other[k]) for k in one)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return one == other
