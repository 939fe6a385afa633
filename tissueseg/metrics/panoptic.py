"""Panoptic quality of instances, with every averaging under a name of its own.

One run of a network is .6656 averaged over images and .6793 averaged over organs; and the published
averages skip images without nuclei, so that false alarms there cost nothing. Hence the pooled `_plus`
scores beside them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.metrics.averages import Scores, mean_defined, mean_of_groups, ratio
from tissueseg.metrics.by_image import CountsByImage
from tissueseg.metrics.contingency import Contingency

_Types = NDArray[np.integer]


class PanopticQuality(CountsByImage):
    """Matched, false and missed instances of every image and type.

    State (n_images, 1 + n_types, 4) float64: TP, FP, FN and the sum of IoU of TP; type 0 stands for
    instances whatever their type. An instance is counted by its image's one update: a tissue seen in
    windows has its tables joined first.

    Args:
        n_images: images `update` may name.
        n_types: types have ids 1 … n_types, as in the class image.
    """

    def __init__(self, n_images: int, n_types: int = 0, **options: Any) -> None:
        super().__init__(n_images, 1 + n_types, 4, dtype=torch.float64, **options)
        self.n_types = n_types

    def update(
        self,
        image: int,
        table: Contingency,
        truth_types: _Types | None = None,
        predicted_types: _Types | None = None,
    ) -> None:
        """Count an image.

        Args:
            image: its index.
            table: of the whole image.
            truth_types: (n,) of `table.truth_ids`, 1 … n_types or IGNORE; None: not known.
            predicted_types: (m,) of `table.predicted_ids`, likewise.

        Raises:
            TissueDataError: types that do not fit.
        """
        self._add(image, panoptic_counts(table, self.n_types, truth_types, predicted_types))


def panoptic_counts(
    table: Contingency,
    n_types: int = 0,
    truth_types: _Types | None = None,
    predicted_types: _Types | None = None,
) -> Scores:
    """TP, FP, FN and sum of IoU, types ignored and of each type.

    Instances match at IoU > .5. Of a type only instances of that type are compared, as PanNuke does: a
    nucleus found with the wrong type is a false alarm of one type and missed of the other. A nucleus
    whose type is not known counts where types are ignored, and in no type; so does a prediction without
    a type, and a prediction that matches a nucleus of unknown type is no false alarm of its own type.

    Returns:
        (1 + n_types, 4) float64.
    """
    n, m = len(table.truth_ids), len(table.predicted_ids)
    true = checked_types("truth_types", truth_types, n, n_types)
    predicted = checked_types("predicted_types", predicted_types, m, n_types)
    whatever = _count(table, np.zeros(n, np.int64), np.zeros(m, np.int64), 1)
    return np.concatenate([whatever, _count(table, true, predicted, 1 + n_types)[1:]])


def checked_types(name: str, types: _Types | None, n: int, n_types: int) -> NDArray[np.int64]:
    """(n,) types, all IGNORE if there are none.

    Raises:
        TissueDataError: another number of them, or ids that are neither 1 … n_types nor IGNORE.
    """
    if types is None:
        return np.full(n, IGNORE, np.int64)
    types = np.asarray(types)
    ids = np.unique(types[types != IGNORE])
    if len(types) != n or (ids.size and not 1 <= ids[0] <= ids[-1] <= n_types):
        raise TissueDataError(
            f"{name} has {len(types)} values with ids {ids[:9].tolist()}, wanted {n} from 1 to "
            f"{n_types} or {IGNORE} (unknown); look them up with types_of."
        )
    return types.astype(np.int64)


def pq(counts: ArrayLike) -> Scores:
    """Σ IoU / (TP + FP/2 + FN/2) of counts (..., 4) (Kirillov et al. 2019, eq. 1); NaN of nothing."""
    tp, fp, fn, iou = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return ratio(iou, tp + fp / 2 + fn / 2)


def dq(counts: ArrayLike) -> Scores:
    """TP / (TP + FP/2 + FN/2) of counts (..., 4): detection's part of PQ, an F1; NaN of nothing."""
    tp, fp, fn, _ = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return ratio(tp, tp + fp / 2 + fn / 2)


def sq(counts: ArrayLike) -> Scores:
    """Mean IoU of TP, of counts (..., 4): segmentation's part of PQ; NaN without TP."""
    tp, _, _, iou = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    return ratio(iou, tp)


def published_pq(counts: ArrayLike) -> Scores:
    """PQ of counts (..., 4), NaN where the truth has nothing, even if something was predicted.

    So PanNuke's and CellViT's evaluation skip such images, and such types of an image.
    """
    counts = np.asarray(counts, np.float64)
    return np.where(counts[..., 0] + counts[..., 2] > 0, pq(counts), np.nan)


def panoptic_scores(
    counts: ArrayLike, types: Sequence[str] = (), groups: Sequence[str] | None = None
) -> dict[str, float]:
    """Named scores of all images; NaN where undefined.

    `bpq_image`, `mpq_image`: as published (`published_pq`), mean over types, then over images.
    `bpq_tissue`, `mpq_tissue`: as published, then over groups of images (with `groups` only).
    `bpq_plus`, `mpq_plus`, `pq_plus/<type>` and the parts `dq_plus`, `sq_plus`, `dq_plus/<type>` …:
    of counts pooled over all images (mPQ+, Graham et al. 2024, CoNIC); only a type in neither truth nor
    prediction is left out. `mpq_…` are absent without types.

    Args:
        counts: (n_images, 1 + n_types, 4) as `PanopticQuality` computes.
        types: names of the types, in order of their ids from 1.
        groups: name of each image's group.
    """
    counts = np.asarray(counts, np.float64)
    by_type = published_pq(counts)
    images = {"bpq": by_type[:, 0]}
    pooled = counts.sum(axis=0)
    scores = {"bpq_plus": pq(pooled[0]), "dq_plus": dq(pooled[0]), "sq_plus": sq(pooled[0])}
    if types:
        images["mpq"] = mean_defined(by_type[:, 1:], axis=1)
        scores["mpq_plus"] = mean_defined(pq(pooled[1:]))
    for name, values in images.items():
        scores[f"{name}_image"] = mean_defined(values)
        if groups is not None:
            scores[f"{name}_tissue"] = mean_of_groups(values, groups)
    for name, part in (("pq_plus", pq), ("dq_plus", dq), ("sq_plus", sq)):
        values = part(pooled[1:])
        scores |= {f"{name}/{kind}": v for kind, v in zip(types, values, strict=True)}
    return {name: float(value) for name, value in scores.items()}


def _count(table: Contingency, true: _Types, predicted: _Types, n: int) -> Scores:
    """(n, 4) of instances of each type below n."""
    found = table.matches
    true_type, predicted_type = true[found.truth], predicted[found.predicted]
    alike = true_type == predicted_type
    blamed = ~table.doubtful
    blamed[found.predicted[alike | (true_type == IGNORE)]] = False
    tp = _tally(true_type[alike], n)
    false, all_true = _tally(predicted[blamed], n), _tally(true, n)
    return np.stack([tp, false, all_true - tp, _tally(true_type[alike], n, found.iou[alike])], 1)


def _tally(types: _Types, n: int, weights: Scores | None = None) -> Scores:
    """(n,) float64: how many there are of each type, or what they weigh."""
    typed = types != IGNORE
    weights = None if weights is None else weights[typed]
    return np.bincount(types[typed], weights, minlength=n).astype(np.float64)
