"""Pictures of a field: what goes in, what is true, what was predicted and where they differ.

Pixels by their classes, or cells by their types. A panel is one PNG with a title above every
picture and the colours below.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from tissueseg.contracts import IGNORE, TissueClass
from tissueseg.drawing import (
    INK,
    class_legend,
    grey,
    heat,
    outlined,
    outlined_in_colors,
    sheet,
    tinted,
)
from tissueseg.instances.boundary import instance_boundary

ERRORS = {
    "missed": (214, 39, 40),
    "false alarm": (31, 119, 180),
    "wrong class": (255, 187, 40),
}

CELL_ERRORS = {
    "matched": (150, 150, 150),
    "missed": ERRORS["missed"],
    "false": ERRORS["false alarm"],
    "wrong type": ERRORS["wrong class"],
    "not judged": (255, 255, 255),
}


@dataclass(frozen=True)
class ShownCells:
    """Instances of a field and what they are."""

    labels: np.ndarray  # (H, W), 0 background
    types: np.ndarray  # (highest id + 1,) class ids by id, IGNORE where not known
    doubtful: np.ndarray | None = None  # (n,) ids of cells on unknown ground, which are not judged


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


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """One field's maps of what several processes placed: a pixel is 0 in all of them but one."""
    names = dict.fromkeys(name for maps in parts for name in maps)
    return {n: np.maximum.reduce([maps[n] for maps in parts if n in maps]) for n in names}


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


def draw_instances(
    image: np.ndarray,
    truth: ShownCells,
    predicted: ShownCells,
    matches: np.ndarray,
    table: Sequence[TissueClass],
) -> Image.Image:
    """Compose a field's cells: image, true and predicted rims in colours of types, and errors.

    Args:
        image: (H, W, 3) uint8.
        truth: annotated cells.
        predicted: cells of the network.
        matches: (n, 2) ids of true and predicted cells that are one.
        table: classes, whose colours are used.
    """
    pictures, plain = {"image": image}, grey(image).astype(np.uint8)
    for title, cells in (("truth", truth), ("prediction", predicted)):
        types = cells.types[cells.labels]
        pictures[title] = outlined_in_colors(plain, cells.labels, types, table)
    pictures["errors"] = instance_errors(truth, predicted, matches)
    shown = np.concatenate([c.types[np.unique(c.labels)] for c in (truth, predicted)])
    legend = class_legend(table, shown, ignored="type not known")
    return sheet(pictures, [*legend, *CELL_ERRORS.items()])


def instance_errors(truth: ShownCells, predicted: ShownCells, matches: np.ndarray) -> np.ndarray:
    """What became of every cell, filled in a colour of CELL_ERRORS, with the rims of all of them.

    Matched cells are shown where they were predicted, with the rim of the annotation in ink. Types that
    are not known are not wrong, and cells on unknown ground are not judged. A missed cell lies over a
    false one, whose rim stays to be seen.

    Args:
        truth: annotated cells.
        predicted: cells of the network.
        matches: (n, 2) ids of true and predicted cells that are one.

    Returns:
        (H, W, 3) uint8, near white where there are no cells.
    """
    true_ids, found_ids = np.asarray(matches, np.int64).reshape(-1, 2).T
    kinds = truth.types[true_ids], predicted.types[found_ids]
    right = (kinds[0] == kinds[1]) | (kinds[0] == IGNORE) | (kinds[1] == IGNORE)
    paper = np.array((235, 235, 235), np.uint8)
    found = _colored(predicted, "false", paper)
    if predicted.doubtful is not None:
        found[predicted.doubtful] = CELL_ERRORS["not judged"]
    found[found_ids] = CELL_ERRORS["wrong type"]
    found[found_ids[right]] = CELL_ERRORS["matched"]
    missed = np.ones(len(truth.types), bool)
    missed[[0, *true_ids]] = False
    lost = missed[truth.labels]
    picture = found[predicted.labels]
    picture[lost] = CELL_ERRORS["missed"]
    picture[instance_boundary(truth.labels) & ~lost] = INK
    false = found[predicted.labels] == CELL_ERRORS["false"]
    rims = instance_boundary(predicted.labels) & false.all(axis=-1)
    picture[rims] = CELL_ERRORS["false"]
    return picture


def _colored(cells: ShownCells, kind: str, background: np.ndarray) -> np.ndarray:
    """(highest id + 1, 3) uint8: one colour for all cells."""
    colors = np.tile(np.array(CELL_ERRORS[kind], np.uint8), (len(cells.types), 1))
    colors[0] = background
    return colors


def _overlap(start: int, length: int, whole: int) -> tuple[slice, slice]:
    """Where a piece at `start` lands in the whole, and which part of the piece that is."""
    low, high = max(start, 0), min(start + length, whole)
    high = max(high, low)
    return slice(low, high), slice(low - start, high - start)
