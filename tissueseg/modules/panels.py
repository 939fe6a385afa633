"""Pictures of a field: what goes in, what is true, what was predicted and where they differ.

Plain numpy and Pillow: a panel is one PNG with a title above every picture and the colours below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tissueseg.contracts import IGNORE, TissueClass
from tissueseg.instances.boundary import instance_boundary

_GAP_PX = 6
_COLUMNS = 3
_TITLE_PX = 22
_PAPER = (255, 255, 255)
_INK = (30, 30, 30)
_TINT = 0.6

ERRORS = {
    "missed": (214, 39, 40),
    "false alarm": (31, 119, 180),
    "wrong class": (255, 187, 40),
}


@dataclass
class Panel:
    """One field of a validation tissue, and the maps predicted for it so far."""

    name: str
    tissue: int  # index into the validation tissues
    y: int  # of the field in its tissue, px
    x: int
    images: dict[str, np.ndarray]  # title -> (H, W, 3) uint8
    labels: np.ndarray  # (H, W)
    classes: np.ndarray  # (H, W)
    table: tuple[TissueClass, ...]
    maps: dict[str, np.ndarray] = field(default_factory=dict)  # name -> (H, W) uint8

    def place(self, maps: dict[str, np.ndarray], y: int, x: int) -> None:
        """Copy one tile's maps, whose corner lies at (y, x) of the tissue, into the field."""
        for name, values in maps.items():
            whole = self.maps.setdefault(name, np.zeros(self.labels.shape, np.uint8))
            into, out = zip(
                _overlap(y - self.y, values.shape[0], whole.shape[0]),
                _overlap(x - self.x, values.shape[1], whole.shape[1]),
                strict=True,
            )
            whole[into] = values[out]


def draw_panel(panel: Panel) -> Image.Image:
    """Compose the pictures of one field, side by side."""
    grey = _grey(next(iter(panel.images.values())))
    predicted = panel.maps["classes"]
    pictures = dict(panel.images)
    pictures["truth"] = _outlined(_tinted(grey, panel.classes, panel.table), panel.labels)
    pictures["prediction"] = _tinted(grey, predicted, panel.table)
    if "boundary" in panel.maps:
        pictures["boundary"] = _heat(panel.maps["boundary"])
    pictures["error"] = error_map(panel.classes, predicted)
    shown = np.union1d(np.unique(panel.classes), np.unique(predicted))
    legend = [(c.name, _rgb(c.color)) for c in panel.table if c.id in shown and c.id > 0]
    if IGNORE in shown:
        legend.append(("ignored", (255, 255, 255)))
    return _sheet(pictures, [*legend, *ERRORS.items()])


def error_map(classes: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: grey where right, a colour of ERRORS elsewhere, white where ignored."""
    picture = np.full((*classes.shape, 3), 235, np.uint8)
    picture[(classes > 0) & (classes == predicted)] = 150
    wrong = classes != predicted
    picture[wrong & (predicted == 0)] = ERRORS["missed"]
    picture[wrong & (classes == 0)] = ERRORS["false alarm"]
    picture[wrong & (classes > 0) & (predicted > 0)] = ERRORS["wrong class"]
    picture[classes == IGNORE] = 255
    return picture


def composite(channels: Sequence[np.ndarray], clips: Sequence[float]) -> np.ndarray:
    """Blue, green and red channels (H, W), each scaled to its clip, as (H, W, 3) uint8 RGB."""
    picture = np.zeros((*channels[0].shape, 3), np.float32)
    for plane, (channel, clip) in zip((2, 1, 0), zip(channels, clips, strict=True), strict=False):
        picture[..., plane] = np.clip(channel / clip, 0, 1) if clip > 0 else 0
    return (np.sqrt(picture) * 255).astype(np.uint8)


def _overlap(start: int, length: int, whole: int) -> tuple[slice, slice]:
    """Where a piece at `start` lands in the whole, and which part of the piece that is."""
    low, high = max(start, 0), min(start + length, whole)
    high = max(high, low)
    return slice(low, high), slice(low - start, high - start)


def _tinted(grey: np.ndarray, classes: np.ndarray, table: Sequence[TissueClass]) -> np.ndarray:
    colors = np.zeros((256, 3), np.float32)
    for c in table:
        colors[c.id] = _rgb(c.color)
    colors[IGNORE] = 255
    shown = (classes > 0)[..., None]
    return np.where(shown, (1 - _TINT) * grey + _TINT * colors[classes], grey).astype(np.uint8)


def _outlined(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.where(instance_boundary(labels)[..., None], picture // 3, picture)


def _heat(probs: np.ndarray) -> np.ndarray:
    """Black over orange to white, (H, W) uint8 to (H, W, 3)."""
    scaled = probs[..., None].astype(np.float32) * np.array([2.2, 1.2, 0.7], np.float32)
    return np.minimum(scaled, 255).astype(np.uint8)


def _grey(image: np.ndarray) -> np.ndarray:
    """Luminance, lifted so that tints stand out."""
    luminance = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return (64 + 0.75 * luminance)[..., None].repeat(3, -1)


def _sheet(
    pictures: dict[str, np.ndarray], legend: list[tuple[str, tuple[int, ...]]]
) -> Image.Image:
    """Pictures in rows of _COLUMNS under their titles, and the legend below."""
    height, width = next(iter(pictures.values())).shape[:2]
    font = ImageFont.load_default(14)
    columns = min(_COLUMNS, len(pictures))
    total, below = columns * (width + _GAP_PX) + _GAP_PX, _TITLE_PX + height + _GAP_PX
    places = _flow(legend, font, total)
    top = -(-len(pictures) // columns) * below
    sheet = Image.new("RGB", (total, top + _TITLE_PX * (places[-1][0] + 1)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for i, (title, picture) in enumerate(pictures.items()):
        row, column = divmod(i, columns)
        left, upper = _GAP_PX + column * (width + _GAP_PX), row * below
        draw.text((left, upper + 3), title, _INK, font)
        sheet.paste(Image.fromarray(picture), (left, upper + _TITLE_PX))
    for (row, left), (name, color) in zip(places, legend, strict=True):
        y = top + row * _TITLE_PX
        draw.rectangle((left, y + 3, left + 12, y + 15), color, _INK)
        draw.text((left + 18, y), name, _INK, font)
    return sheet


def _flow(
    legend: list[tuple[str, tuple[int, ...]]],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    width: int,
) -> list[tuple[int, int]]:
    """Row and left edge of each legend entry, wrapped at the sheet's width."""
    places, row, left = [], 0, _GAP_PX
    for name, _ in legend:
        needed = int(font.getlength(name)) + 36
        if left + needed > width and left > _GAP_PX:
            row, left = row + 1, _GAP_PX
        places.append((row, left))
        left += needed
    return places


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))
