"""The tables of a spora dataset: tissues, channels, standardisation and cell types.

https://github.com/bunnelab/virtues ships an example; `spora-io` documents the layout. Two rules of its
loader are easily missed: an image holds only the channels *measured* in its tissue, in the order of
`channels.parquet`; and quantiles are per tissue, but means and deviations are of the whole cohort.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tissueseg.contracts import Channel
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.notices import name_some
from tissueseg.store.reading.tables import INDEX, Table, column_names, plain_id, read_table
from tissueseg.store.sources.channels import ChannelList, accession, complete

QUANTILE = "0.99"
CHANNEL_TABLES = ("channels.parquet", "channels_per_tissue.parquet")

_FOLDER = f"quantile_clipping_log1p/uq_{QUANTILE}_image"
_QUANTILES = "image_level_upper_quantiles.parquet"
_MOMENTS = {"mean": "global_level_means.parquet", "std": "global_level_stds.parquet"}
STATISTICS = tuple(f"{_FOLDER}/{name}" for name in (_QUANTILES, *_MOMENTS.values()))
_ID = ("tissue_id", INDEX)


class TissueRow(NamedTuple):
    """What the table of tissues says of one."""

    patient: str | None
    split: str | None


class Panel(NamedTuple):
    """Channels to keep, and where they are in the image of each tissue."""

    channels: tuple[Channel, ...]
    rows: tuple[int, ...]  # of each in channels.parquet
    names: tuple[str, ...]  # all of channels.parquet
    measured: Mapping[str, tuple[int, ...]]  # tissue -> rows its image holds, in order
    notices: tuple[str, ...]

    def positions(
        self, tissue: str, found: int, labels: Sequence[str] | None, file: Path
    ) -> list[int]:
        """Positions in the image of a tissue of the channels to keep.

        Args:
            tissue: its name.
            found: channels of its image.
            labels: names the image carries, if any.
            file: the image, for messages.
        """
        held = self.measured[tissue]
        if found == len(self.names):
            held = tuple(range(found))
        if found != len(held):
            raise TissueDataError(
                f"tissue {tissue}: {file} has {found} channels, but channels_per_tissue.parquet says "
                f"{len(held)} of {len(self.names)} were measured: mend the table, or fetch the image."
            )
        for position, (row, label) in enumerate(zip(held, labels or (), strict=False)):
            if label != self.names[row] and label in self.names:
                raise TissueDataError(
                    f"tissue {tissue}: {file} names its channel {position} {label}, but by "
                    f"channels.parquet it is {self.names[row]}: put both in one order."
                )
        return [held.index(row) for row in self.rows]


class Standardization(NamedTuple):
    """Published statistics of the channels of a panel, by quantile."""

    clips: Mapping[str, Mapping[str, list[float]]]  # tissue -> quantile -> channels
    moments: Mapping[str, Mapping[str, list[float]]]  # quantile -> mean, std -> channels
    notices: tuple[str, ...]


def read_tissues(path: Path, modality: str) -> dict[str, TissueRow] | None:
    """Patients and splits of the tissues of a modality; None without a table."""
    if not path.is_file():
        return None
    table = read_table(path)
    ids = table.texts(*_ID)
    kinds = table.texts("modality") if "modality" in table.columns else [modality] * len(ids)
    if modality not in (kind.lower() for kind in kinds):
        raise TissueDataError(
            f"{path} has no tissue of modality {modality!r}, but of {sorted(set(kinds))}: mend "
            "source.modality."
        )
    patients = table.texts("patient_id") if "patient_id" in table.columns else [""] * len(ids)
    splits = table.texts("split") if "split" in table.columns else [""] * len(ids)
    rows: dict[str, TissueRow] = {}
    for i, tissue in enumerate(ids):
        if kinds[i].lower() != modality:
            continue
        row = TissueRow(patients[i] or None, splits[i] or None)
        if rows.setdefault(plain_id(tissue, table.where(i)), row) != row:
            raise TissueDataError(
                f"{table.where(i)}: tissue {tissue} is given again with another patient or split: "
                "keep one."
            )
    return rows


def read_panel(folder: Path, tissues: Sequence[str], channels: str, uniprot: object) -> Panel:
    """Channels of a modality that can be used in every tissue.

    Args:
        folder: of the modality.
        tissues: those of the store.
        channels: `qc` leaves out those that did not pass quality control, `all` does not.
        uniprot: accessions by channel name that go before the table's; None: none.
    """
    path = folder / CHANNEL_TABLES[0]
    table = read_table(path)
    names = tuple(table.texts("channel_name"))
    if strange := sorted({name for name in names if names.count(name) > 1 or not name}):
        raise TissueDataError(f"{path} gives the channel names {strange} more than once, or none.")
    _check_order(table)
    measured = _read_measured(folder / CHANNEL_TABLES[1], names, tissues)
    passed = table.flags("qc_pass") if "qc_pass" in table.columns else [True] * len(names)
    everywhere = set.intersection(*(set(rows) for rows in measured.values()))
    failed = {n for n, ok in zip(names, passed, strict=True) if not ok} if channels == "qc" else ()
    rows = tuple(i for i, name in enumerate(names) if i in everywhere and name not in failed)
    if not rows:
        raise TissueDataError(
            f"{path} leaves no channel: {len(failed)} of {len(names)} did not pass quality control, and "
            f"{len(names) - len(everywhere)} were not measured in every tissue. Set source.channels=all, "
            "or list fewer source.tissues."
        )
    absent = [name for i, name in enumerate(names) if i not in everywhere]
    notices = [
        f"{what}, left out: {', '.join(found)}"
        for what, found in (
            ("channels that did not pass quality control", [n for n in names if n in failed]),
            ("channels not measured in every tissue", absent),
        )
        if found
    ]
    described, said = _describe(table, rows, uniprot)
    return Panel(described, rows, names, measured, (*notices, *said))


def read_standardization(
    folder: Path | None, tissues: Sequence[str], panel: Sequence[Channel]
) -> Standardization:
    """Clips and moments published for a resolution; empty where there are none.

    Args:
        folder: of the resolution; None: not wanted.
        tissues: those of the store.
        panel: channels to keep.
    """
    if folder is None:
        return Standardization({}, {}, ())
    folder = folder / "standardization" / _FOLDER
    files = [folder / name for name in (_QUANTILES, *_MOMENTS.values())]
    there = [file for file in files if file.is_file()]
    if not there:
        return Standardization({}, {}, ())
    lower = folder / _QUANTILES.replace("upper", "lower")
    if len(there) < len(files) or lower.is_file():
        missing = [file.name for file in files if file not in there]
        reason = f"{', '.join(missing)} is missing" if missing else f"{lower.name} clips below, too"
        return Standardization({}, {}, (f"published standardisation is not reused: {reason}",))
    names = [channel.name for channel in panel]
    clips = _read_clips(files[0], tissues, names)
    moments = {kind: _read_moments(folder / name, names) for kind, name in _MOMENTS.items()}
    said = f"clips, means and deviations at quantile {QUANTILE} are the published ones"
    return Standardization(clips, {QUANTILE: moments}, (said,))


def _check_order(table: Table) -> None:
    """Refuse an index that contradicts the order of rows, which is the order of channels."""
    if "index" in table.columns:
        index = table.integers("index")
        if index != sorted(index):
            raise TissueDataError(
                f"{table.path} has rows in another order than its column index: the images' channels "
                "follow the rows; sort them, or drop the column."
            )


def _read_measured(
    path: Path, names: tuple[str, ...], tissues: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    if not path.is_file():
        return dict.fromkeys(tissues, tuple(range(len(names))))
    table = read_table(path)
    listed = tuple(name for name in table.columns if name not in _ID)
    if listed != names:
        strange = sorted(set(names) ^ set(listed))
        what = f"other channels ({', '.join(strange[:5])})" if strange else "another order"
        raise TissueDataError(f"{path} has {what} than channels.parquet: mend one of them.")
    ids = table.texts(*_ID)
    flags = [table.flags(name) for name in names]
    measured = {
        tissue: tuple(i for i in range(len(names)) if flags[i][row])
        for row, tissue in enumerate(ids)
    }
    if missing := [tissue for tissue in tissues if tissue not in measured]:
        raise TissueDataError(f"{path} has no row for {name_some(missing)}: add it.")
    if len(measured) < len(ids):
        raise TissueDataError(f"{path} gives {len(ids) - len(measured)} tissues more than once.")
    return {tissue: measured[tissue] for tissue in tissues}


def _describe(
    table: Table, rows: Sequence[int], uniprot: object
) -> tuple[tuple[Channel, ...], list[str]]:
    names = table.texts("channel_name")
    given = ChannelList.parse(uniprot, "source.uniprot").uniprot or {}
    if uniprot is not None and not isinstance(uniprot, dict):
        raise ConfigError(f"source.uniprot={uniprot!r}, wanted {{CHANNEL: ACCESSION}} or null.")
    if strange := sorted(set(given) - set(names)):
        raise ConfigError(f"source.uniprot has {strange}, but {table.path} has {names}.")
    ids = table.texts("uniprot_id") if "uniprot_id" in table.columns else [""] * len(names)
    has_nuclear = "is_nuclear_marker" in table.columns
    nuclear = table.flags("is_nuclear_marker") if has_nuclear else [None] * len(names)
    stated = {names[i]: ids[i] for i in rows if accession(ids[i])} | given
    # The table's word stands: a stain of DNA without a protein is one that the encoders never saw.
    known = (complete(names[i], stated.get(names[i]), nuclear[i]) for i in rows)
    channels = tuple(replace(channel, uniprot=stated.get(channel.name)) for channel in known)
    strange = [f"{names[i]} ({ids[i]})" for i in rows if ids[i] and not accession(ids[i])]
    notices = [f"no UniProt accession, left out: {', '.join(strange)}"] if strange else []
    return channels, notices


def _read_clips(
    path: Path, tissues: Sequence[str], names: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    table = _read_statistics(path, names, with_id=True)
    rows = {tissue: row for row, tissue in enumerate(table.texts(*_ID))}
    if missing := [tissue for tissue in tissues if tissue not in rows]:
        raise TissueDataError(
            f"{path} has no row for {name_some(missing)}: compute it again, or set "
            "source.standardization=false."
        )
    columns = [table.numbers(name) for name in names]
    return {t: {QUANTILE: [column[rows[t]] for column in columns]} for t in tissues}


def _read_moments(path: Path, names: Sequence[str]) -> list[float]:
    table = _read_statistics(path, names)
    if len(table) != 1:
        raise TissueDataError(f"{path} has {len(table)} rows, wanted one for the whole cohort.")
    values = [table.numbers(name)[0] for name in names]
    if strange := [n for n, value in zip(names, values, strict=True) if not math.isfinite(value)]:
        raise TissueDataError(
            f"{path} holds no number for {', '.join(strange[:5])}: compute it again, leave the channel "
            "out, or set source.standardization=false."
        )
    return values


def _read_statistics(path: Path, names: Sequence[str], with_id: bool = False) -> Table:
    """The columns of some channels, so that thousands of others cost nothing."""
    found = column_names(path)
    ids = [name for name in _ID if name in found][:1] if with_id else []
    return read_table(path, [*ids, *names])
