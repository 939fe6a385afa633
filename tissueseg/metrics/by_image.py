"""Counts of every image, which is all the state that the metrics of instances have.

Sums are the same however images are cut into windows and windows are spread over processes, and what
each image contributed is still known when intervals are wanted.
"""

from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torchmetrics import Metric

from tissueseg.errors import TissueDataError


class CountsByImage(Metric):
    """Counts of one shape for each image, added up.

    Args:
        n_images: images `update` may name.
        shape: of the counts of an image.
        dtype: float64 where sums of scores are among them.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None
    counts: Tensor

    def __init__(
        self, n_images: int, *shape: int, dtype: torch.dtype = torch.int64, **options: Any
    ) -> None:
        super().__init__(**options)
        self.add_state("counts", torch.zeros(n_images, *shape, dtype=dtype), dist_reduce_fx="sum")

    def update(self, image: int, counts: ArrayLike) -> None:
        """Add the counts of an image, or of a window of it.

        Args:
            image: its index.
            counts: of the shape that was said.

        Raises:
            TissueDataError: an image that was not announced, or counts of another shape.
        """
        self._add(image, counts)

    def compute(self) -> Tensor:
        """(n_images, *shape): what was counted, for the functions that make scores of it."""
        return self.counts.clone()

    def _add(self, image: int, counts: ArrayLike) -> None:
        if not 0 <= image < len(self.counts):
            raise TissueDataError(
                f"image={image}, wanted 0 to {len(self.counts) - 1}; announce all images at first."
            )
        added = torch.as_tensor(counts, dtype=self.counts.dtype, device=self.counts.device)
        if added.shape != self.counts.shape[1:]:
            raise TissueDataError(
                f"counts of shape {tuple(added.shape)} for image {image}, wanted "
                f"{tuple(self.counts.shape[1:])}; count with as many types and bins as announced."
            )
        self.counts[image] += added
