"""Contact sheets: every tissue of a store in one row, whole and where its nuclei are densest.

What figures cannot tell a look does: masks beside their nuclei, a stain in the wrong channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tissueseg.contracts import IGNORE
from tissueseg.drawing import (
    GAP_PX,
    INK,
    PAPER,
    TEXT_PX,
    TITLE_PX,
    class_legend,
    composite,
    draw_legend,
    legend_height,
    outlined_in_colors,
)
from tissueseg.errors import TissueDataError
from tissueseg.inspection.fields import NucleusGrid
from tissueseg.inspection.thumbnails import thumbnail
from tissueseg.store.counting import first_pixels
from tissueseg.store.layout import CLASSES, INSTANCES, SHARD_PX, windows
from tissueseg.store.planes import Window
from tissueseg.store.statistics import QUANTILES, clip_statistics
from tissueseg.store.tissues import TissueStore

SIDE_PX = 256  # of every picture
PER_PAGE = 24
FIELD_UM = 160.0  # coarse images show a smaller field, enlarged
BAR_UM = 20.0
_RULE = (210, 210, 210)
_FIELD = (255, 220, 0)  # frame of the field in the whole tissue
_CHANNEL_COLORS = ((0, 0, 255), (0, 255, 0), (255, 0, 0))  # as `composite` shows them
_TITLES = {"he": "H&E", "sp": "SP"}


@dataclass(frozen=True)
class _Row:
    """One tissue's pictures, each at most SIDE_PX high and wide."""

    title: str
    pictures: list[np.ndarray]


def write_contact_sheets(
    store: TissueStore,
    folder: Path,
    track: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> list[Path]:
    """Write `contact_sheet_01.png`, … with 24 tissues each.

    Args:
        store: to show.
        folder: made when missing.
        track: wraps the tissue names, to show progress.

    Raises:
        TissueDataError: the folder cannot be written.
    """
    channels = _shown_channels(store)
    rows: list[_Row] = []
    written: list[Path] = []
    last = store.tissues[-1]
    for tissue in track(store.tissues):
        rows.append(_row(store, tissue, channels))
        if len(rows) == PER_PAGE or tissue == last:
            path = folder / f"contact_sheet_{len(written) + 1:02d}.png"
            _save(_page(store, rows, channels), path)
            written.append(path)
            rows = []
    return written


def _save(page: Image.Image, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        page.save(path)
    except OSError as error:
        raise TissueDataError(
            f"cannot write the contact sheet {path}: {error}. Choose another folder."
        ) from error


def _shown_channels(store: TissueStore) -> list[int]:
    """A nuclear channel, then the most varied others over the cohort: blue, green, red."""
    if "sp" not in store.images:
        return []
    spread = np.zeros(len(store.panel))
    for tissue in store.tissues:
        found = (clip_statistics(s, QUANTILES[0]) for s in store.attributes(tissue)["statistics"])
        spread += [f.log_square - f.log_mean**2 for f in found]
    nuclear = [i for i, channel in enumerate(store.panel) if channel.nuclear]
    first = sorted(nuclear, key=lambda i: -spread[i])[:1]
    varied = [int(i) for i in np.argsort(-spread, kind="stable") if i not in nuclear]
    return (first + varied)[:3]


def _row(store: TissueStore, tissue: str, channels: Sequence[int]) -> _Row:
    entry = store.entry(tissue)
    field, cells = _densest(store, tissue)
    wholes, fields = [], []
    labels, classes = (_enlarged(store.read(tissue, name, field)) for name in (INSTANCES, CLASSES))
    for kind in store.images:
        shown = range(3) if kind == "he" else channels
        small = thumbnail(store, tissue, kind, shown, SIDE_PX)
        whole = _enlarged(_picture(store, tissue, kind, small, channels))
        wholes.append(_framed(whole, field, (entry.height, entry.width)))
        image = store.read(tissue, kind, field)[list(shown)]
        picture = _enlarged(_picture(store, tissue, kind, image, channels))
        picture = outlined_in_colors(picture, labels, classes, store.classes)
        fields.append(_with_bar(picture, store.mpp, picture.shape[1] / field.width))
    patient = "" if entry.patient == tissue else f", patient {entry.patient}"
    split = f", {entry.split}" if entry.split else ""
    size = f"{entry.height} x {entry.width} px"  # the font has neither × nor µ
    return _Row(f"{tissue}{patient}{split}: {size}, {cells} cells", [*wholes, *fields])


def _densest(store: TissueStore, tissue: str) -> tuple[Window, int]:
    """The field with the most cells, and how many the tissue has."""
    entry = store.entry(tissue)
    grid = NucleusGrid((entry.height, entry.width))
    for window in windows(grid.shape, (SHARD_PX, SHARD_PX)):
        _, first = first_pixels(store.read(tissue, INSTANCES, window))
        rows, columns = np.divmod(first, window.width)
        grid.add(rows + window.y, columns + window.x)
    cells = sum(store.attributes(tissue)["instances_per_class"])
    side = SIDE_PX
    while store.mpp and side > SIDE_PX // 4 and side * store.mpp > FIELD_UM:
        side //= 2
    if fields := grid.densest(1, side, fewest=1):
        return fields[0], cells
    height, width = (min(side, length) for length in grid.shape)
    return Window((entry.height - height) // 2, (entry.width - width) // 2, height, width), cells


def _picture(
    store: TissueStore, tissue: str, kind: str, image: np.ndarray, channels: Sequence[int]
) -> np.ndarray:
    """(H, W, 3) uint8 of H&E, or of SP channels each scaled to its clip in the tissue."""
    if kind == "he":
        return np.ascontiguousarray(image.transpose(1, 2, 0).round().astype(np.uint8))
    stored = store.attributes(tissue)["statistics"]
    return composite(list(image), [_clip(stored[i]) for i in channels])


def _clip(stored: dict) -> float:
    """The upper clip; a higher one where the marker is too rare to show below the first."""
    found = [clip_statistics(stored, q) for q in (QUANTILES[0], QUANTILES[-1])]
    return next((f.clip for f in found if f.usable), 0.0)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Small pictures by a whole factor, pixels kept apart."""
    factor = max(1, SIDE_PX // max(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def _framed(picture: np.ndarray, field: Window, shape: tuple[int, int]) -> np.ndarray:
    """Mark the field in a picture of the whole tissue, unless it is most of it."""
    if field.height * field.width > 0.8 * shape[0] * shape[1]:
        return picture
    image, factor = Image.fromarray(picture), picture.shape[0] / shape[0]
    left, top = field.x * factor, field.y * factor
    right = max(left + field.width * factor - 1, left + 2)
    bottom = max(top + field.height * factor - 1, top + 2)
    draw = ImageDraw.Draw(image)
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=INK)
    draw.rectangle((left, top, right, bottom), outline=_FIELD)
    return np.asarray(image)


def _with_bar(picture: np.ndarray, mpp: float | None, factor: float) -> np.ndarray:
    """A scale bar in the lower left corner, where the scale is known and leaves room."""
    length = round(BAR_UM / mpp * factor) if mpp else 0
    if not 4 <= length <= picture.shape[1] - 20:
        return picture
    image, bottom = Image.fromarray(picture), picture.shape[0] - 10
    draw = ImageDraw.Draw(image)
    draw.rectangle((8, bottom - 3, 8 + length, bottom), PAPER, INK)
    font = ImageFont.load_default(TEXT_PX - 2)
    draw.text((9, bottom - 20), f"{BAR_UM:g} um", PAPER, font, stroke_width=2, stroke_fill=INK)
    return np.asarray(image)


def _page(store: TissueStore, rows: Sequence[_Row], channels: Sequence[int]) -> Image.Image:
    """Legend and column titles above one row a tissue."""
    titles = [_TITLES[kind] for kind in store.images]
    titles += [f"{title} where cells are densest" for title in titles]
    width = max(len(titles) * (SIDE_PX + GAP_PX) + GAP_PX, 2 * SIDE_PX)
    untyped = any(store.attributes(t)["instances_per_class"][-1] for t in store.tissues)
    shown = np.array([*range(IGNORE), *[IGNORE] * untyped])
    legend = class_legend(store.classes, shown, "unknown class")
    legend += [
        (f"SP: {store.panel[i].name}", color)
        for i, color in zip(channels, _CHANNEL_COLORS, strict=False)
    ]
    top = GAP_PX + legend_height(legend, width)
    below = TITLE_PX + SIDE_PX + GAP_PX
    page = Image.new("RGB", (width, top + TITLE_PX + len(rows) * below), PAPER)
    draw = ImageDraw.Draw(page)
    draw_legend(draw, legend, GAP_PX, width)
    for column, title in enumerate(titles):
        _write(draw, (_left(column), top), title, SIDE_PX)
    for i, row in enumerate(rows):
        upper = top + TITLE_PX + i * below
        draw.line((0, upper, width, upper), _RULE)
        _write(draw, (GAP_PX, upper + 2), row.title, width - GAP_PX)
        for column, picture in enumerate(row.pictures):
            page.paste(Image.fromarray(picture), (_left(column), upper + TITLE_PX))
    return page


def _left(column: int) -> int:
    return GAP_PX + column * (SIDE_PX + GAP_PX)


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: int) -> None:
    """Draw a line of text, cut at a width."""
    font = ImageFont.load_default(TEXT_PX)
    while font.getlength(text) > width:
        text = text.rstrip("…")[:-1] + "…"
    draw.text(at, text, INK, font)
