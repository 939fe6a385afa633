"""The study's Dice, kept only so that its table can be compared with: it depends on the batch size."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError


class DiceStudy(Metric):
    """Mean over batches of the mean Dice over classes, background in, absent classes scored 1.0.

    Averages of batches belong to no image. A class in few batches scores near 1 whatever is predicted,
    and smaller batches score higher (REFERENCE §1, fault 5): use `semantic_scores` for anything else.

    Args:
        n_classes: background included.
        batch_size: tiles per batch, which is part of the score's name; the last may be smaller.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    total: Tensor
    batches: Tensor

    def __init__(self, n_classes: int, batch_size: int, **options: Any) -> None:
        super().__init__(**options)
        self.n_classes, self.batch_size = n_classes, batch_size
        zeros = torch.zeros(n_classes, dtype=torch.float64)
        self.add_state("total", zeros, dist_reduce_fx="sum")
        self.add_state("batches", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def name(self) -> str:
        """Under which the score is logged, such as `dice_study_batch16`."""
        return f"dice_study_batch{self.batch_size}"

    def update(self, predicted: Tensor, classes: Tensor) -> None:
        """Score a batch.

        Args:
            predicted: (B, H, W) class ids.
            classes: (B, H, W) true class ids or IGNORE, which is left out.

        Raises:
            TissueDataError: more tiles than the name says.
        """
        if len(classes) > self.batch_size:
            raise TissueDataError(
                f"a batch of {len(classes)} for {self.name}, wanted at most {self.batch_size}; say "
                "the batch size that is used."
            )
        known = classes != IGNORE
        ids = torch.arange(self.n_classes, device=classes.device)[:, None]
        truth, found = classes[known] == ids, predicted[known] == ids
        both, sizes = (truth & found).sum(1), truth.sum(1) + found.sum(1)
        self.total += torch.where(sizes > 0, 2 * both.double() / sizes.clamp(min=1), 1.0)
        self.batches += 1

    def compute(self) -> Tensor:
        """(n_classes,) float64 mean over batches of each class; their mean is the study's score."""
        return self.total / self.batches

    def scores(self) -> dict[str, float]:
        """The score under its name; NaN before the first batch."""
        return {self.name: float(self.compute().mean())}
