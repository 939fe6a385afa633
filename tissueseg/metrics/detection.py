"""Detection by centroids, and the types of what was detected: HoVer-Net's two F1 scores."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.averages import Scores, f1, mean_defined, ratio
from tissueseg.metrics.by_image import CountsByImage
from tissueseg.metrics.matching import heaviest_matching
from tissueseg.metrics.panoptic import checked_types

_Ints = NDArray[np.int64]

RADIUS_UM = 3.0
"""How far apart centroids of one nucleus may lie: 12 px at ×40, 6 at ×20 (Graham et al. 2019)."""


class Points(NamedTuple):
    """Cells of a tissue as detection sees them."""

    centroids: NDArray[np.floating]  # (n, 2) px
    types: NDArray[np.integer] | None = None  # (n,) 1 … n_types or IGNORE; None: none is known
    doubtful: NDArray[np.bool_] | None = None  # (n,) predictions on unknown ground, no false alarms


class CentroidPairs(NamedTuple):
    """Cells that are each other's, one row a pair."""

    truth: _Ints  # (k,) rows of the true cells
    predicted: _Ints  # (k,) rows of the predicted ones


class Detection(CountsByImage):
    """Which types were detected as which, for every image.

    State (n_images, n_types + 2, n_types + 2) int64 [truth, prediction]. Row and column 0 stand for
    nothing: predictions without a true cell, and true cells without a prediction. 1 … n_types are the
    types, the last row and column are cells whose type is not known.
    """

    def __init__(self, n_images: int, n_types: int = 0, **options: Any) -> None:
        super().__init__(n_images, n_types + 2, n_types + 2, **options)
        self.n_types = n_types

    def update(self, image: int, truth: Points, predicted: Points, radius_px: float) -> None:
        """Count an image.

        Args:
            image: its index.
            truth: all its cells.
            predicted: likewise.
            radius_px: see `detection_radius_px`.
        """
        self._add(image, detection_counts(truth, predicted, radius_px, self.n_types))


def detection_radius_px(mpp: float) -> float:
    """Pixels that centroids of one nucleus may be apart, at so many µm per pixel."""
    return RADIUS_UM / mpp


def paired_centroids(truth: ArrayLike, predicted: ArrayLike, radius_px: float) -> CentroidPairs:
    """Match as many centroids as can be within the radius, and of such matchings the nearest.

    Departs from HoVer-Net, which matches all centroids at the least total distance, whatever the radius,
    and then drops pairs beyond it; so a distant pair there can take a true cell from a near one.

    Args:
        truth: (n, 2) px, finite.
        predicted: (m, 2) px, finite.
        radius_px: largest distance of a pair.

    Raises:
        TissueDataError: centroids that are not finite.
    """
    trees = [KDTree(_points(name, p)) for name, p in (("true", truth), ("predicted", predicted))]
    near = trees[0].sparse_distance_matrix(trees[1], radius_px, output_type="ndarray")
    near = near[np.lexsort((near["j"], near["i"]))]
    left, right = near["i"].astype(np.int64), near["j"].astype(np.int64)
    # One pair more outweighs all that the others could come nearer.
    most = radius_px * (min(trees[0].n, trees[1].n) + 1) + 1
    chosen = heaviest_matching(left, right, most - near["v"])
    return CentroidPairs(left[chosen], right[chosen])


def detection_counts(truth: Points, predicted: Points, radius_px: float, n_types: int = 0) -> _Ints:
    """Types of true cells against types of what they were detected as; see `Detection`.

    Returns:
        (n_types + 2, n_types + 2) int64.
    """
    pairs = paired_centroids(truth.centroids, predicted.centroids, radius_px)
    true, found = (
        _slots(name, points, n_types)
        for name, points in (("truth", truth), ("predicted", predicted))
    )
    missed = np.ones(len(true), dtype=bool)
    missed[pairs.truth] = False
    false = np.ones(len(found), dtype=bool)
    if predicted.doubtful is not None:
        false &= ~predicted.doubtful
    false[pairs.predicted] = False
    n = n_types + 2
    cells = np.concatenate(
        [true[pairs.truth] * n + found[pairs.predicted], true[missed] * n, found[false]]
    )
    return np.bincount(cells, minlength=n * n).reshape(n, n)


def detection_scores(counts: ArrayLike, types: Sequence[str] = ()) -> dict[str, float]:
    """Named scores of all images; NaN where undefined.

    `detection_f1_pooled`, `detection_precision_pooled`, `detection_recall_pooled`: of counts summed over
    images; `…_image`: mean over images. `classification_f1_pooled/<type>` (`classification_f1`), and
    their mean `classification_f1_pooled`, absent without types.

    Args:
        counts: (n_images, n_types + 2, n_types + 2) as `Detection` computes.
        types: names of the types, in order of their ids from 1.
    """
    counts = np.asarray(counts)
    pooled, scores = counts.sum(axis=0), {}
    for name, score in (
        ("f1", detection_f1),
        ("precision", detection_precision),
        ("recall", detection_recall),
    ):
        scores[f"detection_{name}_pooled"] = score(pooled)
        scores[f"detection_{name}_image"] = mean_defined(score(counts))
    if types:
        values = classification_f1(pooled)
        scores["classification_f1_pooled"] = mean_defined(values)
        named = zip(types, values, strict=True)
        scores |= {f"classification_f1_pooled/{name}": value for name, value in named}
    return {name: float(value) for name, value in scores.items()}


def detection_f1(counts: ArrayLike) -> Scores:
    """2 TP / (2 TP + FP + FN) of counts (..., n, n), types ignored."""
    return f1(*_detected(counts))


def detection_precision(counts: ArrayLike) -> Scores:
    """TP / (TP + FP) of counts (..., n, n), types ignored; NaN without predictions."""
    hit, false, _ = _detected(counts)
    return ratio(hit, hit + false)


def detection_recall(counts: ArrayLike) -> Scores:
    """TP / (TP + FN) of counts (..., n, n), types ignored; NaN without true cells."""
    hit, _, missed = _detected(counts)
    return ratio(hit, hit + missed)


def classification_f1(counts: ArrayLike) -> Scores:
    """HoVer-Net's F_c: 2 TP_c / (2 TP_c + 2 FP_c + 2 FN_c + FP_d + FN_d), of each type c.

    TP_c, FP_c and FN_c count detected pairs: both c, only the prediction, only the truth. FP_d are
    predictions of c that detected nothing, FN_d cells of c that were not detected (Graham et al. 2019,
    section 4.2, weights 2, 2, 1, 1). The paper adds TN_c to TP_c; the authors' evaluation code, with
    which numbers were published, counts no TN_c, and neither do we, lest frequent types lend rare ones
    their score. Pairs whose true type is not known are left out; a prediction without a type is a FN_c.

    Args:
        counts: (n_types + 2, n_types + 2), of an image or pooled.

    Returns:
        (n_types,); NaN for a type in neither truth nor prediction.
    """
    counts = np.asarray(counts, np.float64)
    typed = slice(1, -1)
    hit = np.diagonal(counts)[typed]
    false = counts[typed, typed].sum(axis=0) - hit
    missed = counts[typed, 1:].sum(axis=1) - hit
    undetected = counts[0, typed] + counts[typed, 0]
    return ratio(2 * hit, 2 * (hit + false + missed) + undetected)


def _detected(counts: ArrayLike) -> tuple[Scores, Scores, Scores]:
    """TP, FP and FN."""
    counts = np.asarray(counts, np.float64)
    hit = counts[..., 1:, 1:].sum(axis=(-2, -1))
    return hit, counts[..., 0, 1:].sum(axis=-1), counts[..., 1:, 0].sum(axis=-1)


def _slots(name: str, points: Points, n_types: int) -> _Ints:
    """(n,) row or column of each cell."""
    types = checked_types(f"{name} types", points.types, len(points.centroids), n_types)
    return np.where(types == IGNORE, n_types + 1, types)


def _points(name: str, centroids: ArrayLike) -> Scores:
    points = np.asarray(centroids, np.float64).reshape(-1, 2)
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise TissueDataError(
            f"{name} centroid {row} is {points[row].tolist()}, wanted finite pixels; measure it anew."
        )
    return points
