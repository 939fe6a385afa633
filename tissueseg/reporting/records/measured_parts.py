"""What one run left of a score: parts that add up over tissues, or one number of the whole run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tissueseg.errors import ConfigError
from tissueseg.metrics.averages import ratio
from tissueseg.metrics.semantic_scores import Marginals, dice_of, iou_of, macros, marginals
from tissueseg.reporting.records.run_record import RunRecord
from tissueseg.reporting.samples import Parts

MACROS = ("macro_foreground", "macro")
_SCORES: dict[str, Callable[[Marginals], NDArray[np.float64]]] = {"dice": dice_of, "iou": iou_of}
_BY_TISSUE = {f"{name}_tissue": name for name in _SCORES}
_LOWER_IS_BETTER = ("hv_mse", "ece", "brier", "calibration/")


class Key(NamedTuple):
    """A score's name, taken apart."""

    side: str
    name: str  # such as `dice`, `bpq_image`, `pq_plus/tumor`
    of: str = ""  # of scores of pixels: a class, or one of MACROS

    @property
    def is_pooled(self) -> bool:
        """Over pixels."""
        return self.name in _SCORES

    @property
    def is_by_tissue(self) -> bool:
        """Over pixels, of each tissue by itself."""
        return self.name in _BY_TISSUE

    @property
    def is_of_cells(self) -> bool:
        """Of each tissue by itself, by `evaluate`."""
        return self.name.partition("/")[0].endswith("_image")

    @property
    def is_of_run(self) -> bool:
        """A number of which nothing is known by tissue."""
        return not (self.is_pooled or self.is_by_tissue or self.is_of_cells)

    @property
    def higher_is_better(self) -> bool:
        """Not for errors."""
        return not self.name.startswith(_LOWER_IS_BETTER)


def key_of(text: str) -> Key:
    """Take a name such as `test/dice/tumor` apart.

    Raises:
        ConfigError: it names no side.
    """
    side, _, name = text.partition("/")
    if not side or not name:
        raise ConfigError(f"metric={text}: wanted <side>/<score>, such as test/dice/tumor.")
    first, _, of = name.partition("/")
    return Key(side, first, of) if first in _SCORES or first in _BY_TISSUE else Key(side, name)


def keys_of(record: RunRecord) -> list[str]:
    """Every score that a run can be measured by."""
    found = []
    for side in record.sides:
        names = [*_SCORES, *_BY_TISSUE]
        keys = [f"{name}/{of}" for name in names for of in (*MACROS, *record.classes)]
        found += [f"{side}/{key}" for key in (*keys, *_cell_names(record, side))]
        found += [f"{side}/{key}" for key in _numbers(record, side)]
    return found


def parts_of(record: RunRecord, key: Key) -> Parts | None:
    """Parts (T, *k) by tissue of the side, or (1, 2) of the run; None: it was not scored so.

    Pixels per class (T, 3, n) or of a class (T, 3): hit, in truth, predicted. Of other scores (T, 2):
    the value, 0 where it is undefined, and whether it is defined.
    """
    if key.side not in record.sides:
        return None
    if key.is_of_cells:
        return _of_cells(record, key)
    if key.is_of_run:
        value = _numbers(record, key.side).get(key.name)
        return None if value is None else _valued(np.array([value], np.float64))
    if key.of not in (*MACROS, *record.classes):
        return None
    pixels = np.stack(marginals(record.confusion[key.side]), axis=1)
    if key.of not in MACROS:
        pixels = pixels[..., record.classes.index(key.of)]
    return _valued(score_of(key)(pixels)) if key.is_by_tissue else pixels


def score_of(key: Key) -> Callable[[Parts], NDArray[np.float64]]:
    """A score of the pixels that `parts_of` counts, (..., 3, n) or (..., 3) -> (...).

    Means over classes are over those that occur in the truth that is scored, which is the same for all
    arms. Were a class counted that is only predicted, one pixel of it would add a score of 0, and so
    cost a fifth of a mean over five classes; its pixels cost the classes that they were taken from.
    """
    of_pixels = _SCORES[_BY_TISSUE.get(key.name, key.name)]
    if key.of not in MACROS:
        return lambda parts: of_pixels(Marginals(*np.moveaxis(parts, -1, 0)))
    foreground = key.of == "macro_foreground"

    def score(parts: Parts) -> NDArray[np.float64]:
        pixels = Marginals(*np.moveaxis(parts, -2, 0))
        return macros(np.where(pixels.truth > 0, of_pixels(pixels), np.nan), foreground)

    return score


def only_predicted(record: RunRecord, key: Key) -> list[str]:
    """Classes that a run predicts where none is in truth: `train` scores them 0, `score_of` does not.

    Args:
        record: with the side's confusion.
        key: of a mean over classes.
    """
    pixels = marginals(record.confusion[key.side])
    truth, predicted = pixels.truth, pixels.predicted
    if key.is_pooled:
        truth, predicted = truth.sum(0, keepdims=True), predicted.sum(0, keepdims=True)
    found = ((truth == 0) & (predicted > 0)).any(0)
    found[0] &= key.of == "macro"
    return [name for name, is_one in zip(record.classes, found, strict=True) if is_one]


def mean_of_values(parts: Parts) -> NDArray[np.float64]:
    """Mean over what is defined, of sums (..., 2)."""
    return ratio(parts[..., 0], parts[..., 1])


def _valued(values: NDArray[np.float64]) -> Parts:
    defined = np.isfinite(values)
    return np.stack([np.where(defined, values, 0), defined], axis=-1).astype(np.float64)


def _cells(record: RunRecord, side: str) -> Mapping[str, Any]:
    return (record.evaluations.get(side) or {}).get("cells") or {}


def _cell_names(record: RunRecord, side: str) -> list[str]:
    """Scores that every tissue has by itself, under names that say so."""
    tissues = _cells(record, side).get("tissues") or {}
    names = dict.fromkeys(name for scores in tissues.values() for name in scores)
    return [name for name in names if Key(side, name).is_of_cells]


def _of_cells(record: RunRecord, key: Key) -> Parts | None:
    found = _cells(record, key.side).get("tissues") or {}
    tissues = record.tissues(key.side)
    if not all(tissue in found and key.name in found[tissue] for tissue in tissues):
        return None
    values = [found[tissue][key.name] for tissue in tissues]
    return _valued(np.array([np.nan if v is None else v for v in values], np.float64))


def _numbers(record: RunRecord, side: str) -> dict[str, float]:
    """Numbers of a whole run."""
    scores, cells = record.scores(side), _cells(record, side)
    evaluated = record.evaluations.get(side) or {}
    calibration = scores.get("calibration") or evaluated.get("calibration") or {}
    found = {f"calibration/{name}": calibration.get(name) for name in ("ece", "brier")}
    found |= scores.get("study") or evaluated.get("study") or {}
    found |= {k: v for k, v in (cells.get("scores") or {}).items() if Key(side, k).is_of_run}
    return {name: float(value) for name, value in found.items() if value is not None}
