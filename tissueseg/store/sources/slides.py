"""Which whole slides a folder holds, and which files are whose: by the YAML's patterns, or by a table."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tissueseg.contracts import TissueClass
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.reading.rasters import TABLE_SUFFIXES, TIFF_SUFFIXES
from tissueseg.store.reading.tables import Table, plain_id, read_table
from tissueseg.store.sources.channels import ChannelList
from tissueseg.store.sources.description import (
    Section,
    TypeTable,
    names_classes,
    open_description,
    parse_classes,
    parse_mpp,
    parse_patient,
    parse_types,
)
from tissueseg.store.sources.files import fill, find_patient, match_ids, require_files
from tissueseg.store.sources.regions import Rule, parse_rule

IMAGES = ("he", "sp")
_KINDS = (*IMAGES, "labels", "cells")
_COLUMNS = ("id", *_KINDS, "patient", "split")
_SUFFIXES = {"he": (*TIFF_SUFFIXES, ".svs"), "sp": TIFF_SUFFIXES, "labels": TIFF_SUFFIXES}
_SUFFIXES |= {"cells": TABLE_SUFFIXES}
_KEYS = ("mpp", "images", "masks", "classes", "channels", "patient", "tissues", "untyped")
_MASKS = ("instances", "classes", "types", "ignore")


@dataclass(frozen=True)
class SlideDescription:
    """What the YAML of whole slides says."""

    mpp: float | None  # µm per pixel, of all slides
    mpp_stated: bool  # False: the TIFFs say it
    patterns: Mapping[str, str]  # he, sp, labels, cells -> path in the folder with {id}
    table: str | None  # of slides, in the folder
    types: TypeTable  # columns of the tables of cells
    classes: tuple[TissueClass, ...]
    type_ids: dict[str, int]  # what may stand in a table of cells -> class id
    channels: ChannelList
    patient: re.Pattern[str] | None  # on the id
    tissues: tuple[str, ...] | None  # ids of the slides to take; None: all there are
    untyped: str  # error | ignore
    regions: Rule | None  # None: each slide is one tissue


@dataclass(frozen=True)
class Slide:
    """A slide and its files."""

    name: str
    files: Mapping[str, str]  # of he, sp, labels, cells, what it has -> path in the folder
    patient: str  # all its regions share one, so that no split tears them apart
    split: str | None


def read_slides(path: Path) -> SlideDescription:
    """Read and check a description of whole slides.

    Raises:
        ConfigError: one line with file, key, what stands there and what to write.
    """
    top = open_description(path, (*_KEYS, "slides", "regions"))
    table = top.get("slides", str, None)
    optional = () if table is None else ({},)
    images = Section(top.get("images", dict, *optional), top.at("images"), IMAGES)
    masks = Section(top.get("masks", dict, {}), top.at("masks"), _MASKS)
    for key in ("classes", "ignore"):
        if masks.get(key, str, None):
            raise ConfigError(f"{masks.at(key)} is not read from whole slides: use source=folder.")
    types = parse_types(masks, need_file=table is None)
    patterns = {kind: images.pattern(kind, _SUFFIXES[kind], None) for kind in IMAGES}
    needed = table is None and top.get("masks", dict, None) is not None
    patterns["labels"] = masks.pattern("instances", TIFF_SUFFIXES, *(() if needed else (None,)))
    patterns["cells"] = types.file if types else None
    given = {kind: pattern for kind, pattern in patterns.items() if pattern}
    if table is None and not set(given) & set(IMAGES):
        raise ConfigError(f"{images.where} is empty: give he, sp or both, or a table as `slides`.")
    named = (table is not None or "labels" not in given) and names_classes(top)
    classes, type_ids = parse_classes(top, needed=types is not None or named)
    stated = top.get("mpp", (float, int, str), None) is not None
    return SlideDescription(
        mpp=parse_mpp(top) if stated else None,
        mpp_stated=stated,
        patterns=given,
        table=table,
        types=types or TypeTable(""),
        classes=classes,
        type_ids=type_ids,
        channels=ChannelList.parse(top.get("channels", (list, dict), None), top.at("channels")),
        patient=parse_patient(top),
        tissues=top.texts("tissues") or None,
        untyped=top.choice("untyped", ("error", "ignore")),
        regions=parse_rule(top),
    )


def find_slides(folder: Path, about: SlideDescription) -> tuple[Slide, ...]:
    """The slides to take, once all their files are known to be there.

    Raises:
        ConfigError: what the description and the table say does not fit together.
        TissueDataError: no slide, or a file that is missing.
    """
    found = _from_table(folder, about) if about.table else _from_patterns(folder, about)
    names = {slide.name for slide in found}
    if strange := [name for name in about.tissues or () if name not in names]:
        listed = ", ".join(sorted(names)[:5])
        raise TissueDataError(
            f"there is no slide {strange[0]!r}, which `tissues` names; there are {listed}."
        )
    taken = [s for s in found if about.tissues is None or s.name in about.tissues]
    _check_files(folder, taken)
    labelled = any("labels" in s.files for s in taken)
    typed = any("cells" in s.files for s in taken)
    if typed and not labelled:
        raise ConfigError(
            "tables of cells are given, but no masks that show where these cells lie: give "
            "masks.instances or a column labels, or leave out the tables."
        )
    if labelled and not typed and len(about.classes) != 2:
        raise ConfigError(
            f"classes names {len(about.classes) - 1} classes, but no table of cells says which cell has "
            "which: add masks.types or a column cells, or name a single class after background."
        )
    return tuple(taken)


def _from_patterns(folder: Path, about: SlideDescription) -> list[Slide]:
    first, *others = (about.patterns[kind] for kind in _KINDS if kind in about.patterns)
    names = match_ids(folder, first, tuple(others))
    if not names:
        raise TissueDataError(f"no file in {folder} fits {first!r}: mend path or pattern.")
    return [
        Slide(
            name,
            {kind: fill(pattern, name) for kind, pattern in about.patterns.items()},
            find_patient(about.patient, name, "slide") or name,
            None,
        )
        for name in names
    ]


def _from_table(folder: Path, about: SlideDescription) -> list[Slide]:
    path = folder / str(about.table)
    table = read_table(path)
    columns = _check_columns(path, table, about)
    values = {column: table.texts(column) for column in columns}
    slides = [
        _from_row(about, {c: values[c][row] for c in columns}, table.where(row))
        for row in range(len(table))
    ]
    if not slides:
        raise TissueDataError(f"{path} names no slide: add a line for each.")
    if twice := [name for name, n in Counter(s.name for s in slides).items() if n > 1]:
        raise TissueDataError(f"{path} names slide {twice[0]!r} twice: rename or drop one.")
    return slides


def _check_columns(path: Path, table: Table, about: SlideDescription) -> list[str]:
    """The columns that mean something, once none is misspelt or said elsewhere too."""
    columns = [name for name in _COLUMNS if name in table.columns]
    absent = [name for name in _COLUMNS if name not in columns]
    for name in table.columns:
        close = difflib.get_close_matches(name.lower(), absent, n=1, cutoff=0.75)
        if name not in columns and close:
            raise TissueDataError(f"{path} has a column {name!r}: did you mean {close[0]}?")
    if "id" not in columns:
        raise TissueDataError(f"{path} has no column id; it has {', '.join(table.columns)}.")
    said = {*about.patterns, *(["patient"] if about.patient else [])}
    if twice := [name for name in columns if name in said]:
        raise ConfigError(
            f"{path} has a column {twice[0]}, and the description gives it too: keep one of them."
        )
    known = {*columns, *said}
    if not known & set(IMAGES):
        raise ConfigError(
            f"{path} has the columns {', '.join(columns)}, wanted he, sp or both, and labels if there "
            "are any: add what is missing, or give it as a pattern in the description."
        )
    return columns


def _from_row(about: SlideDescription, row: Mapping[str, str], where: str) -> Slide:
    name = plain_id(row["id"], where)
    files: dict[str, str] = {}
    for kind in _KINDS:
        if kind in about.patterns:
            files[kind] = fill(about.patterns[kind], name)
        elif row.get(kind):
            files[kind] = _plain_path(row[kind], _SUFFIXES[kind], f"{where}: {kind}")
        elif kind in row and not (kind == "cells" and about.untyped == "ignore"):
            raise TissueDataError(
                f"{where}: {kind} of slide {name} is empty, wanted a file: all slides need the same."
            )
    patient = row.get("patient") or find_patient(about.patient, name, "slide") or name
    return Slide(name, files, patient, row.get("split") or None)


def _plain_path(value: str, suffixes: Sequence[str], where: str) -> str:
    """A path of a table that stays inside the folder."""
    strange = "\\" in value or ".." in value or ":" in value or not value.isprintable()
    if strange or any(not part or part.startswith(".") for part in value.split("/")):
        raise TissueDataError(f"{where} is {value!r}, wanted a path inside the folder.")
    if not value.lower().endswith(tuple(suffixes)):
        raise TissueDataError(f"{where} is {value!r}, wanted {', '.join(suffixes)}.")
    return value


def _check_files(folder: Path, slides: Sequence[Slide]) -> None:
    files = ((f"slide {slide.name}", file) for slide in slides for file in slide.files.values())
    hint = "Add it, mend the pattern, or list the complete slides under `tissues`."
    require_files(folder, files, hint)
    for slide in slides:
        if twice := [file for file, n in Counter(slide.files.values()).items() if n > 1]:
            raise TissueDataError(
                f"slide {slide.name}: {twice[0]} is given for two things: mend one."
            )
