"""Horizontal and vertical maps: how far each pixel of a nucleus lies from its centre.

Graham et al. 2019 (HoVer-Net) teach them to a network because they jump where two nuclei touch, which
a foreground map does not. All nuclei are done at once: a label image is cut into horizontal runs,
which are far fewer than pixels, and the runs of a nucleus give its centre and its reach.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Ints = NDArray[np.integer]
_Floats = NDArray[np.float32]


class _Runs(NamedTuple):
    """Horizontal stretches of one label, in reading order; they cover the image."""

    label: _Ints  # (n,) as in the image, 0 = background
    row: _Ints  # (n,)
    left: _Ints  # (n,) first column
    length: _Ints  # (n,) pixels


class _Axis(NamedTuple):
    """Along one axis, of the nucleus that each run belongs to: (n,) float32, pixels."""

    centre: _Floats
    before: _Floats  # from its first pixel to its centre
    after: _Floats  # from its centre to its last pixel


def encode_hv(labels: _Ints) -> NDArray[np.float32]:
    """Offsets from the centres of nuclei, scaled to [−1, 1] within each.

    The centre is `int(mean + 0.5)` of its pixel coordinates. Offsets on the negative side are divided
    by the largest of them, and so are those on the positive side; a side without pixels has none to
    divide. Of a nucleus that the tile cuts, what is seen counts as the whole, and pieces with one id
    are one nucleus. Departs from HoVer-Net, which leaves nuclei out that are one pixel wide.

    Flipping the image flips the map and its sign, but for one thing: a centre that lies between two
    pixels is rounded up, so nuclei whose mean coordinate ends in .5 are then centred one pixel aside.

    Args:
        labels: (H, W) instances, 0 = background; ids may be large and have gaps.

    Returns:
        (2, H, W) float32: to the right of the centre positive in channel 0, below it in channel 1;
        0 outside nuclei and on their centre lines.
    """
    maps = np.zeros((2, *labels.shape), np.float32)
    if labels.any():
        runs = _cut(labels)
        across, down = _axes(runs)
        wide = _Axis(*(_spread(field, runs, labels.shape) for field in across))
        _scale(np.arange(labels.shape[1]), wide, out=maps[0])
        maps[1] = _spread(_scale(runs.row, down), runs, labels.shape)
    return maps


def _cut(labels: _Ints) -> _Runs:
    starts = np.ones(labels.shape, dtype=bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts[:, 1:])
    flat, first = labels.reshape(-1), np.flatnonzero(starts)
    row, left = np.divmod(first, labels.shape[1])
    return _Runs(flat[first], row, left, np.diff(first, append=flat.size))


def _spread(field: _Floats, runs: _Runs, shape: tuple[int, ...]) -> _Floats:
    """What is known of runs, at each of their pixels."""
    return np.repeat(field, runs.length).reshape(shape)


def _axes(runs: _Runs) -> tuple[_Axis, _Axis]:
    """Of each run's nucleus, along columns and along rows."""
    order = np.argsort(runs.label, kind="stable")
    order = order[np.count_nonzero(runs.label == 0) :]
    label, row, left, length = (field[order] for field in runs)
    new = np.flatnonzero(np.diff(label, prepend=0))  # a nucleus has its runs in one stretch now
    n_runs, right = np.diff(new, append=len(label)), left + length - 1
    area = np.add.reduceat(length, new)

    def axis(low: _Ints, high: _Ints) -> _Axis:
        total = np.add.reduceat((low + high) * length, new)  # twice the sum of coordinates
        centre = (total + area) // (2 * area)  # int(mean + 0.5), without rounding on the way
        first, last = np.minimum.reduceat(low, new), np.maximum.reduceat(high, new)
        fields = (centre, centre - first, last - centre)
        back = _background(len(runs.label))
        for target, field in zip(back, fields, strict=True):
            target[order] = np.repeat(field, n_runs)
        return back

    return axis(left, right), axis(row, row)


def _background(n: int) -> _Axis:
    """An endless reach, by which every offset is scaled to 0."""
    return _Axis(np.zeros(n, np.float32), np.ones(n, np.float32), np.full(n, np.inf, np.float32))


def _scale(place: _Ints, axis: _Axis, out: _Floats | None = None) -> _Floats:
    offset = np.subtract(place.astype(np.float32), axis.centre, out=out)
    reach = np.where(offset < 0, axis.before, axis.after)
    np.maximum(reach, 1, out=reach)  # a reach of 0 has no offset but 0
    return np.divide(offset, reach, out=offset)
