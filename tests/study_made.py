"""Studies as sweeps leave them, written without training, with effects that are known.

A run's confusion is that of a decoder that hits a share of the pixels of every class. The share is a
base, plus the arm's effect, plus what the tissue and the training (arm, fold, seed) add.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from runs_made import CLASSES, write_run

from tissueseg.reporting import runs

__all__ = ["CLASSES", "made_confusion", "write_job", "write_run", "write_study"]

SHARES = (0.7, 0.2, 0.099, 0.001)
PIXELS = 200_000  # of a tissue


def made_confusion(
    hit: float, shares: Sequence[float] = SHARES, pixels: int = PIXELS
) -> np.ndarray:
    """(n, n) int64 [truth, prediction]: a share of each class is hit, the rest called the next class."""
    truth = np.round(np.asarray(shares) * pixels).astype(np.int64)
    right = np.round(truth * np.clip(hit, 0, 1)).astype(np.int64)
    return np.diag(right) + np.roll(np.diag(truth - right), 1, axis=1)


def write_study(
    root: Path,
    arms: Mapping[str, float],
    folds: Sequence[int] = (1, 2),
    seeds: Sequence[int] = (0, 1, 2),
    *,
    study: str = "decoders",
    tissues: int = 3,
    base: float = 0.7,
    tissue_sd: float = 0.05,
    run_sd: float = 0.01,
    cells: bool = False,
    draw: int = 0,
    **options: Any,
) -> Path:
    """Write a study's folder: a run of every arm, fold and seed, and the records of its sweep.

    Args:
        root: of the study.
        arms: name -> what it adds to the share of pixels that are hit.
        folds: of every arm; each has `val` and `test` tissues of its own.
        seeds: of every fold.
        study: its name.
        tissues: of each side of a fold.
        base: share that is hit without any effect.
        tissue_sd: standard deviation of what tissues add, alike for all arms.
        run_sd: of what trainings add.
        cells: also write what `evaluate` leaves.
        draw: seed of what is random.
        options: of `write_run`, for every run.
    """
    listed = {arm: [f"decoder={arm}"] for arm in arms}
    about = {"name": study, "question": "Which is best?", "arms": listed, "baseline": None}
    config = dict(options.pop("config", None) or {})
    for (a, (arm, effect)), fold, seed in product(enumerate(arms.items()), folds, seeds):
        of_run = np.random.default_rng((draw, a, fold, seed)).normal(0, run_sd)
        sides = _sides(fold, tissues)
        confusions = {
            side: np.stack(
                [made_confusion(base + effect + of_run + _of(t, tissue_sd, draw)) for t in names]
            )
            for side, names in sides.items()
        }
        run = {"study": study, "arm": arm, "fold": fold, "seed": seed, "cells": cells}
        run["config"] = {"study": about | {"arm": arm}} | config
        label = f"fold_{fold}-seed_{seed}"
        write_run(root / arm / label, tissues=sides, confusions=confusions, **run, **options)
        write_job(root, study=study, arm=arm, label=label)
    return root


def _sides(fold: int, tissues: int) -> dict[str, list[str]]:
    starts = {"val": 500 + fold * tissues, "test": fold * tissues}
    return {
        side: [f"tissue_{i:03d}" for i in range(start, start + tissues)]
        for side, start in starts.items()
    }


def write_job(
    root: Path,
    *,
    arm: str,
    label: str,
    study: str = "decoders",
    state: str = "finished",
    **said: Any,
) -> None:
    """Write what a sweep notes of a run."""
    (root / "jobs").mkdir(parents=True, exist_ok=True)
    folder = f"/elsewhere/{root.name}/{arm}/{label}"
    about = {"study": study, "arm": arm, "label": label, "folder": folder, "state": state}
    record = about | {"code": 0, "line": None} | said
    runs.write_json(root / "jobs" / f"{arm}.{label}.json", record)


def _of(name: str, sd: float, draw: int) -> float:
    return float(np.random.default_rng((draw, int(name[-3:]))).normal(0, sd))
