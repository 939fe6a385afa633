"""Which true and which predicted instances share how many pixels: all that instance metrics need.

Two label images are cut into runs of constant labels, which are far fewer than pixels and are sorted
and added up at once; masks of single nuclei never exist. Tables of windows add up to that of the whole
tissue, where a window holds its part of nuclei that it cuts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError

_Ints = NDArray[np.int64]

_UNKNOWN = -1  # stands for the truth where it is not known


class Matches(NamedTuple):
    """Instances that are each other's, one row a pair."""

    truth: _Ints  # (k,) rows into `truth_ids`
    predicted: _Ints  # (k,) rows into `predicted_ids`
    iou: NDArray[np.float64]  # (k,)


@dataclass(frozen=True)
class Contingency:
    """A sparse table of two label images; only pixels where the truth is known count.

    Ids increase; pairs are in order of truth, then prediction, and only those that overlap are there.
    """

    truth_ids: _Ints  # (n,)
    truth_px: _Ints  # (n,) area
    predicted_ids: _Ints  # (m,)
    predicted_px: _Ints  # (m,) area
    predicted_unknown_px: _Ints  # (m,) pixels on unknown ground, which are no part of the area
    pair_truth: _Ints  # (k,) rows into `truth_ids`
    pair_predicted: _Ints  # (k,) rows into `predicted_ids`
    pair_px: _Ints  # (k,) intersection

    @cached_property
    def pair_union_px(self) -> _Ints:
        """(k,) union of each pair."""
        areas = self.truth_px[self.pair_truth] + self.predicted_px[self.pair_predicted]
        return areas - self.pair_px

    @cached_property
    def pair_iou(self) -> NDArray[np.float64]:
        """(k,) intersection over union of each pair."""
        return self.pair_px / self.pair_union_px

    @cached_property
    def doubtful(self) -> NDArray[np.bool_]:
        """(m,) predictions mostly on unknown ground, which are never held to be false alarms.

        They may still be the match of a nucleus that they cover on known ground.
        """
        return self.predicted_unknown_px > self.predicted_px

    @cached_property
    def matches(self) -> Matches:
        """Pairs with IoU above .5: no instance can be in two (Kirillov et al. 2019, section 4.1)."""
        pairs = np.flatnonzero(2 * self.pair_px > self.pair_union_px)
        return Matches(self.pair_truth[pairs], self.pair_predicted[pairs], self.pair_iou[pairs])

    @property
    def foreground_px(self) -> _Ints:
        """(3,) pixels in nuclei of both, of the truth, and of the prediction."""
        return np.array([self.pair_px.sum(), self.truth_px.sum(), self.predicted_px.sum()])


def contingency(
    truth: NDArray[np.integer],
    predicted: NDArray[np.integer],
    valid: NDArray[np.bool_] | None = None,
) -> Contingency:
    """Count a window.

    Args:
        truth: (H, W) labels, 0 = background; ids may be large and have gaps.
        predicted: (H, W) likewise.
        valid: (H, W) False where the truth is not known; None: it is everywhere. Such pixels are left
            out of truth and prediction alike.

    Raises:
        TissueDataError: images of different shapes, or labels that are no whole numbers from 0.
    """
    _check_images(truth, predicted, valid)
    images = [image.reshape(-1) for image in (truth, predicted, valid) if image is not None]
    starts = np.ones(truth.size, dtype=bool)
    np.not_equal(images[0][1:], images[0][:-1], out=starts[1:])
    for image in images[1:]:
        starts[1:] |= image[1:] != image[:-1]
    first = np.flatnonzero(starts)
    px = np.diff(first, append=truth.size)
    true_id, predicted_id, *known = (image[first] for image in images)
    true_id, predicted_id = true_id.astype(np.int64), predicted_id.astype(np.int64)
    if known:
        true_id[~known[0].astype(bool)] = _UNKNOWN
    some = (true_id > 0) | (predicted_id > 0)
    return _table(true_id[some], predicted_id[some], px[some])


def joined(parts: Iterable[Contingency]) -> Contingency:
    """Add up the tables of windows that do not overlap and share their ids."""
    cells = [_cells(part) for part in parts]
    empty = np.zeros((3, 0), np.int64)
    return _table(*np.concatenate([empty, *cells], axis=1))


def types_of(ids: ArrayLike, known_ids: ArrayLike, types: ArrayLike) -> _Ints:
    """(n,) the types of instances, looked up in a table; IGNORE for those it lacks.

    Args:
        ids: (n,) such as `truth_ids`.
        known_ids: (k,) of the table, each once, in any order.
        types: (k,) class ids.
    """
    ids, known_ids = np.asarray(ids, np.int64), np.asarray(known_ids, np.int64)
    found = np.full(len(ids), IGNORE, np.int64)
    _, here, there = np.intersect1d(ids, known_ids, assume_unique=True, return_indices=True)
    found[here] = np.asarray(types, np.int64)[there]
    return found


def _cells(part: Contingency) -> _Ints:
    """(3, n) truth, prediction and pixels of a table; 0 is background."""
    pairs = (
        part.truth_ids[part.pair_truth],
        part.predicted_ids[part.pair_predicted],
        part.pair_px,
    )
    true_rest, predicted_rest = part.truth_px.copy(), part.predicted_px.copy()
    np.subtract.at(true_rest, part.pair_truth, part.pair_px)
    np.subtract.at(predicted_rest, part.pair_predicted, part.pair_px)
    nothing, ids = np.zeros_like(part.truth_ids), part.predicted_ids
    alone = (part.truth_ids, nothing, true_rest)
    false = (np.zeros_like(ids), ids, predicted_rest)
    unknown = (np.full_like(ids, _UNKNOWN), ids, part.predicted_unknown_px)
    return np.concatenate([np.stack(c) for c in (pairs, alone, false, unknown)], axis=1)


def _table(truth: _Ints, predicted: _Ints, px: _Ints) -> Contingency:
    """Of (n,) cells of the table, which may occur many times."""
    (true_ids, row), (found_ids, column) = _coded(truth), _coded(predicted)
    shape = len(true_ids), len(found_ids)
    cells = coo_array((px, (row, column)), shape=shape).tocsr()  # sorts by counting, and adds up
    row = np.repeat(np.arange(shape[0]), np.diff(cells.indptr))
    column, px = np.asarray(cells.indices, np.int64), np.asarray(cells.data, np.int64)
    known = true_ids[row] != _UNKNOWN
    # What is no instance has the first ids.
    row, column = row - np.searchsorted(true_ids, 1), column - np.searchsorted(found_ids, 1)
    true_ids, found_ids = true_ids[true_ids > 0], found_ids[found_ids > 0]
    true, found = row >= 0, column >= 0
    inside, beyond, both = found & known, found & ~known, true & found
    return Contingency(
        truth_ids=true_ids,
        truth_px=_sums(row[true], px[true], len(true_ids)),
        predicted_ids=found_ids,
        predicted_px=_sums(column[inside], px[inside], len(found_ids)),
        predicted_unknown_px=_sums(column[beyond], px[beyond], len(found_ids)),
        pair_truth=row[both],
        pair_predicted=column[both],
        pair_px=px[both],
    )


def _coded(ids: _Ints) -> tuple[_Ints, _Ints]:
    """All ids that occur, increasing, and (n,) which of them each is."""
    low, high = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
    span = high - low + 1
    if not ids.size or span > 64 * ids.size + 2**16:
        return np.unique(ids, return_inverse=True)
    there = np.zeros(span, dtype=bool)  # ids lie close together: no need to sort
    there[ids - low] = True
    return np.flatnonzero(there) + low, (np.cumsum(there) - 1)[ids - low]


def _sums(row: _Ints, px: _Ints, n: int) -> _Ints:
    # Weights are summed as float64, exact below 2^53 pixels.
    return np.bincount(row, px, minlength=n).astype(np.int64)


def _check_images(*images: np.ndarray | None) -> None:
    shapes = [image.shape for image in images if image is not None]
    if len(set(shapes)) > 1:
        raise TissueDataError(f"images of shapes {shapes} to compare, wanted one; cut them alike.")
    for name, labels in zip(("true", "predicted"), images, strict=False):
        assert labels is not None
        least, most = (labels.min(), labels.max()) if labels.size else (0, 0)
        if labels.dtype.kind not in "iu" or least < 0 or most >= 2**63:
            raise TissueDataError(
                f"{name} labels of type {labels.dtype} from {least} to {most}, wanted whole numbers "
                "from 0; give instances as they were decoded."
            )
