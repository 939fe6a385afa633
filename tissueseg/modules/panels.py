"""Pictures of a field: what goes in, what is true, what was predicted and where they differ.

A panel is one PNG with a title above every picture and the colours below.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from tissueseg.contracts import IGNORE, TissueClass
from tissueseg.drawing import class_legend, grey, heat, outlined, sheet, tinted

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
    plain = grey(next(iter(panel.images.values())))
    predicted = panel.maps["classes"]
    pictures = dict(panel.images)
    pictures["truth"] = outlined(tinted(plain, panel.classes, panel.table), panel.labels)
    pictures["prediction"] = tinted(plain, predicted, panel.table)
    if "boundary" in panel.maps:
        pictures["boundary"] = heat(panel.maps["boundary"])
    pictures["error"] = error_map(panel.classes, predicted)
    shown = np.union1d(np.unique(panel.classes), np.unique(predicted))
    legend = class_legend(panel.table, shown, ignored="ignored")
    return sheet(pictures, [*legend, *ERRORS.items()])


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


def _overlap(start: int, length: int, whole: int) -> tuple[slice, slice]:
    """Where a piece at `start` lands in the whole, and which part of the piece that is."""
    low, high = max(start, 0), min(start + length, whole)
    high = max(high, low)
    return slice(low, high), slice(low - start, high - start)
