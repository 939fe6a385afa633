"""From a panel's channels to the protein vectors by which VirTues knows them.

A channel's protein is what its store states, else what its name says: a stain of DNA, or a name in
`marker_names.csv`. Names match whole, after spelling is evened out, and never in part: CD3 is not CD31.
What has no vector is refused unless the user says to leave it out, so no channel is lost unseen.
"""

from __future__ import annotations

import csv
import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tissueseg.config import BUILTIN
from tissueseg.contracts import Channel, Markers
from tissueseg.errors import ConfigError, SpecMismatchError, WeightsError, WeightsNotFoundError
from tissueseg.store.sources.channels import DNA_UNIPROT

if TYPE_CHECKING:
    from torch import Tensor

_WANTED = (
    "markers.table=<file.safetensors or folder of <UniProt>.pt> with one ESM-2 vector "
    "(esm2_t30_150M_UR50D, 640 wide) per protein"
)
_CHOICES = {"unmatched": ("refuse", "drop"), "duplicates": ("refuse", "first", "all")}
_GREEK = {
    "alpha": "a", "beta": "b", "gamma": "g", "delta": "d", "epsilon": "e", "zeta": "z",
    "kappa": "k", "lambda": "l", "α": "a", "β": "b", "γ": "g", "δ": "d", "ε": "e", "ζ": "z",
    "κ": "k", "λ": "l",
}  # fmt: skip
_LETTER = re.compile("|".join(_GREEK))
# After `normalised`: stains, IMC's iridium intercalators, and histone H3 itself, all with cycle numbers.
_NUCLEAR = re.compile(
    r"(19[13]ir)?(dapi|hoechst|(ds)?dna|draq[57]|syto|syto[xz](green|orange|blue|red)?|nucblue|"
    r"propidiumiodide|(dna)?intercalator|iridium|histoneh3|hh3|h3)[\d-]*(ir(19[13])?)?"
    r"|19[13]ir|ir19[13]"
)


class Match(NamedTuple):
    """What a channel was taken for."""

    channel: Channel
    uniprot: str | None  # accession, None: nothing known by this name
    how: str  # "stated", "alias of CD3E", "nuclear stain", "canonical P08575 for P08575-4", …
    known: bool  # whether the table has a vector for it
    key: str | None  # under which the table has it


@dataclass(frozen=True)
class MarkerTable:
    """A table of protein vectors, and what to do with channels that it cannot serve.

    Args:
        path: `.safetensors` with one 1-D tensor per UniProt id, its `hf://` address, or a folder of
            `<UniProt>.pt`; None is refused when the table is needed.
        unmatched: `refuse` channels without a vector, or `drop` them from what the encoder sees.
        duplicates: `refuse` channels of one protein, keep the `first` of them, or `all`.

    Raises:
        ConfigError: another option.
    """

    path: str | None
    unmatched: str = "refuse"
    duplicates: str = "refuse"

    def __post_init__(self) -> None:
        for key, choices in _CHOICES.items():
            if (value := getattr(self, key)) not in choices:
                raise ConfigError(f"markers.{key}={value}: choose from {', '.join(choices)}.")

    def __call__(self, panel: tuple[Channel, ...]) -> Markers:
        """Look up a panel.

        Raises:
            SpecMismatchError: channels without a vector or of one protein, and nobody said what to do.
            WeightsError: no table, or vectors of it that cannot be used.
        """
        table = self._open()
        matches = [_match(channel, table.has) for channel in panel]
        self._refuse_unmatched(matches)
        kept = [i for i, match in enumerate(matches) if match.known]
        if not kept:
            raise SpecMismatchError(
                f"none of the panel's {len(panel)} channels has a vector in {table.name}: state their "
                "UniProt ids when preparing the store, or give a table that holds these proteins."
                f"{self._hint}"
            )
        kept = self._without_duplicates(matches, kept)
        keys = [key for i in kept if (key := matches[i].key) is not None]
        return Markers(tuple(kept), _stacked(keys, table), _notes(matches, kept))

    def matches(self, panel: tuple[Channel, ...]) -> list[Match]:
        """What every channel is taken for; nothing is refused but a table that cannot be read."""
        table = self._open()
        return [_match(channel, table.has) for channel in panel]

    def _open(self) -> _Vectors:
        if self.path is None:
            raise WeightsError(f"no table of protein vectors was given: set {_WANTED}.")
        return _open(str(self.path))

    def _refuse_unmatched(self, matches: Sequence[Match]) -> None:
        lost = [
            f"{_name(m.channel)} ({m.uniprot} has no vector)" if m.uniprot else _name(m.channel)
            for m in matches
            if not m.known
        ]
        if lost and self.unmatched == "refuse":
            raise SpecMismatchError(
                f"channels without a vector in markers.table={self.path}: {_counted(lost)}. State their "
                "UniProt ids when preparing the store, or set markers.unmatched=drop to leave these "
                f"channels out of the encoder.{self._hint}"
            )

    @property
    def _hint(self) -> str:
        """What to do where the demo's own table was not meant."""
        if not str(self.path).startswith(BUILTIN):
            return ""
        return (
            " That table is the demo's: for a panel of your own choose encoder=virtues with its weights "
            "and markers.table, one that you pre-train (python -m tissueseg.pretrain), or encoder=tiny."
        )

    def _without_duplicates(self, matches: Sequence[Match], kept: list[int]) -> list[int]:
        groups: dict[str | None, list[int]] = {}
        for i in kept:
            groups.setdefault(matches[i].key, []).append(i)
        several = {key: group for key, group in groups.items() if len(group) > 1}
        if several and self.duplicates == "refuse":
            listed = "; ".join(
                f"{_counted([_name(matches[i].channel) for i in group])} = {key}"
                for key, group in several.items()
            )
            raise SpecMismatchError(
                f"several channels show one protein: {listed}. Leave all but one out when preparing the "
                "store, or set markers.duplicates=first or all."
            )
        return [g[0] for g in groups.values()] if self.duplicates == "first" else kept


def normalised(name: str) -> str:
    """Even out spelling: case, separators, signs and Greek letters, spelled out or not.

    A separator between two digits stays one (`CK8/18` is `ck8-18`): without it CD3_1 would read CD31.
    """
    text = unicodedata.normalize("NFKC", name.replace("ß", "β")).casefold()
    text = _LETTER.sub(lambda found: _GREEK[found[0]], text)

    def joined(found: re.Match[str]) -> str:
        before, after = text[: found.start()][-1:], text[found.end() :][:1]
        return "-" if before.isdigit() and after.isdigit() else ""

    return re.sub(r"[\W_]+", joined, text)


@functools.cache
def aliases() -> dict[str, tuple[str, str]]:
    """Normalised name -> (UniProt id, gene), from `marker_names.csv`.

    Genes and accessions are HGNC's and UniProt's (human, reviewed). Where a marker is no one protein the
    table follows VirTues: Pan-CK is KRT14, CD15 the enzyme FUT4, CD57 B3GAT1, HLA-DR its alpha chain.
    """
    found = {}
    with files("tissueseg.data").joinpath("marker_names.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            names = row["names"].split(";") if row["names"] else []
            if "-" not in row["uniprot"]:  # a gene's own name stands for its canonical protein
                names.append(row["gene"])
            found |= {normalised(name): (row["uniprot"], row["gene"]) for name in names}
    return found


def _protein(channel: Channel) -> tuple[str | None, str]:
    """UniProt id of a channel, and how it is known."""
    if channel.uniprot:
        return channel.uniprot, "stated"
    name = normalised(channel.name)
    if _NUCLEAR.fullmatch(name):
        return DNA_UNIPROT, "nuclear stain"
    if found := aliases().get(name):
        return found[0], f"alias of {found[1]}"
    # Last, since a nuclear protein such as Ki67 may be marked as nuclear too and is no stain of DNA.
    return (DNA_UNIPROT, "nuclear stain") if channel.nuclear else (None, "no such name")


def _match(channel: Channel, has: Callable[[str], bool]) -> Match:
    uniprot, how = _protein(channel)
    if uniprot is None or has(uniprot):
        return Match(channel, uniprot, how, uniprot is not None, uniprot)
    canonical = uniprot.partition("-")[0]
    if canonical != uniprot and has(canonical):
        return Match(
            channel, uniprot, f"{how}, canonical {canonical} for {uniprot}", True, canonical
        )
    return Match(channel, uniprot, how, False, None)


class _Vectors(NamedTuple):
    """An opened table."""

    name: str
    has: Callable[[str], bool]
    get: Callable[[str], Tensor]


def _open(path: str) -> _Vectors:
    from tissueseg.tensorfile import fetch, read_tensors

    local = Path(path).expanduser()
    if "://" in path:
        local = fetch(path)
    if not local.exists():
        raise WeightsNotFoundError(f"no table of protein vectors at {local}: set {_WANTED}.")
    if local.is_dir():
        return _open_folder(local)
    tensors = read_tensors(str(local)).tensors
    if set(tensors) == {""}:
        raise WeightsError(f"{local} holds one vector without a name: give the folder it lies in.")
    return _Vectors(path, tensors.__contains__, tensors.__getitem__)


def _open_folder(folder: Path) -> _Vectors:
    from tissueseg.tensorfile import read_tensors

    names = {file.stem for file in folder.glob("*.pt")}
    if not names:
        raise WeightsError(f"{folder} holds no <UniProt>.pt: set {_WANTED}.")

    def get(key: str) -> Tensor:
        tensors = list(read_tensors(str(folder / f"{key}.pt")).tensors.values())
        if len(tensors) != 1:
            raise WeightsError(
                f"{folder / key}.pt holds {len(tensors)} tensors, wanted one vector: compute it anew."
            )
        return tensors[0]

    return _Vectors(str(folder), names.__contains__, get)


def _stacked(keys: Sequence[str], table: _Vectors) -> np.ndarray:
    """(n, width) float32, in the order of the keys."""
    vectors = {key: table.get(key) for key in dict.fromkeys(keys)}
    for key, vector in vectors.items():
        if not vector.is_floating_point():
            raise WeightsError(f"{table.name}: {key} holds {vector.dtype}, wanted floating point.")
        if vector.ndim != 1 or not vector.numel():
            raise WeightsError(
                f"{table.name}: {key} has shape {list(vector.shape)}, wanted one vector: set {_WANTED}."
            )
        if not vector.isfinite().all():
            raise WeightsError(
                f"{table.name}: {key} holds values that are not finite: compute its vector anew."
            )
    first, *others = vectors
    for key in others:
        if len(vectors[key]) != len(vectors[first]):
            raise WeightsError(
                f"{table.name}: {first} is {len(vectors[first])} wide and {key} {len(vectors[key])}: "
                "all vectors of a table must come from one model."
            )
    return np.stack([vectors[key].float().numpy() for key in keys])


def _notes(matches: Sequence[Match], kept: Sequence[int]) -> tuple[str, ...]:
    """Channels left out, and those whose protein is not simply what the store states."""
    out = [_name(m.channel) for i, m in enumerate(matches) if i not in kept]
    taken = [
        f"{_name(m.channel)} -> {m.key} ({m.how})"
        for m in (matches[i] for i in kept)
        if m.how != "stated"
    ]
    lost = (f"left out of the encoder: {_counted(out)}",) if out else ()
    return (*lost, *((f"taken by name: {', '.join(taken)}",) if taken else ()))


def _name(channel: Channel) -> str:
    return " ".join(channel.name.split()) or "(no name)"


def _counted(names: Sequence[str]) -> str:
    return ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in Counter(names).items())
