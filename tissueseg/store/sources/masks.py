"""Instances, classes and unclear regions of one tissue, made to agree.

An instance is the unit: it has one class, painted over all of it, and it is left out whole or not at
all. A region to ignore therefore takes the instances that lie in it by half or more, whole, and gives
way to the others; cutting them would teach a network outlines that nobody drew.
"""

from __future__ import annotations

import csv
import difflib
from pathlib import Path
from typing import NamedTuple, TextIO

import cv2
import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.store.sources.description import TypeTable

IGNORED_SHARE = 0.5
SCATTERED = 3  # pieces per id above which ids are no instances
"""Instances covered by an ignore mask at least so far are ignored whole."""

_UNTYPED = ("", "NA", "NaN", "nan", "None", "null")


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
        path: csv with commas, semicolons or tabs.
        table: names of its columns, and the values that mean: not known.
        type_ids: what may stand in it -> class id; class ids themselves may stand there too.

    Raises:
        TissueDataError: missing columns, ids given twice or no integers, types not in the class table.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            return _parse_types(path, file, table, type_ids)
        except (csv.Error, UnicodeDecodeError) as error:
            raise TissueDataError(f"{path} cannot be read as a table: {error}.") from error


def _indexed(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids that occur, and the place of every pixel's id among them.

    What `np.unique` returns, without sorting a tissue's pixels when ids are dense enough to count.
    """
    if instances.size and instances.min() >= 0 and instances.max() <= 2 * instances.size:
        present = np.bincount(instances.astype(np.int64).ravel()) > 0
        return np.flatnonzero(present), (np.cumsum(present) - 1)[instances]
    ids, index = np.unique(instances, return_inverse=True)
    return ids, index.reshape(instances.shape)


def _parse_types(
    path: Path, file: TextIO, table: TypeTable, type_ids: dict[str, int]
) -> dict[int, int]:
    header = file.readline()
    file.seek(0)
    rows = csv.reader(file, delimiter=max(",;\t", key=header.count))
    columns = [name.strip() for name in next(rows, [])]
    if missing := [name for name in (table.id, table.type) if name not in columns]:
        raise TissueDataError(
            f"{path} has columns {columns}, but the description wants {missing}: set masks.types.id and "
            "masks.types.type."
        )
    known = dict.fromkeys((*_UNTYPED, *table.untyped), 0) | type_ids
    types: dict[int, int] = {}
    places = columns.index(table.id), columns.index(table.type)
    for row in rows:  # of a table that may list every cell of a slide, with all that was measured
        if not row:
            continue
        word, value = (row[place] if place < len(row) else "" for place in places)
        instance, line = _integer(word), rows.line_num
        if instance is None or instance in types:
            what = "is given twice" if instance is not None else "is no integer"
            raise TissueDataError(f"{path} line {line}: instance id {word!r} {what}.")
        types[instance] = _class_id(path, line, value.strip(), known)
    return {instance: c for instance, c in types.items() if c}


def _class_id(path: Path, line: int, value: str, known: dict[str, int]) -> int:
    if value in known:
        return known[value]
    number = _integer(value)
    if number is not None and (number in known.values() or number == IGNORE):
        return number
    words = [word for word in known if word not in _UNTYPED]
    close = difflib.get_close_matches(value, words, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise TissueDataError(
        f"{path} line {line}: type {value!r} is none of {words}{hint}: name it as a class, among the "
        "`types` of a class, or under masks.types.untyped."
    )


def _integer(text: str | None) -> int | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
