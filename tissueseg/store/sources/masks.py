"""Instances, classes and unclear regions of one tissue, made to agree.

An instance is the unit: it has one class, painted over all of it, and it is left out whole or not at
all. A region to ignore therefore takes the instances that lie in it by half or more, whole, and gives
way to the others; cutting them would teach a network outlines that nobody drew.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.store.checks import untyped_error
from tissueseg.store.notices import Notices
from tissueseg.store.reading.tables import EMPTY, Table, column_names, read_batches
from tissueseg.store.sources.description import TypeTable

IGNORED_SHARE = 0.5
"""Instances covered by an ignore mask at least so far are ignored whole."""

SCATTERED = 3
"""Pieces per id above which ids are no instances."""

UNTYPED_IGNORED = "{n} instances without class take class 255"
"""Notice of instances without class that were declared to be ignored."""


class Typed(NamedTuple):
    """A class image in which every instance has one class."""

    classes: np.ndarray  # (H, W), 0 where an instance has none
    changed: int  # instances whose class image held several classes


class Cleared(NamedTuple):
    """Instances without those in regions to ignore."""

    instances: np.ndarray  # (H, W)
    ignored: np.ndarray  # (H, W) bool
    dropped: int  # instances ignored whole
    kept: int  # touched by the mask, but kept whole


def check_not_classes(instances: np.ndarray, path: Path) -> None:
    """Refuse a foreground mask or a class image in place of instances.

    Raises:
        TissueDataError: only 0 and 1 (or 0 and 255), in several pieces; or far more pieces than ids,
            though touching instances make fewer.
    """
    _check_not_binary(instances, path)
    ids = np.unique(instances[instances > 0]).size
    pieces = cv2.connectedComponents((instances > 0).astype(np.uint8))[0] - 1
    if pieces > SCATTERED * ids:
        raise TissueDataError(
            f"{path} holds {ids} ids in {pieces} pieces: it looks like a class image. Give every cell "
            "its own id (such as with scipy.ndimage.label, class by class) and prepare again."
        )


def _check_not_binary(instances: np.ndarray, path: Path) -> None:
    if instances.size and instances.max() in (1, 255):
        value = int(instances.max())
        binary = set(np.unique(instances).tolist()) <= {0, value}
        pieces = cv2.connectedComponents((instances > 0).astype(np.uint8))[0] - 1 if binary else 0
        if pieces > 1:
            raise TissueDataError(
                f"{path} holds one id ({value}) in {pieces} pieces: it looks like a foreground mask. "
                "Give every cell its own id (such as with scipy.ndimage.label) and prepare again."
            )


def clear_ignored(instances: np.ndarray, ignored: np.ndarray) -> Cleared:
    """Take out the instances that lie in regions to ignore, each whole or not at all."""
    ids, index = _indexed(instances)
    area = np.bincount(index.ravel(), minlength=ids.size)
    covered = np.bincount(index[ignored], minlength=ids.size)
    drop = (ids > 0) & (covered >= IGNORED_SHARE * area)
    kept = (ids > 0) & (covered > 0) & ~drop
    region = (ignored & ~kept[index]) | drop[index]
    return Cleared(np.where(drop[index], 0, instances), region, int(drop.sum()), int(kept.sum()))


def type_by_image(instances: np.ndarray, classes: np.ndarray, n_classes: int) -> Typed:
    """Give every instance the class most of its pixels have, background left out of the count.

    IGNORE counts as a class; of equally frequent ones the lowest id wins. Class ids that are not in
    the table are left for the store's check to name.
    """
    if not np.isin(classes, [*range(n_classes), IGNORE]).all():
        return Typed(classes, 0)
    inside = instances > 0
    ids, index = _indexed(instances[inside])
    votes = np.minimum(classes[inside], n_classes).astype(np.int64)  # IGNORE votes last
    counts = np.bincount(index * (n_classes + 1) + votes, minlength=ids.size * (n_classes + 1))
    counts = counts.reshape(ids.size, n_classes + 1)
    changed = int((np.count_nonzero(counts, axis=1) > 1).sum())
    counts[:, 0] = 0
    winner = counts.argmax(axis=1)
    painted = classes.astype(np.uint8)
    painted[inside] = np.where(winner == n_classes, IGNORE, winner)[index]
    return Typed(painted, changed)


def type_by_table(instances: np.ndarray, types: dict[int, int]) -> np.ndarray:
    """Paint every instance with its class of a table; 0 for those it does not name."""
    ids, index = _indexed(instances)
    painted = np.array([types.get(int(i), 0) if i else 0 for i in ids], np.uint8)
    return painted[index]


def read_types(path: Path, table: TypeTable, type_ids: dict[str, int]) -> dict[int, int]:
    """Read a table of instance ids and types; instances whose type is not known are left out.

    Args:
        path: csv with commas, semicolons or tabs, tsv, or Parquet.
        table: names of its columns, and the values that mean: not known.
        type_ids: what may stand in it -> class id; class ids themselves may stand there too.

    Raises:
        TissueDataError: missing columns, ids given twice or no integers, types not in the class table,
            or no table at all.
    """
    columns = column_names(path)
    if missing := [name for name in (table.id, table.type) if name not in columns]:
        raise TissueDataError(
            f"{path} has columns {list(columns[:20])}, but the description wants {missing}: set "
            "masks.types.id and masks.types.type."
        )
    known = dict.fromkeys((*EMPTY, *table.untyped), 0) | type_ids
    types: dict[int, int] = {}
    for part in read_batches(path, [table.id, table.type]):  # of all cells of a slide, maybe
        ids, words = part.integers(table.id), part.column(table.type)
        for row, (instance, word) in enumerate(zip(ids, words, strict=True)):
            if instance in types:
                raise TissueDataError(
                    f"{part.where(row)}: instance id {instance} is given twice: keep one."
                )
            types[instance] = _class_id(part, row, word, known)
    return {instance: c for instance, c in types.items() if c}


def settle_untyped(
    where: str, instances: np.ndarray, classes: np.ndarray, ignore: bool, notices: Notices
) -> np.ndarray:
    """Class image in which instances without class are ignored, if they were declared to be.

    Raises:
        TissueDataError: there are some, and nobody said to ignore them.
    """
    untyped = (instances > 0) & (classes == 0)
    if not untyped.any():
        return classes
    ids = np.unique(instances[untyped])
    if not ignore:
        raise untyped_error(where, ids)
    notices.count(UNTYPED_IGNORED, int(ids.size))
    return np.where(untyped, np.uint8(IGNORE), classes)


def _indexed(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids that occur, and the place of every pixel's id among them.

    What `np.unique` returns, without sorting a tissue's pixels when ids are dense enough to count.
    """
    if instances.size and instances.min() >= 0 and instances.max() <= 2 * instances.size:
        present = np.bincount(instances.astype(np.int64).ravel()) > 0
        return np.flatnonzero(present), (np.cumsum(present) - 1)[instances]
    ids, index = np.unique(instances, return_inverse=True)
    return ids, index.reshape(instances.shape)


def _class_id(table: Table, row: int, given: Any, known: dict[str, int]) -> int:
    value = "" if given is None else str(given).strip()
    if value in known:
        return known[value]
    number = _whole(value)
    if number is not None and (number in known.values() or number == IGNORE):
        return number
    words = [word for word in known if word not in EMPTY]
    close = difflib.get_close_matches(value, words, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise TissueDataError(
        f"{table.where(row)}: type {value!r} is none of {words}{hint}: name it as a class, among the "
        "`types` of a class, or under masks.types.untyped."
    )


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
