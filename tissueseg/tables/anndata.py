"""Cells as AnnData (.h5ad), as scanpy and squidpy read it: marker intensities, places, embeddings."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from tissueseg.instances.cell_table import CellTable
from tissueseg.tables.cell_columns import described
from tissueseg.tables.cell_writer import CellWriter

_INTENSITIES = ("mean", "median", "ring_mean", "ring_median")  # the first is X, others are layers
_UNKNOWN_COLOR = "#808080"


class AnnDataCells(CellWriter):
    """Writes `cells.h5ad`, with the extra `anndata`.

    X is the mean intensity of every SP channel (n × 0 without SP), `layers` hold the median and those
    of the ring. `obs` has the other columns; `type_name` is a categorical, its colours are in
    `uns["type_name_colors"]`. `obsm["spatial"]` is x and y in µm, or in pixels where the scale is not
    known: `uns["tissueseg"]["unit"]` says which. A / in a name of `obs` becomes ∕, as HDF5 has no other.

    The file is made at the end, so memory grows with the tissue, unlike other formats': some 16 bytes
    per cell and channel, 4 per number of the embedding, and 200 for the rest, twice while it is made.
    """

    file_name = "cells.h5ad"
    library = "anndata"
    _hidden: Path | None = None

    def _open(self, hidden: Path, first: CellTable) -> None:
        self._hidden = hidden
        self._parts: list[CellTable] = []

    def _write(self, part: CellTable) -> None:
        self._parts.append(CellTable(part.columns, None, part.embedding))

    def _close(self, complete: bool) -> None:
        if complete and self._hidden is not None:
            self._annotated().write_h5ad(self._hidden)
        self._parts = []

    def _annotated(self) -> Any:
        anndata, pandas = importlib.import_module("anndata"), importlib.import_module("pandas")
        columns = {
            name: np.concatenate([part.columns[name] for part in self._parts])
            for name in self._parts[0].columns
        }
        channels = [c for c in self.schema.channels if f"mean_{c}" in columns]
        layers = {kind: _taken(columns, kind, channels) for kind in _INTENSITIES}
        index = pandas.Index([str(id) for id in columns["id"].tolist()], dtype=object)
        unit = "um" if self.schema.mpp else "px"
        uns: dict[str, Any] = {"tissueseg": self._about(unit)}
        obs = {_key(name): values for name, values in columns.items()}
        if "type_name" in obs:
            names, colors = self._types(columns["type_name"])
            obs["type_name"] = pandas.Categorical(columns["type_name"], categories=names)
            uns["type_name_colors"] = np.array(colors, object)
        return anndata.AnnData(
            X=layers.pop("mean"),
            obs=pandas.DataFrame(obs, index=index),
            var=pandas.DataFrame(index=pandas.Index(channels, dtype=object)),
            layers=layers if channels else None,
            obsm=self._places(columns, unit),
            uns=uns,
        )

    def _places(self, columns: dict[str, np.ndarray], unit: str) -> dict[str, np.ndarray]:
        places = {"spatial": np.stack([columns[f"x_{unit}"], columns[f"y_{unit}"]], axis=1)}
        if self.schema.embedding_width:
            parts = [part.embedding for part in self._parts if part.embedding is not None]
            places["embedding"] = np.concatenate(parts).astype(np.float32, copy=False)
        return places

    def _types(self, found: np.ndarray) -> tuple[list[str], list[str]]:
        """Categories, those of the run first, and the colour of each."""
        colors = {name: color for _, name, color in self.schema.types}
        colors |= dict.fromkeys(sorted(set(found.tolist()) - set(colors)), _UNKNOWN_COLOR)
        return list(colors), list(colors.values())

    def _about(self, unit: str) -> dict[str, Any]:
        said = described(self.schema)
        about = {_key(key): value for key, value in self.schema.about.items()}
        kept = {key: said[key] for key in ("version", "tissue", "mpp") if said[key] is not None}
        return kept | {"unit": "µm" if unit == "um" else unit, "about": about}


def _key(name: str) -> str:
    return name.replace("/", "∕")


def _taken(columns: dict[str, np.ndarray], kind: str, channels: list[str]) -> np.ndarray:
    """(n, channels) float32: the columns of one kind of intensity, which leave `columns`."""
    taken = [columns.pop(f"{kind}_{channel}") for channel in channels]
    return np.array(taken, np.float32).reshape(len(taken), len(columns["id"])).T.copy()
