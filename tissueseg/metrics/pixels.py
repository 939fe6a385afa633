"""What each pixel was taken for and what it is, whichever head says so."""

from typing import NamedTuple

import torch
from torch import Tensor

from tissueseg.contracts import IGNORE, Batch, Outputs


class PixelIds(NamedTuple):
    """Ids into `contracts.scored_classes`; each (B, H, W) int64."""

    predicted: Tensor
    truth: Tensor  # IGNORE where it is not known


def pixel_ids(outputs: Outputs, batch: Batch) -> PixelIds:
    """Compare by classes, else by foreground.

    Args:
        outputs: with `classes` (B, C, H, W) or `foreground` (B, 1, H, W).
        batch: with the truth.
    """
    if "classes" in outputs:
        return PixelIds(predicted_ids(outputs), batch.classes)
    nucleus = (batch.labels > 0).long()
    return PixelIds(predicted_ids(outputs), nucleus.where(batch.valid, IGNORE))


def predicted_ids(outputs: Outputs) -> Tensor:
    """(B, H, W) int64: the most likely class, else 1 where a nucleus is at least as likely as not."""
    if "classes" in outputs:
        return outputs["classes"].argmax(1)
    return (outputs["foreground"][:, 0] >= 0).to(torch.int64)
