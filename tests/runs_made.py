"""Run folders as trainings leave them, written without training."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from tissueseg.reporting import runs
from tissueseg.reporting.scores import run_metrics, side_scores

CLASSES = ("background", "tumor", "stroma", "b_cell")
COLORS = ("#000000", "#e6352b", "#9c8a6b", "#ff6ec7")
TRAIN_PIXELS = [700_000, 200_000, 99_000, 1_000]

Sides = Mapping[str, Sequence[str]]


def made_config(
    *, study: str | None, arm: str, fold: int | None, seed: int, epochs: int = 4
) -> dict[str, Any]:
    """A configuration as `config.yaml` holds it, shortened."""
    weights = [1.0, 3.5 + (fold or 0), 7.0, 20.0]  # of the fold's training tissues
    config: dict[str, Any] = {
        "modality": "he_sp",
        "encoder": {"_target_": "tissueseg.encoders.tiny.TinyEncoder", "seed": 0},
        "decoder": {"_target_": "tissueseg.decoders.skip.SkipDecoder", "width": 0.125},
        "loss": {"terms": {"ce": {"weight": 0.4, "loss": {"class_weights": weights}}}},
        "split": {"_target_": "tissueseg.data.split_rules.KFold", "folds": 4, "fold": fold},
        "optim": {"optimizer": {"lr": 0.003, "weight_decay": 0.01}},
        "trainer": {"accelerator": "cpu", "devices": 1, "precision": "32-true"},
        "logger": {"wandb": None},
        "name": arm,
        "run_dir": f"/elsewhere/{arm}/fold_{fold}-seed_{seed}",
        "seed": seed,
        "epochs": epochs,
        "store": {"path": None, "demo": {"tissues": 16, "size_px": 256}},
        "data": {"tile_px": 128, "batch_size": 4, "num_workers": 0, "prefetch": 2},
        "embeddings": {"path": None, "check": "strict"},
        "class_weights": weights,
        "monitor": "val/dice/macro_foreground",
    }
    config["split"]["name"] = f"kfold_4_fold_{fold}"
    if fold is None:
        config["split"] = {
            "_target_": "tissueseg.data.split_rules.Sequential",
            "name": "sequential",
        }
    if study:
        config["study"] = {
            "name": study,
            "question": "Which is best?",
            "arm": arm,
            "baseline": None,
        }
    return config


def made_environment(tissues: Sides, arm: str) -> dict[str, Any]:
    """What `environment.json` holds; every tissue is its own patient."""
    each = [tissue for names in tissues.values() for tissue in names]
    classes = zip(CLASSES, COLORS, strict=True)
    return {
        "tissueseg": "0.1.0",
        "commit": "0123456789ab",
        "command": ["tissueseg/train.py", f"decoder={arm}"],
        "python": "3.11.7",
        "packages": {"torch": "2.13.0", "numpy": "2.4.6"},
        "machine": {"system": "Linux", "cpus": 2, "torch_threads": 1, "gpus": []},
        "encoder": {"name": "tiny", "random_init": True, "sha256": "6345cc75" * 8, "parts": []},
        "weights": ["encoder tiny_random_init: 215,872 parameters"],
        "features": "encoded online",
        "data": {
            "modality": "he_sp",
            "classes": [{"id": i, "name": n, "color": c} for i, (n, c) in enumerate(classes)],
        },
        "split": {side: list(names) for side, names in tissues.items()},
        "store": "/elsewhere/demo-0123.zarr",
        "patients": dict.fromkeys(each),
        "digests": {tissue: f"digest of {tissue}" for tissue in each},
        "fingerprint": "ab" * 32,
    }


def made_calibration(confusion: np.ndarray) -> dict[str, Any]:
    """Of pixels, 15 bins: all confidences are alike, and somewhat too high."""
    pixels, accuracy = int(confusion.sum()), float(np.trace(confusion) / confusion.sum())
    confidence, edges = min(accuracy + 0.05, 1.0), np.linspace(0, 1, 16)
    place = int(np.ceil(confidence * 15)) - 1
    bins: dict[str, list[Any]] = {"low": edges[:-1].tolist(), "high": edges[1:].tolist()}
    bins["pixels"] = [pixels if i == place else 0 for i in range(15)]
    bins["confidence"] = [confidence if i == place else None for i in range(15)]
    bins["accuracy"] = [accuracy if i == place else None for i in range(15)]
    return {**bins, "ece": confidence - accuracy, "brier": 2 * (1 - accuracy)}


def made_cells(tissues: Sequence[str], hits: Sequence[float]) -> dict[str, Any]:
    """Scores of cells as `evaluate` writes them, some; the last type is nowhere."""
    types = CLASSES[1:]

    def scores(hit: float) -> dict[str, float | None]:
        found: dict[str, float | None] = {"bpq_plus": hit, "bpq_image": hit, "mpq_image": hit - 0.1}
        found |= {f"pq_plus/{name}": hit - 0.1 for name in types[:-1]}
        found |= {f"pq_plus/{types[-1]}": None, "aji_image": hit, "aji_pooled": hit}
        return found | {"hv_mse_image": (1 - hit) / 5, "ece_pooled": 0.03, "brier_pooled": 0.3}

    mean = float(np.mean(hits))
    names = ["nothing", *types, "unknown"]
    bins = made_calibration(np.diag([1_400, 500]) + np.fliplr(np.diag([50, 50])))
    rows = {
        ("cells" if key == "pixels" else key): v for key, v in bins.items() if key[0] not in "eb"
    }
    return {
        "instances": "hv",
        "scores": scores(mean) | {"bpq_tissue": mean, "mpq_tissue": mean - 0.1},
        "tissues": {name: scores(hit) for name, hit in zip(tissues, hits, strict=True)},
        "groups": dict(zip(tissues, tissues, strict=True)),
        "type_names": names,
        "types": np.eye(len(names), dtype=int).tolist(),
        "reliability": rows,
    }


def write_run(
    folder: Path,
    *,
    tissues: Sides,
    confusions: Mapping[str, np.ndarray],
    study: str | None = "decoders",
    arm: str = "baseline",
    fold: int | None = 1,
    seed: int = 0,
    epoch: int = 2,
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    classes: Sequence[str] = CLASSES,
    cells: bool = False,
    finished: bool = True,
) -> Path:
    """Write everything a run leaves but its decoder.

    Args:
        folder: to be made.
        tissues: side -> names.
        confusions: side -> (tissues, n, n) counts, of `val`, `test` or both.
        study: None: a run of no study.
        arm: of the study; also the configured name.
        fold: None: of a split without folds.
        seed: of the run.
        epoch: that was kept.
        config: replaces what lies at its top-level keys.
        environment: likewise.
        classes: names, by id.
        cells: also write what `evaluate side=…` leaves, of every side.
        finished: False: without scores, as a run that was killed.
    """
    folder.mkdir(parents=True)
    made = made_config(study=study, arm=arm, fold=fold, seed=seed) | dict(config or {})
    (folder / runs.CONFIG).write_text(yaml.safe_dump(made, sort_keys=False), encoding="utf-8")
    about_environment = made_environment(tissues, arm) | dict(environment or {})
    runs.write_json(folder / runs.ENVIRONMENT, about_environment)
    _write_history(folder, epochs=made["epochs"], seed=seed, classes=classes)
    if not finished:
        return folder
    about = {
        "run": f"{made['name']}-he_sp-tiny_random_init",
        "encoder": "tiny_random_init",
        "modality": "he_sp",
        "epoch": epoch,
        "monitor": "val/dice/macro_foreground",
        "classes": list(classes),
    }
    sides = {}
    for side, counts in confusions.items():
        runs.save_confusion(folder, side, counts)
        sides[side] = side_scores(counts, tissues[side], TRAIN_PIXELS[: len(classes)])
        sides[side]["study"] = {"dice_study_batch4": sides[side]["pooled"]["macro_dice"] + 0.05}
        sides[side]["calibration"] = made_calibration(counts.sum(0))
        if cells:
            _write_evaluation(folder, side, about, counts, sides[side])
        _write_panels(folder, tissues[side], seed)
    runs.write_json(folder / runs.METRICS, run_metrics(about, sides))
    _write_cost(folder, epochs=made["epochs"])
    return folder


def _write_history(folder: Path, epochs: int, seed: int, classes: Sequence[str]) -> None:
    steps = np.arange(epochs, dtype=np.float64)
    curves = {"epoch": steps, "lr": np.full(epochs, 3e-3)}
    curves["train/loss"] = 1 / (1 + steps) + 0.01 * seed
    curves["val/loss"] = 1.1 / (1 + steps) + 0.01 * seed
    curves["val/dice/macro_foreground"] = 0.7 - 0.5 / (1 + steps) + 0.01 * seed
    curves |= {f"val/dice/{name}": 0.6 - 0.5 / (1 + steps) for name in classes}
    np.savez(folder / "history.npz", **curves)
    with (folder / "metrics.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(curves)
        table.writerows(zip(*(values.tolist() for values in curves.values()), strict=True))


def _write_evaluation(
    folder: Path, side: str, about: Mapping[str, Any], counts: np.ndarray, scores: dict[str, Any]
) -> None:
    out = folder / "evaluation" / side
    out.mkdir(parents=True)
    hits = [float(np.trace(c) / c.sum()) for c in counts]
    found = scores | {"cells": made_cells(tuple(scores["tissues"]), hits)}
    runs.save_confusion(out, "val", counts)
    runs.write_json(out / runs.METRICS, run_metrics(about, {side: found}))


def _write_panels(folder: Path, tissues: Sequence[str], seed: int) -> None:
    (folder / runs.PANELS).mkdir(exist_ok=True)
    for i, name in enumerate(tissues):
        picture = np.full((16, 64, 3), (40 * seed % 256, 60 * i % 256, 120), np.uint8)
        Image.fromarray(picture).save(folder / runs.PANELS / f"{name}.png")


def _write_cost(folder: Path, epochs: int) -> None:
    cost = {
        "parameters": 812_345,
        "trained_parameters": 812_345,
        "steps": 40 * epochs,
        "step_s": 0.021,
        "step_of": "step",
        "fit_s": 0.9 * epochs,
        "peak_bytes": 734_003_200,
        "peak_of": "process",
        "devices": 1,
        "gpu_hours": 0.0,
    }
    runs.write_json(folder / runs.COST, cost)
