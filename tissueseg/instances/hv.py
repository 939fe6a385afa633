"""Horizontal and vertical maps: how far each pixel of a nucleus lies from its centre, and back.

Graham et al. 2019 (HoVer-Net) teach them to a network because they jump where two nuclei touch, which
a foreground map does not. All nuclei are done at once: a label image is cut into horizontal runs,
which are far fewer than pixels, and the runs of a nucleus give its centre and its reach.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tissueseg.errors import ConfigError, SpecMismatchError
from tissueseg.instances.components import in_reading_order
from tissueseg.instances.flow import follow
from tissueseg.instances.foreground import foreground as foreground_of
from tissueseg.instances.hv_recipe import RECIPES, published
from tissueseg.instances.maps import Maps
from tissueseg.instances.scale import NUCLEUS_UM, Scale

_Ints = NDArray[np.integer]
_Floats = NDArray[np.float32]


_BAND = 32
"""Rows that are filled at a time, so that what lies between runs and maps stays in the cache."""


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
        vertical, columns = _scale(runs.row, down), np.arange(labels.shape[1], dtype=np.float32)
        first_run = np.searchsorted(runs.row, np.arange(0, len(labels) + _BAND, _BAND))
        for band, (start, stop) in enumerate(pairwise(first_run.tolist())):
            rows, its = np.s_[band * _BAND : (band + 1) * _BAND], np.s_[start:stop]
            shape, length = labels[rows].shape, runs.length[its]
            wide = _Axis(*(_spread(field[its], length, shape) for field in across))
            _scale(columns, wide, out=maps[0, rows])
            maps[1, rows] = _spread(vertical[its], length, shape)
    return maps


PRESETS = ("scaled", *RECIPES)
"""Ways of decoding: our own at any scale, and the published one with the constants of ×40 or ×20."""


def decode_hv(
    foreground: NDArray[np.floating],
    hv: NDArray[np.floating],
    mpp: float,
    preset: str = "scaled",
    nucleus_um: float = NUCLEUS_UM,
) -> NDArray[np.int32]:
    """Instances of a window: the foreground, cut into nuclei where the maps say so.

    Foreground are pixels of a probability of at least 0.5. Pixels whose maps are not finite are
    background. `scaled` follows the maps to the centres (`flow`), and what it makes of a pixel depends
    on nothing further away than `Scale.reach_px`; the published presets depend on the whole window.

    Args:
        foreground: (H, W) probabilities of nucleus.
        hv: (2, H, W) offsets as `encode_hv` makes them.
        mpp: µm per pixel; the published presets do not look at it.
        preset: one of PRESETS.
        nucleus_um: how far nuclei reach across, roughly; published presets do not look at it.

    Returns:
        (H, W) int32, 0 background, ids 1 … n in reading order of first pixels.

    Raises:
        ConfigError: no such preset, or a size that is no number above 0.
        SpecMismatchError: maps of different sizes.
    """
    check_preset(preset)
    scale = Scale(mpp, nucleus_um)
    if foreground.ndim != 2 or hv.shape != (2, *foreground.shape):
        raise SpecMismatchError(
            f"the maps hv {hv.shape} and foreground {foreground.shape} do not fit, wanted "
            "(2, height, width) and (height, width): give maps of one window."
        )
    mask = foreground_of(Maps(foreground), *hv)
    if not mask.any():
        return np.zeros(mask.shape, np.int32)
    known = np.where(np.isfinite(hv), hv, 0).astype(np.float32, copy=False)
    if preset == "scaled":
        return in_reading_order(follow(mask, known, scale))
    return in_reading_order(published(mask, known, RECIPES[preset]))


def check_preset(preset: object) -> None:
    """Refuse what is no preset.

    Raises:
        ConfigError: naming those there are.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset={preset}, wanted one of {', '.join(PRESETS)}.")


def _cut(labels: _Ints) -> _Runs:
    starts = np.ones(labels.shape, dtype=bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts[:, 1:])
    flat, first = labels.reshape(-1), np.flatnonzero(starts)
    row, left = np.divmod(first, labels.shape[1])
    return _Runs(flat[first], row, left, np.diff(first, append=flat.size))


def _spread(field: _Floats, length: _Ints, shape: tuple[int, ...]) -> _Floats:
    """What is known of runs, at each of their pixels."""
    return np.repeat(field, length).reshape(shape)


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


def _scale(place: _Ints | _Floats, axis: _Axis, out: _Floats | None = None) -> _Floats:
    offset = np.subtract(place.astype(np.float32, copy=False), axis.centre, out=out)
    reach = np.where(offset < 0, axis.before, axis.after)
    np.maximum(reach, 1, out=reach)  # a reach of 0 has no offset but 0
    return np.divide(offset, reach, out=offset)
