"""Drawing shared by all pictures of tissue: composites, tints, outlines, sheets and legends.

Plain numpy and Pillow; pictures are (H, W, 3) uint8 RGB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from tissueseg.contracts import IGNORE, TissueClass
from tissueseg.instances.boundary import instance_boundary

GAP_PX = 6
TITLE_PX = 22  # height of a line of text
COLUMNS = 3
PAPER = (255, 255, 255)
INK = (30, 30, 30)
TINT = 0.6
TEXT_PX = 14
CHANNEL_COLORS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}
"""Of the channels of a composite, in order."""

_BOXES = "tissueseg:pictures"
"""Text chunk of a sheet: title -> left, upper, right and lower edge of its picture."""

Legend = Sequence[tuple[str, tuple[int, ...]]]
"""Names with their colours."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def class_colors(table: Sequence[TissueClass]) -> np.ndarray:
    """(256, 3) float32: the colour of every class id, white for IGNORE."""
    colors = np.zeros((256, 3), np.float32)
    for c in table:
        colors[c.id] = c.rgb
    colors[IGNORE] = 255
    return colors


def class_legend(
    table: Sequence[TissueClass], shown: np.ndarray, ignored: str
) -> list[tuple[str, tuple[int, ...]]]:
    """Names and colours of the class ids that are shown, background left out.

    Args:
        table: all classes.
        shown: ids.
        ignored: what white stands for, where IGNORE is among them.
    """
    legend = [(c.name, c.rgb) for c in table if c.id in shown and c.id > 0]
    return [*legend, (ignored, (255, 255, 255))] if IGNORE in shown else legend


def composite(channels: Sequence[np.ndarray], clips: Sequence[float]) -> np.ndarray:
    """Channels (H, W) in `CHANNEL_COLORS`, each scaled to its clip, as (H, W, 3) uint8 RGB."""
    picture = np.zeros((*channels[0].shape, 3), np.float32)
    for plane, (channel, clip) in zip((2, 1, 0), zip(channels, clips, strict=True), strict=False):
        picture[..., plane] = np.clip(channel / clip, 0, 1) if clip > 0 else 0
    return (np.sqrt(picture) * 255).astype(np.uint8)


def tinted(grey: np.ndarray, classes: np.ndarray, table: Sequence[TissueClass]) -> np.ndarray:
    """Lay the colours of classes (H, W) over a grey picture, background left as it is."""
    shown = (classes > 0)[..., None]
    over = (1 - TINT) * grey + TINT * class_colors(table)[classes]
    return np.where(shown, over, grey).astype(np.uint8)


def outlined(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Darken the rims of instances (H, W)."""
    return np.where(instance_boundary(labels)[..., None], picture // 3, picture)


def outlined_in_colors(
    picture: np.ndarray, labels: np.ndarray, classes: np.ndarray, table: Sequence[TissueClass]
) -> np.ndarray:
    """Paint the rims of instances (H, W) in the colours of their classes (H, W)."""
    colors = class_colors(table)[classes].astype(np.uint8)
    return np.where(instance_boundary(labels)[..., None], colors, picture)


def heat(probs: np.ndarray) -> np.ndarray:
    """Black over orange to white, (H, W) uint8 to (H, W, 3)."""
    scaled = probs[..., None].astype(np.float32) * np.array([2.2, 1.2, 0.7], np.float32)
    return np.minimum(scaled, 255).astype(np.uint8)


def grey(image: np.ndarray) -> np.ndarray:
    """Luminance, lifted so that tints stand out."""
    luminance = image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return (64 + 0.75 * luminance)[..., None].repeat(3, -1)


def sheet(pictures: Mapping[str, np.ndarray], legend: Legend) -> Image.Image:
    """Pictures of one size in rows under their titles, and the legend below."""
    height, width = next(iter(pictures.values())).shape[:2]
    font = ImageFont.load_default(TEXT_PX)
    columns = min(COLUMNS, len(pictures))
    total, below = columns * (width + GAP_PX) + GAP_PX, TITLE_PX + height + GAP_PX
    top = -(-len(pictures) // columns) * below
    page = Image.new("RGB", (total, top + legend_height(legend, total)), PAPER)
    draw, boxes = ImageDraw.Draw(page), {}
    for i, (title, picture) in enumerate(pictures.items()):
        row, column = divmod(i, columns)
        left, upper = GAP_PX + column * (width + GAP_PX), row * below
        draw.text((left, upper + 3), title, INK, font)
        page.paste(Image.fromarray(picture), (left, upper + TITLE_PX))
        boxes[title] = (left, upper + TITLE_PX, left + width, upper + TITLE_PX + height)
    draw_legend(draw, legend, top, total)
    page.info[_BOXES] = json.dumps(boxes)
    return page


def save_sheet(page: Image.Image, path: Path) -> None:
    """Write a sheet as PNG, atomically, with a text chunk that says where its pictures lie."""
    told = PngInfo()
    told.add_itxt(_BOXES, page.info[_BOXES])
    partial = path.with_suffix(".partial")
    page.save(partial, "PNG", pnginfo=told)
    partial.replace(path)


def read_pictures(page: Image.Image) -> dict[str, Image.Image]:
    """The pictures of an opened sheet by their titles; empty where it does not say where they lie."""
    try:
        told: dict[str, list[int]] = json.loads(page.info.get(_BOXES, "{}"))
        boxes = {title: _inside(box, page.size) for title, box in told.items()}
    except (TypeError, ValueError, AttributeError):  # somebody else's chunk
        return {}
    return {title: page.crop(box) for title, box in boxes.items()}


def _inside(box: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, upper, right, lower = map(int, box)
    if not (0 <= left < right <= size[0] and 0 <= upper < lower <= size[1]):
        raise ValueError(f"box {box} of a page of {size} px")
    return left, upper, right, lower


def legend_height(legend: Legend, width: int) -> int:
    """Pixels that a legend needs on a page of some width."""
    places = _flow(legend, ImageFont.load_default(TEXT_PX), width)
    return TITLE_PX * (places[-1][0] + 1) if places else 0


def draw_legend(draw: ImageDraw.ImageDraw, legend: Legend, top: int, width: int) -> None:
    """Draw a legend from a row of pixels downwards, wrapped at the page's width."""
    font = ImageFont.load_default(TEXT_PX)
    for (row, left), (name, color) in zip(_flow(legend, font, width), legend, strict=True):
        y = top + row * TITLE_PX
        draw.rectangle((left, y + 3, left + 12, y + 15), color, INK)
        draw.text((left + 18, y), name, INK, font)


def _flow(legend: Legend, font: Font, width: int) -> list[tuple[int, int]]:
    """Row and left edge of each legend entry."""
    places, row, left = [], 0, GAP_PX
    for name, _ in legend:
        needed = int(font.getlength(name)) + 36
        if left + needed > width and left > GAP_PX:
            row, left = row + 1, GAP_PX
        places.append((row, left))
        left += needed
    return places
