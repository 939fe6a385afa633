"""The aggregated Jaccard index, as published and one to one."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tissueseg.metrics.averages import mean_defined, ratio
from tissueseg.metrics.by_image import CountsByImage
from tissueseg.metrics.contingency import Contingency
from tissueseg.metrics.matching import heaviest_matching

_Ints = NDArray[np.int64]


class AggregatedJaccard(CountsByImage):
    """Intersection and union of every image, for AJI and for AJI+.

    State (n_images, 4) int64: pixels of intersection and union of AJI, then of AJI+. An image is
    counted by one update: a tissue seen in windows has its tables joined first.
    """

    def __init__(self, n_images: int, **options: Any) -> None:
        super().__init__(n_images, 4, **options)

    def update(self, image: int, table: Contingency) -> None:
        """Count an image.

        Args:
            image: its index.
            table: of the whole image.
        """
        self._add(image, jaccard_counts(table))


def jaccard_counts(table: Contingency) -> _Ints:
    """Intersection and union, px, of AJI and of AJI+.

    AJI (Kumar et al. 2017, algorithm 1): each true nucleus takes the prediction of largest IoU, which
    another may take too; nuclei without one and predictions nobody took add their area to the union.
    AJI+ (Graham et al. 2019, HoVer-Net): the same with a one-to-one matching of the largest sum of IoU.
    For AJI, of equally good predictions the lower id is taken; for AJI+, any of equally good matchings.
    Predictions mostly on unknown ground that nobody took are left out.

    Returns:
        (4,) int64.
    """
    one_to_one = heaviest_matching(table.pair_truth, table.pair_predicted, table.pair_iou)
    return np.concatenate([_sums(table, _largest(table)), _sums(table, one_to_one)])


def jaccard_scores(counts: ArrayLike) -> dict[str, float]:
    """AJI and AJI+, mean over images (`aji_image`, `aji_plus_image`) and pooled (`aji_pooled` …).

    Images without a nucleus in truth and prediction are left out; one with false alarms alone scores 0.

    Args:
        counts: (n_images, 4) as `AggregatedJaccard` computes.
    """
    counts = np.asarray(counts)
    scores = {}
    for name, (part, whole) in {"aji": (0, 1), "aji_plus": (2, 3)}.items():
        scores[f"{name}_image"] = mean_defined(ratio(counts[:, part], counts[:, whole]))
        scores[f"{name}_pooled"] = ratio(counts[:, part].sum(), counts[:, whole].sum())
    return {name: float(value) for name, value in scores.items()}


def _largest(table: Contingency) -> _Ints:
    """The pair of largest IoU of each true nucleus that has any."""
    if not table.pair_px.size:
        return np.zeros(0, np.int64)
    first = np.flatnonzero(np.diff(table.pair_truth, prepend=-1))
    best = np.maximum.reduceat(table.pair_iou, first)
    n_pairs = np.diff(first, append=len(table.pair_truth))
    top = np.flatnonzero(table.pair_iou == np.repeat(best, n_pairs))
    return top[np.diff(table.pair_truth[top], prepend=-1) > 0]


def _sums(table: Contingency, pairs: _Ints) -> _Ints:
    """(2,) intersection and union, given the pairs that belong together."""
    alone = np.ones(len(table.truth_ids), dtype=bool)
    alone[table.pair_truth[pairs]] = False
    unused = ~table.doubtful
    unused[table.pair_predicted[pairs]] = False
    rest = table.truth_px[alone].sum() + table.predicted_px[unused].sum()
    return np.array([table.pair_px[pairs].sum(), table.pair_union_px[pairs].sum() + rest])
