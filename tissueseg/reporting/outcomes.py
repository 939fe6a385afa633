"""What a finished training came to, gathered from its folder for those who are told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tissueseg.modules.checkpoint import DecoderCheckpoint
from tissueseg.modules.tracked_tables import Outcome
from tissueseg.reporting import runs
from tissueseg.reporting.scores import keyed_scores
from tissueseg.store.embeddings import EmbeddingStore


def outcome_of(
    folder: Path,
    checkpoint: DecoderCheckpoint,
    about: Mapping[str, Any],
    sides: Mapping[str, Mapping[str, Any]],
    features: EmbeddingStore | None,
) -> Outcome:
    """Gather what a run left.

    Args:
        folder: of the run, where all but its scores is read.
        checkpoint: of the kept decoder.
        about: the head of `metrics.json`.
        sides: side -> what `side_scores` returned.
        features: that it was trained on; None: encoded online.
    """
    classes, cost = about["classes"], folder / runs.COST
    scores: dict[str, float] = {}
    for side, found in sides.items():
        scores |= keyed_scores(side, classes, found)
    return Outcome(
        decoder=folder / runs.DECODER,
        about=about,
        score=checkpoint.score,
        encoder=checkpoint.encoder,
        scores=scores,
        sides=sides,
        confusion={side: np.load(folder / runs.CONFUSION[side]) for side in sides},
        panels=sorted((folder / runs.PANELS).glob("*.png")),
        cost=json.loads(cost.read_text()) if cost.is_file() else {},
        features=features,
    )
