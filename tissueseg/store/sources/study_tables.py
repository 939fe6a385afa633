"""The tables of a study: which tissues, which channels, which classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tissueseg.contracts import IGNORE, Channel, TissueClass
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.notices import name_some
from tissueseg.store.reading.names import read_text_array
from tissueseg.store.reading.rasters import open_array
from tissueseg.store.reading.tables import Table, plain_id, read_table
from tissueseg.store.reading.tiff import reading
from tissueseg.store.sources.channels import accession, complete, note_stains
from tissueseg.store.sources.description import Section, parse_classes

BACKGROUND = ("background", "bg", "none", "unlabeled", "unlabelled", "nothing", "0")
ENCODER = "labelencoder_broad_cell_type.npy"


class Annotation(NamedTuple):
    """What `tissue_annotations.csv` says of a tissue."""

    patient: str | None
    split: str | None


def read_annotations(
    path: Path, kinds: Sequence[str]
) -> tuple[dict[str, Annotation], tuple[str, ...]]:
    """Tissues that have all wanted modalities, and what was left out."""
    table = read_table(path)
    ids = [plain_id(t, table.where(i)) for i, t in enumerate(table.texts("tissue_id"))]
    flags = {kind: table.flags(kind) for kind in kinds}
    patients = table.texts("patient_id") if "patient_id" in table.columns else [""] * len(ids)
    splits = table.texts("split") if "split" in table.columns else [""] * len(ids)
    rows: dict[str, Annotation] = {}
    lacking: dict[str, list[str]] = {kind: [] for kind in kinds}
    for i, tissue in enumerate(ids):
        if tissue in ids[:i]:
            raise TissueDataError(f"{table.where(i)}: tissue_id {tissue!r} is given twice.")
        without = [kind for kind in kinds if not flags[kind][i]]
        for kind in without:
            lacking[kind].append(tissue)
        if not without:
            rows[tissue] = Annotation(patients[i] or None, splits[i] or None)
    if not rows:
        raise TissueDataError(
            f"{path} has no tissue with {' and '.join(kinds)}: mend source.modalities or the table."
        )
    said = [f"without {k}, left out: {name_some(found)}" for k, found in lacking.items() if found]
    if own := [tissue for tissue, row in rows.items() if row.patient is None]:
        said.append(f"no patient_id, each is its own patient: {name_some(own)}")
    return rows, tuple(said)


def read_panel(folder: Path, name: str | None) -> tuple[tuple[Channel, ...], tuple[str, ...]]:
    """Channels in order, and what was assumed of them.

    Args:
        folder: with `channels.csv`.
        name: of the table of proteins, `gene_dict_<name>.csv`; None: no UniProt accessions.
    """
    table = read_table(folder / "channels.csv")
    names = table.texts("channel_name")
    if strange := sorted({n for n in names if names.count(n) > 1 or not n}):
        raise TissueDataError(f"{table.path} gives the names {strange} more than once, or none.")
    proteins, said = _read_proteins(folder, name, names)
    stated = {n: p for n, p in proteins.items() if accession(p)}
    channels = tuple(complete(n, stated.get(n)) for n in names)
    strange = [f"{n} ({p})" for n, p in proteins.items() if p and n not in stated]
    if strange:
        said.append(f"no UniProt accession, left out: {', '.join(strange)}")
    return channels, (*said, *note_stains(channels, stated))


def read_classes(
    folder: Path, given: Any, masks: Sequence[Path]
) -> tuple[tuple[TissueClass, ...], tuple[str, ...]]:
    """Classes by id, and what was assumed of them.

    A label encoder that does not know of background names class 1 first. Then ids are shifted by one,
    but only if the masks show it, by holding the id of its last name: else nobody could tell.

    Args:
        folder: with the label encoder.
        given: list of names in its place, background first; None: none.
        masks: class images of all tissues.
    """
    if given is not None:
        return _table(given), ()
    path = folder / ENCODER
    if not path.is_file():
        raise TissueDataError(f"{path} is missing: add it, or give source.classes=[background, …].")
    names = [name.strip() for name in read_text_array(path)]
    if not names:
        raise TissueDataError(f"{path} names no class: give source.classes=[background, …].")
    if names[0].lower() in BACKGROUND:
        said = () if names[0] == "background" else (f"class {names[0]!r} is taken for background",)
        return _table(["background", *names[1:]]), said
    highest = max(_highest_id(mask) for mask in masks)
    if highest != len(names):
        raise TissueDataError(
            f"{path} names {len(names)} classes and no background first ({names[0]!r}), so class 1 "
            f"should be its first, but the highest id in the masks is {highest}, not {len(names)}: "
            "say which is which with source.classes=[background, …]."
        )
    said = f"{path.name} names no background: class 1 is its first name, {names[0]!r}"
    return _table(["background", *names]), (said,)


def _table(names: Any) -> tuple[TissueClass, ...]:
    section = Section({"classes": names}, "options: source", ("classes",))
    return parse_classes(section, needed=True)[0]


def _highest_id(path: Path) -> int:
    """The highest class id of a mask, IGNORE apart, without having the mask in memory."""
    mask = open_array(path)
    with reading(path):
        rows = (np.asarray(row) for row in mask)
        return max((int(row[row != IGNORE].max(initial=0)) for row in rows), default=0)


def _read_proteins(
    folder: Path, name: str | None, channels: list[str]
) -> tuple[dict[str, str], list[str]]:
    """Channel -> protein, by position where the table has as many rows, else by name."""
    if name is None:
        return {}, []
    path = folder / f"gene_dict_{plain_id(name, 'source.name')}.csv"
    if not path.is_file():
        there = sorted(found.name for found in folder.glob("gene_dict_*.csv"))
        raise ConfigError(f"source.name={name}: {path} is missing; there are {there}.")
    table = read_table(path, ["name", "protein_id"])
    found, proteins = table.texts("name"), table.texts("protein_id")
    if len(found) != len(channels):
        return _by_name(table, found, proteins, channels)
    said = []
    for row, (channel, other) in enumerate(zip(channels, found, strict=True)):
        if channel != other and other in channels:
            raise TissueDataError(
                f"{table.where(row)}: channel {row} is {other!r}, but channels.csv has {channel!r} "
                "there: put both tables in the images' order."
            )
        said += [f"channel {channel} is called {other} in {path.name}"] if channel != other else []
    return dict(zip(channels, proteins, strict=True)), said


def _by_name(
    table: Table, found: list[str], proteins: list[str], channels: list[str]
) -> tuple[dict[str, str], list[str]]:
    if strange := [name for name in found if name not in channels]:
        raise TissueDataError(
            f"{table.path} has {len(found)} rows, but channels.csv has {len(channels)}, and "
            f"{strange[:5]} are not among its channels {channels}: mend one of them."
        )
    absent = [name for name in channels if name not in found]
    return dict(zip(found, proteins, strict=True)), [
        f"channels without a row in {table.path.name}: {', '.join(absent)}"
    ]
