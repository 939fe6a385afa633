"""What a cohort costs: bytes by arithmetic, seconds by a line through measured runs, both to be shown.

Bytes of features are exact, as they are stored as they are; those of images hang on how well pixels
compress, which is measured. Seconds are linear in tissues, tiles and tiles × channels, or so it is held
against what was measured: residuals are printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tissueseg.data.tiles import TileCover, TileGrid
from tissueseg.reporting.study import charts
from tissueseg.store.embedding_writer import SHARD_BYTES, Grid

EDGES = ("pad", "shift")  # of tiles that are scored, and that train: features of both are stored
CHECKSUM_BYTES, INDEX_ENTRY_BYTES = 4, 16  # of Zarr's sharding codec
METADATA_BYTES = 1800  # zarr.json of a tissue's features
BYTES = {"he": 1, "sp": 2, "instances": 4, "classes": 1}  # of a pixel of one plane, as stored


class Cohort(NamedTuple):
    """Square tissues with H&E, SP and masks."""

    tissues: int
    side_px: int = 3000
    channels: int = 16  # of SP; H&E has three more

    def planes(self) -> dict[str, int]:
        """Kind -> planes of a tissue."""
        return {"he": 3, "sp": self.channels, "instances": 1, "classes": 1}

    def raw_bytes(self) -> int:
        """Of all pixels."""
        planes = self.planes()
        return self.tissues * self.side_px**2 * sum(BYTES[k] * n for k, n in planes.items())

    def stored_bytes(self, shares: Mapping[str, float]) -> float:
        """As they lie on disk, given for each kind what is left of a byte."""
        kept = sum(BYTES[kind] * n * shares[kind] for kind, n in self.planes().items())
        return self.tissues * self.side_px**2 * kept

    def train_tiles(self, tile_px: int) -> int:
        """That training sees in an epoch, were all tissues to train."""
        return self.tissues * len(TileGrid(self.side_px, self.side_px, tile_px, "shift"))

    def stored_tiles(self, tile_px: int) -> int:
        """That are encoded: those of training and of scoring, which differ at the edge."""
        return self.tissues * len(TileCover(self.side_px, self.side_px, tile_px, EDGES))


class Encoding(NamedTuple):
    """How an encoder sees a tile, and what it makes of it."""

    name: str
    tile_px: int  # of the tissue
    grid: Grid
    scale: float  # pixels of its own per pixel of the tissue

    def tile_bytes(self, itemsize: int = 2) -> int:
        """Of the features of a tile and view."""
        return math.prod(self.grid) * itemsize

    def tissue_bytes(self, tiles: int, views: int, itemsize: int = 2) -> int:
        """Of the features of a tissue on disk: tiles, checksums, indices of shards, metadata."""
        tile = views * self.tile_bytes(itemsize)
        in_shard = max(1, min(SHARD_BYTES // tile, tiles))
        shards = -(-tiles // in_shard)
        index = shards * (INDEX_ENTRY_BYTES * in_shard * views + CHECKSUM_BYTES)
        return tiles * (tile + views * CHECKSUM_BYTES) + index + METADATA_BYTES

    def cohort_bytes(self, cohort: Cohort, views: int) -> int:
        """Of a whole cohort."""
        one = cohort._replace(tissues=1)
        return cohort.tissues * self.tissue_bytes(one.stored_tiles(self.tile_px), views)


class Size(NamedTuple):
    """How large a measured run was."""

    tissues: int
    tiles: int  # of a tissue
    channels: int
    workers: int = 0

    def terms(self) -> tuple[float, float, float, float]:
        """What a run's seconds are a sum of, but for their factors."""
        tiles = self.tissues * self.tiles
        return 1, self.tissues, tiles, tiles * self.channels


class Line(NamedTuple):
    """Seconds of a job: once, per tissue, per tile, and per tile and channel."""

    factors: tuple[float, float, float, float]
    residuals: tuple[float, ...]  # of every measured run, relative

    def seconds(self, size: Size) -> float:
        """Of a run of any size."""
        return float(np.dot(self.factors, size.terms()))


def fitted(measured: Mapping[Size, float]) -> Line:
    """Least squares of relative residuals, with factors that are not negative.

    Long runs would decide alone else. A factor that comes out below zero is left out and the rest is
    fitted again: what costs time cannot give any back.
    """
    seconds = np.array([*measured.values()])
    terms = np.array([size.terms() for size in measured]) / seconds[:, None]
    used = [0, 1, 2, 3]
    while True:
        found = np.linalg.lstsq(terms[:, used], np.ones(len(seconds)), rcond=None)[0]
        if (found >= 0).all():
            break
        del used[int(found.argmin())]
    factors = np.zeros(4)
    factors[used] = found
    return Line(tuple(factors.tolist()), tuple((terms @ factors - 1).tolist()))


def show_line(job: str, measured: Mapping[Size, float], line: Line) -> None:
    """A table of runs and what the line says of them, and its factors."""
    print(f"\n{job}\n  {'tissues':>7} {'tiles':>6} {'channels':>8}   measured       line    off by")
    for (size, seconds), off in zip(measured.items(), line.residuals, strict=True):
        shown = f"{size.tissues:7d} {size.tiles:6d} {size.channels:8d}"
        print(f"  {shown} {seconds:8.3f} s {line.seconds(size):8.3f} s {100 * off:+8.1f} %")
    once, tissue, tile, channel = line.factors
    print(
        f"  = {once:.3f} s + {1e3 * tissue:.2f} ms a tissue + {1e3 * tile:.3f} ms a tile + "
        f"{1e6 * channel:.1f} µs a tile and channel; mean |residual| "
        f"{100 * np.mean(np.abs(line.residuals)):.1f} %"
    )


class Curve(NamedTuple):
    """A job's seconds along one size, as measured and as the line has them."""

    along: str  # tissues, tiles or channels
    measured: Sequence[tuple[float, float]]
    line: Sequence[tuple[float, float]]


def curves_of(measured: Mapping[Size, float], line: Line, base: Size) -> list[Curve]:
    """One for each size along which others stand at their base."""
    found = []
    for axis, name in enumerate(("tissues", "tiles", "channels")):
        alike = [s for s in measured if all(s[i] == base[i] for i in range(4) if i != axis)]
        alike.sort(key=lambda s: s[axis])
        points = [(math.log2(s[axis]), math.log10(measured[s])) for s in alike]
        drawn = [(math.log2(s[axis]), math.log10(max(line.seconds(s), 1e-6))) for s in alike]
        found.append(Curve(name, points, drawn))
    return found


def draw(jobs: Mapping[str, Sequence[Curve]], path: Path) -> None:
    """A page with a chart per job and size: log₁₀ of seconds by log₂ of the size; dots are measured."""
    parts = [_chart(job, curve) for job, curves in jobs.items() for curve in curves]
    ink = "body { --ink: #222; --soft: #bbb; --paper: #fff; } svg line { stroke: #bbb; }"
    words = "svg text { font: 12px sans-serif; } .chart { display: inline-block; }"
    path.write_text(
        f"<!doctype html><style>{ink}{charts.STYLE}{words}</style>{''.join(parts)}", "utf-8"
    )


def _chart(job: str, curve: Curve) -> str:
    every = [*curve.measured, *curve.line]
    across = charts.axis_of([x for x, _ in every], 52, 300)
    up = charts.axis_of([y for _, y in every], 190, 26)
    marks = [charts.text(52, 14, f"{job}: log₁₀ s", css="strong"), *charts.left_axis(up, 52, 300)]
    marks += charts.bottom_axis(across, 190, f"log₂ {curve.along}")
    drawn = [charts.path([(across.at(x), up.at(y)) for x, y in curve.line], "stroke")]
    drawn += [charts.dot(across.at(x), up.at(y), 3.5, "kept") for x, y in curve.measured]
    return charts.svg(
        312, 230, f"seconds of {job} by {curve.along}", [*marks, charts.of_arm(0, drawn)]
    )


def readable(count: float) -> str:
    """Bytes in the unit that leaves three digits."""
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
