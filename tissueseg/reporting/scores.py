"""From confusion counts to the numbers a run is judged by, beside those of guessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tissueseg.metrics.semantic import macro, prior_dice, semantic_scores


def side_scores(
    confusion: np.ndarray, tissues: Sequence[str], train_pixels: Sequence[int]
) -> dict[str, Any]:
    """Scores of one side of the split.

    Args:
        confusion: (n_tissues, n, n) counts [tissue, truth, prediction].
        tissues: their names.
        train_pixels: (n,) pixels of each class in the training tissues.

    Returns:
        `pooled` over all pixels, with the Dice of guessing from the training prior; and `tissues`.
    """
    pooled = confusion.sum(0)
    scores = semantic_scores(pooled)
    # Over the very classes the decoder is scored on, or one macro would average other classes.
    defined = ~np.isnan(scores.dice)
    prior = np.where(defined, prior_dice(train_pixels, pooled.sum(1)), np.nan)
    guessing = {
        "prior_dice": prior.tolist(),
        "prior_macro_dice_foreground": macro(prior, foreground=True),
    }
    each = zip(tissues, confusion, strict=True)
    return {
        "pooled": asdict(scores) | guessing,
        "tissues": {name: asdict(semantic_scores(counts)) for name, counts in each},
    }
