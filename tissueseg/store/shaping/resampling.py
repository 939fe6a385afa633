"""Tissues of any scale brought to the µm/px of one store, window by window.

Images: a window is exactly that part of any larger one. Labels are decided with a margin of 64 target
pixels around what is asked for: windows agree on every instance smaller than the margin with smaller
neighbours, as nuclei are. A longer one that is thin may be painted in one window and not in the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import numpy as np

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.planes import LazyTissue, Planes, Window
from tissueseg.store.reading.claims import COARSEST_MPP, FINEST_MPP
from tissueseg.store.shaping.label_resampling import Resampled, resample_labels, resample_spans
from tissueseg.store.shaping.spans import Span, resample_image
from tissueseg.store.sources.base import Source

__all__ = ["MARGIN_PX", "ResampledSource", "ResampledTissue", "resample_labels"]

MARGIN_PX = 64  # target pixels seen around a window before its labels are decided
_LIMITS = (
    FINEST_MPP,
    COARSEST_MPP,
)  # of µm/px and of the factor: beyond, some number is in other units
_SAME = 1e-3  # relative: headers round
_BLOCK_BYTES = 2**29  # of source pixels at once
_LABEL_BYTES = 16  # per source pixel, with H&E and what is computed from them
_CHANNEL_BYTES = 4

_KEPT = "{n} thin instances kept by painting what they touch"
_APART = "{n} instances in pieces after resampling: neighbours lie between"
_CLIPS = "clips of the source left out: they do not hold after resampling"
_MOMENTS = "moments of the source left out: they do not hold after resampling"


class ResampledSource:
    """A source whose tissues are all given at `mpp` µm per pixel.

    Raises:
        ConfigError: `mpp` out of bounds.
        TissueDataError: a tissue of unknown scale, or so far from `mpp` that a number must be wrong.
    """

    def __init__(self, source: Source, mpp: float) -> None:
        if isinstance(mpp, bool) or not isinstance(mpp, int | float) or not _within(mpp):
            low, high = _LIMITS
            raise ConfigError(f"mpp={mpp!r}, wanted µm per pixel from {low:g} to {high:g}.")
        self._source, self.mpp = source, float(mpp)
        self.classes, self.panel = source.classes, source.panel
        self.images, self.tissues = source.images, source.tissues
        self._scales = {tissue: self._known_scale(tissue) for tissue in source.tissues}
        self._untouched = all(_same(scale, mpp) for scale in self._scales.values())

    @property
    def moments(self) -> Mapping[str, Mapping[str, Sequence[float]]]:
        """Those of the source, if no tissue is resampled."""
        return self._source.moments if self._untouched else MappingProxyType({})

    @property
    def notices(self) -> Sequence[str]:
        """Those of the source, and what resampling took away."""
        dropped = self._source.moments and not self._untouched
        return (*self._source.notices, *([_MOMENTS] if dropped else ()))

    def scale(self, tissue: str) -> float:
        """µm per pixel, of every tissue alike."""
        return self.mpp

    def files(self, tissue: str) -> Mapping[str, Path]:
        """Every file or folder a tissue comes from, by the name it is recorded under."""
        return self._source.files(tissue)

    def open(self, tissue: str) -> LazyTissue:
        """One tissue; as it is if it has this scale already."""
        inner, scale = self._source.open(tissue), self._scales[tissue]
        if _same(scale, self.mpp):
            return inner
        return ResampledTissue(inner, scale, self.mpp, len(self.panel))

    def _known_scale(self, tissue: str) -> float:
        scale = self._source.scale(tissue)
        if scale is None:
            raise TissueDataError(
                f"tissue {tissue}: its µm/px is not known, so it cannot become {self.mpp:g} µm/px: "
                "state it in the source, or leave out the wanted mpp."
            )
        if not _within(scale) or not _within(scale / self.mpp):
            low, high = _LIMITS
            raise TissueDataError(
                f"tissue {tissue} has {scale:g} µm/px, but {self.mpp:g} is wanted: mend either, in µm "
                f"per pixel; both, and one by the other, are to lie in {low:g} … {high:g}."
            )
        return scale


class ResampledTissue:
    """A tissue of `scale` µm/px read at `mpp`.

    Args:
        inner: the tissue.
        scale: its own µm/px.
        mpp: µm/px wanted.
        channels: of its SP image; they say how many pixels may be in memory.
    """

    def __init__(self, inner: LazyTissue, scale: float, mpp: float, channels: int = 0) -> None:
        self._inner, self._scales = inner, (scale, mpp)
        height, width = (max(1, round(length * scale / mpp)) for length in inner.shape)
        self.shape = (height, width)
        self.images, self.patient, self.split = inner.images, inner.patient, inner.split
        self.clips: Mapping[str, Sequence[float]] = MappingProxyType({})
        pixels = _BLOCK_BYTES // (_LABEL_BYTES + _CHANNEL_BYTES * channels)
        self._block_px = max(2 * MARGIN_PX, int(math.isqrt(pixels) * scale / mpp) - 2 * MARGIN_PX)
        self._fates: dict[str, set[int]] = {"kept": set(), "lost": set(), "apart": set()}

    @property
    def notices(self) -> Mapping[str, int]:
        """Those of the tissue, and what became of the instances in the windows read so far."""
        scale, mpp = self._scales
        said = {f"resampled from {scale:g} to {mpp:g} µm/px": 1}
        lost = f"{{n}} instances lost in resampling to {mpp:g} µm/px"
        messages = {"kept": _KEPT, "lost": lost, "apart": _APART}
        counts = {messages[fate]: len(ids) for fate, ids in self._fates.items() if ids}
        return {
            **self._inner.notices,
            **said,
            **({_CLIPS: 1} if self._inner.clips else {}),
            **counts,
        }

    def read(self, window: Window) -> Planes:
        """Pixels of a window of the resampled tissue, from source pixels in blocks of bounded size."""
        rows = _cuts(window.y, window.height, self._block_px)
        columns = _cuts(window.x, window.width, self._block_px)
        return _joined([[self._read_block(*ys, *xs) for xs in columns] for ys in rows])

    def _read_block(self, top: int, bottom: int, left: int, right: int) -> Planes:
        (height, width), (h, w) = self._inner.shape, self.shape
        rows = Span.around(top, bottom, MARGIN_PX, height, h)
        columns = Span.around(left, right, MARGIN_PX, width, w)
        source = Window(rows.low, columns.low, rows.high - rows.low, columns.high - columns.low)
        planes = self._inner.read(source)
        shares = rows.shares(top, bottom), columns.shares(left, right)
        he, sp = (i if i is None else resample_image(i, *shares) for i in (planes.he, planes.sp))
        if planes.instances is None or planes.classes is None:
            return planes._replace(he=he, sp=sp)
        labels = resample_spans(planes.instances, planes.classes, rows, columns)
        y, x = top - rows.start, left - columns.start
        core = (slice(y, y + bottom - top), slice(x, x + right - left))
        self._note(labels, core)
        return Planes(labels.instances[core], labels.classes[core], he, sp)

    def _note(self, labels: Resampled, core: tuple[slice, slice]) -> None:
        """Note fates in the window where an instance begins, which sees all of it.

        Ids, not counts: the parts of one longer than the margin seem to begin in several windows.
        """
        (y, x), (rows, columns) = labels.begin.T, core
        here = (rows.start <= y) & (y < rows.stop) & (columns.start <= x) & (x < columns.stop)
        for fate, ids in self._fates.items():
            ids.update(np.intersect1d(labels.hurt[here], getattr(labels, fate)).tolist())


def _within(value: float) -> bool:
    return _LIMITS[0] <= value <= _LIMITS[1]


def _same(scale: float, mpp: float) -> bool:
    return abs(scale / mpp - 1) <= _SAME


def _cuts(start: int, length: int, most: int) -> list[tuple[int, int]]:
    """Cut a stretch into even ones of at most so many pixels."""
    parts = -(-length // most)
    edges = [start + length * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


def _joined(blocks: list[list[Planes]]) -> Planes:
    if len(blocks) == len(blocks[0]) == 1:
        return blocks[0][0]
    planes = (
        None if plane is None else np.block([[block[i] for block in row] for row in blocks])  # pyright: ignore  # None in all
        for i, plane in enumerate(blocks[0][0])
    )
    return Planes(*planes)
