"""What W&B is sent of the kept decoder: tables, pictures, a summary, and what it was made of.

All of it lies in the run folder as CSV, JSON and PNG, too; W&B is only another reader.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from wandb.sdk.artifacts.artifact import Artifact
    from wandb.sdk.wandb_run import Run

    from tissueseg.store.embeddings import EmbeddingStore

_BY_CLASS = ("truth_share", "dice", "iou", "prior_dice")
_BY_TISSUE = ("macro_dice_foreground", "macro_dice", "macro_iou_foreground", "macro_iou")
_STAGING = "WANDB_DATA_DIR"


@dataclass(frozen=True)
class Outcome:
    """What a run ended with."""

    decoder: Path  # its checkpoint
    about: Mapping[str, Any]  # classes, epoch, monitor, …: the head of metrics.json
    score: float  # of the monitor, that chose the epoch
    encoder: Mapping[str, Any]  # EncoderSpec.as_dict
    scores: Mapping[str, float]  # `keyed_scores` of every side
    sides: Mapping[str, Mapping[str, Any]]  # side -> what `side_scores` returned
    confusion: Mapping[str, np.ndarray]  # side -> (tissues, n, n) [tissue, truth, prediction]
    panels: Sequence[Path]
    cost: Mapping[str, Any]  # cost.json
    features: EmbeddingStore | None  # it was trained on; None: encoded online


class Rows(NamedTuple):
    """A table; None where nothing is defined."""

    columns: list[Any]
    rows: list[Any]


def tables(outcome: Outcome) -> dict[str, Rows]:
    """The tables of every side: by class, by tissue, and what was taken for what."""
    found: dict[str, Rows] = {}
    classes = outcome.about["classes"]
    for side, scores in outcome.sides.items():
        found[f"kept/{side}/classes"] = _class_rows(classes, scores["pooled"])
        found[f"kept/{side}/tissues"] = _tissue_rows(scores["tissues"])
        found[f"kept/{side}/confusion"] = _confusion_rows(classes, outcome.confusion[side].sum(0))
    return found


def summary(outcome: Outcome) -> dict[str, Any]:
    """The kept epoch's scores under the names they had in training, and what they cost."""
    kept = {"kept/epoch": outcome.about["epoch"], "kept/monitor": outcome.about["monitor"]}
    return {**outcome.scores, **kept, **{f"cost/{k}": v for k, v in outcome.cost.items()}}


def send(run: Run, outcome: Outcome, step: int, artifacts: bool) -> None:
    """Send all that is known of the kept decoder, as one row of history, a summary and artifacts.

    Args:
        run: of W&B, which goes on.
        outcome: of the training.
        step: of the row, behind those of the epochs.
        artifacts: send the checkpoint and the fingerprint of its features, too.
    """
    import wandb

    row: dict[str, Any] = {
        key: wandb.Table(columns=columns, data=rows)
        for key, (columns, rows) in tables(outcome).items()
    }
    if outcome.panels:
        row["kept/panels"] = [wandb.Image(str(path), caption=path.stem) for path in outcome.panels]
    with _staging_in(Path(run.settings.wandb_dir)):
        run.log(row, step=step)
        run.summary.update(summary(outcome))
        for artifact in _artifacts(run.id, outcome) if artifacts else ():
            run.log_artifact(artifact)


def _artifacts(run_id: str, outcome: Outcome) -> Iterator[Artifact]:
    """The checkpoint; and of stored features their fingerprint alone, whose files stay where they are."""
    import wandb

    features = outcome.features
    model = {
        "encoder": outcome.encoder.get("name"),
        "encoder_sha256": outcome.encoder.get("sha256"),
        "features": features.fingerprint if features else "encoded online",
        "epoch": outcome.about["epoch"],
        "monitor": outcome.about["monitor"],
        "score": outcome.score if math.isfinite(outcome.score) else None,
    }
    decoder = wandb.Artifact(f"decoder-{run_id}", type="model", metadata=model)
    decoder.add_file(str(outcome.decoder), policy="immutable")  # read where it lies, not copied
    yield decoder
    if features:
        about = {
            "fingerprint": features.fingerprint,
            "place": features.path,
            "fields": dict(features.fields),
        }
        name = f"embeddings-{re.sub(r'[^A-Za-z0-9._-]', '_', features.fingerprint)[:64]}"
        yield wandb.Artifact(name, type="embeddings", metadata=about)


@contextmanager
def _staging_in(folder: Path) -> Iterator[None]:
    """Keep what waits to be sent in the run folder: `wandb sync` finds it there later.

    W&B would put it below the user's home, which on a cluster is small, or not there.
    """
    if os.environ.get(_STAGING):  # the user knows a better place
        yield
        return
    os.environ[_STAGING] = str(folder)
    try:
        yield
    finally:
        del os.environ[_STAGING]


def _class_rows(classes: Sequence[str], pooled: Mapping[str, Any]) -> Rows:
    values = zip(classes, *(pooled[key] for key in _BY_CLASS), strict=True)
    rows = [[name, *map(_defined, numbers)] for name, *numbers in values]
    return Rows(["class", "truth share", "Dice", "IoU", "guess"], rows)


def _tissue_rows(tissues: Mapping[str, Mapping[str, Any]]) -> Rows:
    rows = [
        [name, *(_defined(scores[key]) for key in _BY_TISSUE)] for name, scores in tissues.items()
    ]
    return Rows(["tissue", *_BY_TISSUE], rows)


def _confusion_rows(classes: Sequence[str], counts: np.ndarray) -> Rows:
    """Long form, in which W&B can group; the share is of the true class's pixels."""
    rows = []
    for truth, of_truth in zip(classes, counts.tolist(), strict=True):
        pixels = sum(of_truth)
        for predicted, n in zip(classes, of_truth, strict=True):
            rows.append([truth, predicted, int(n), n / pixels if pixels else None])
    return Rows(["truth", "predicted", "pixels", "share"], rows)


def _defined(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
