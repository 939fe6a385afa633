"""Contact sheets: every tissue of a store in one row, whole and where its nuclei are densest.

What figures cannot tell a look does: masks beside their nuclei, a stain in the wrong channel.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tissueseg.contracts import IGNORE
from tissueseg.drawing import (
    CHANNEL_COLORS,
    GAP_PX,
    INK,
    PAPER,
    TEXT_PX,
    TITLE_PX,
    Legend,
    class_legend,
    draw_legend,
    legend_height,
    outlined_in_colors,
)
from tissueseg.errors import TissueDataError
from tissueseg.inspection.masks import MaskFacts
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.inspection.sp_picture import shown_channels, sp_picture
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore

SIDE_PX = 256  # of every picture
PER_PAGE = 24
FIELD_UM = 160.0  # coarse images show a smaller field, enlarged
BAR_UM = 20.0
_RULE = (210, 210, 210)
_FIELD = (255, 220, 0)  # frame of the field in the whole tissue
_TITLES = {"he": "H&E", "sp": "SP"}
_NAME = re.compile(r"contact_sheet_\d{2,}\.png")


@dataclass(frozen=True)
class _Row:
    """One tissue's pictures, each at most SIDE_PX high and wide."""

    title: str
    pictures: list[np.ndarray]


class ContactSheets:
    """Writes `contact_sheet_01.png`, … with 24 tissues each, while they are looked at.

    Those of an earlier store are removed first.

    Args:
        store: to show.
        folder: where they go.

    Raises:
        TissueDataError: the folder cannot be written.
    """

    def __init__(self, store: TissueStore, folder: Path) -> None:
        self._store, self._folder = store, folder
        self.channels = shown_channels(store, store.tissues)
        """Of the SP image, those that are shown."""
        self._legend = _legend(store, self.channels)
        self._rows: list[_Row] = []
        self._written: list[Path] = []
        _remove_old(folder)

    def add(
        self, pixels: TissuePixels, thumbnails: Mapping[str, np.ndarray], masks: MaskFacts
    ) -> None:
        """Draw a tissue.

        Args:
            pixels: of the tissue.
            thumbnails: kind -> (3 or as many as shown, height, width), SIDE_PX at most.
            masks: what was measured of it.
        """
        self._rows.append(_row(pixels, thumbnails, masks, self.channels))
        if len(self._rows) == PER_PAGE:
            self._write_page()

    def finish(self) -> list[Path]:
        """Write what is left; all pages."""
        if self._rows:
            self._write_page()
        return self._written

    def _write_page(self) -> None:
        path = self._folder / f"contact_sheet_{len(self._written) + 1:02d}.png"
        page = _page(self._store.images, self._rows, self._legend)
        try:
            page.save(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._written.append(path)
        self._rows = []


def _remove_old(folder: Path) -> None:
    try:
        for path in sorted(folder.iterdir()):
            if _NAME.fullmatch(path.name) and path.is_file():
                path.unlink()
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> TissueDataError:
    return TissueDataError(
        f"cannot write the contact sheets {path}: {error.strerror or error}. Make room for them."
    )


def _legend(store: TissueStore, channels: Sequence[int]) -> Legend:
    untyped = any(store.attributes(t)["instances_per_class"][-1] for t in store.tissues)
    shown = np.array([*range(IGNORE), *[IGNORE] * untyped])
    names = (f"SP: {store.panel[i].name}" for i in channels)
    colors = zip(names, CHANNEL_COLORS.values(), strict=False)
    return [*class_legend(store.classes, shown, "unknown class"), *colors]


def _row(
    pixels: TissuePixels,
    thumbnails: Mapping[str, np.ndarray],
    masks: MaskFacts,
    channels: Sequence[int],
) -> _Row:
    store, entry = pixels.store, pixels.store.entry(pixels.tissue)
    field = _densest(masks, store.mpp)
    wholes, fields = [], []
    labels, classes = (_enlarged(pixels.read(name, field)) for name in (INSTANCES, CLASSES))
    for kind, small in thumbnails.items():
        whole = _enlarged(_picture(pixels, kind, small, channels))
        wholes.append(_framed(whole, field, pixels.shape))
        image = pixels.read(kind, field)[list(range(3) if kind == "he" else channels)]
        picture = _enlarged(_picture(pixels, kind, image, channels))
        picture = outlined_in_colors(picture, labels, classes, store.classes)
        fields.append(_with_bar(picture, store.mpp, picture.shape[1] / field.width))
    patient = "" if entry.patient == entry.name else f", patient {entry.patient}"
    split = f", {entry.split}" if entry.split else ""
    cells = f"{masks.instances} cells" if store.labelled(pixels.tissue) else "no labels"
    size = f"{entry.height} x {entry.width} px, {cells}"  # the font has no ×, no µ
    return _Row(f"{entry.name}{patient}{split}: {size}", [*wholes, *fields])


def _densest(masks: MaskFacts, mpp: float | None) -> Window:
    """The field with the most cells; the middle where there is none."""
    side = SIDE_PX
    while mpp and side > SIDE_PX // 4 and side * mpp > FIELD_UM:
        side //= 2
    if fields := masks.grid.densest(1, side, fewest=1):
        return fields[0]
    height, width = (min(side, length) for length in masks.grid.shape)
    y, x = (
        (whole - part) // 2 for whole, part in zip(masks.grid.shape, (height, width), strict=True)
    )
    return Window(y, x, height, width)


def _picture(
    pixels: TissuePixels, kind: str, image: np.ndarray, channels: Sequence[int]
) -> np.ndarray:
    """(H, W, 3) uint8 of H&E, or of SP channels each scaled to its clip in the tissue."""
    if kind == "he":
        return np.ascontiguousarray(image.transpose(1, 2, 0).round().astype(np.uint8))
    return sp_picture(pixels.store, pixels.tissue, image, channels)


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


def _page(images: Sequence[str], rows: Sequence[_Row], legend: Legend) -> Image.Image:
    """Legend and column titles above one row a tissue."""
    titles = [_TITLES[kind] for kind in images]
    titles += [f"{title} where cells are densest" for title in titles]
    width = max(len(titles) * (SIDE_PX + GAP_PX) + GAP_PX, 2 * SIDE_PX)
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
