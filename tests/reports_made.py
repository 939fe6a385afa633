"""A small report made by hand, whose every number is known; names hold what HTML and Markdown read."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tissueseg.reporting.ranking import ArmResult, Comparison, Interval, Ranking
from tissueseg.reporting.records.run_record import RunRecord, Unfinished
from tissueseg.reporting.samples import Measure
from tissueseg.reporting.study.report import StudyReport

KEY = "test/dice/macro_foreground"
CLASSES = ("background", "tumor", 'b<c>&"|', "never")
COLORS = {"tumor": "#e6352b", CLASSES[2]: "#2f7de1", "never": "#00ff00"}
EVIL = '<script>alert("1")</script>&|_*'
MEASURE = Measure(KEY, "pooled over all pixels of the test tissues", lambda parts: parts[..., 0])
CONFUSION = np.array([[70, 5, 5, 0], [2, 10, 0, 0], [4, 0, 4, 0], [0, 0, 0, 0]])
"""12 % tumor of which 15 % are predicted, 8 % of the third class of which 9 % are."""


def interval(estimate: float, half: float = 0.05, covers: str = "tissues and seeds") -> Interval:
    return Interval(estimate, estimate - half, estimate + half, half / 2, 4.0, covers)


def result(arm: str, estimate: float, letters: str = "a") -> ArmResult:
    seeds = (estimate - 0.01, estimate + 0.01)
    return ArmResult(arm, interval(estimate), seeds, (0, 1), 4, letters)


def comparison(arm: str, other: str, difference: float, p: float = 0.125) -> Comparison:
    return Comparison(
        arm=arm,
        other=other,
        difference=interval(difference, 0.02),
        p_units=p,
        p_runs=p / 2,
        p=p,
        p_holm=min(1.0, 2 * p),
        p_smallest=0.125,
        effect=1.5,
        wins=0.75,
        units=4,
        seeds=2,
        p_both=p / 4,
    )


def ranking(estimates: dict[str, float], baseline: str) -> Ranking:
    """Arms by their scores, with every pair."""
    names = sorted(estimates, key=lambda arm: -estimates[arm])
    pairs = [
        comparison(a, b, estimates[a] - estimates[b])
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]
    against = [
        comparison(arm, baseline, estimates[arm] - estimates[baseline])
        for arm in names
        if arm != baseline
    ]
    return Ranking(
        measure=MEASURE,
        arms=tuple(result(arm, estimates[arm]) for arm in names),
        baseline=baseline,
        against_baseline=tuple(against),
        pairs=tuple(pairs),
        groups=(tuple(names),),
        level=0.95,
        alpha=0.05,
        notes=("seed 7 lacks a fold",),
    )


def run(folder: Path, arm: str, fold: str, seed: int, score: float, epochs: int = 4) -> RunRecord:
    """A finished run, tested on two tissues of its fold; its panels are drawn into `folder`."""
    tissues = {f"t{fold}a": score - 0.1, f"t{fold}b": score + 0.1}
    return RunRecord(
        folder=folder,
        place=f"{arm}/{fold}/{seed}",
        study="made",
        arm=arm,
        fold=fold,
        seed=seed,
        config={},
        environment=environment(),
        metrics={
            "run": arm,
            "encoder": "tiny_random_init",
            "epoch": 2,
            "monitor": "val/dice/macro_foreground",
            "classes": list(CLASSES),
            "test": side(score, tissues),
        },
        evaluations={},
        history={
            "epoch": np.arange(epochs, dtype=float),
            "train/loss": np.linspace(2, 1, epochs) + 0.5 * seed,
            "val/loss": np.linspace(2, 1.2, epochs) + 0.01 * seed,
            "val/dice/macro_foreground": np.r_[math.nan, np.linspace(0.1, score, epochs - 1)],
        },
        confusion={"test": np.stack([CONFUSION, CONFUSION])},
        cost={
            "parameters": 123_456,
            "trained_parameters": 123_000,
            "steps": 40,
            "step_s": 0.012 + 0.002 * seed,
            "fit_s": 90.0,
            "peak_bytes": 1_500_000_000,
            "peak_of": "process",
            "devices": 1,
            "gpu_hours": 0.0,
        },
        panels={tissue: panel(folder, f"{seed}{tissue}") for tissue in tissues},
    )


def side(score: float, tissues: dict[str, float]) -> dict[str, Any]:
    """What `metrics.json` says of a side."""

    def of(value: float) -> dict[str, Any]:
        return {"dice": [0.9, value, value, None], "macro_dice_foreground": value}

    return {
        "pooled": of(score) | {"prior_macro_dice_foreground": 0.031},
        "tissues": {name: of(value) for name, value in tissues.items()},
        "calibration": {
            "low": [0.0, 0.5],
            "high": [0.5, 1.0],
            "pixels": [0, 100],
            "confidence": [None, 0.8],
            "accuracy": [None, 0.7],
            "ece": 0.1,
            "brier": 0.42,
        },
    }


def environment() -> dict[str, Any]:
    return {
        "tissueseg": "0.1.0",
        "commit": "560a201ca252-dirty",
        "command": ["train", "+study=made", f"name={EVIL}"],
        "python": "3.11.7",
        "packages": {"torch": "2.13.0", "wandb": None},
        "machine": {"system": "Linux-made", "gpus": ["NVIDIA H200"]},
        "fingerprint": "f1f2f3f4f5f6f7f8",
        "encoder": {
            "name": "pair",
            "random_init": True,
            "sha256": "6345cc75d141aab3",
            "parts": [
                {"name": "cellvit", "random_init": False},
                {"name": "virtues", "random_init": True},
            ],
        },
    }


def panel(folder: Path, name: str, height: int = 30, width: int = 60) -> Path:
    path = folder / f"{name}.png"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    return path


def report(folder: Path, arms: int = 3, seeds: int = 2) -> StudyReport:
    """Arms on two folds; the first, whose name is hostile, is the baseline and the worst."""
    names = [EVIL, *(f"arm {i} of a study with a rather long name" for i in range(1, arms))]
    estimates = {name: 0.5 + 0.03 * i for i, name in enumerate(names)}
    ranked = ranking(estimates, EVIL)
    runs = [
        run(folder, name, fold, seed, estimates[name] + 0.01 * seed)
        for name in names
        for fold in ("0", "1")
        for seed in range(seeds)
    ]
    none = replace(result("", math.nan), interval=interval(math.nan), by_seed=(math.nan, math.nan))
    by_class = {
        "tumor": list(ranked.arms),
        CLASSES[2]: list(ranked.arms),
        "never": [replace(none, arm=r.arm) for r in ranked.arms],
    }
    return StudyReport(
        title=f"decoders & {EVIL}",
        question="Which decoder is best?",
        conclusion="No decoder can be told apart from <the baseline>.",
        ranking=ranked,
        by_class=by_class,
        colors=COLORS,
        runs=runs,
        unfinished=[Unfinished("slots/0/1", "CUDA out of memory")],
        notes=["two commits"],
        command="tissueseg report runs=made baseline='a|b'",
    )
