"""What commands leave when they are ended at any moment: each file whole or absent, and the same end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from folders import same_files, shown
from PIL import Image
from stopped_runs import assert_same_run

from tissueseg.contracts import Modality
from tissueseg.modules.checkpoint import load_decoder
from tissueseg.modules.state_files import StateFiles
from tissueseg.store.embeddings import EmbeddingStore, State
from tissueseg.store.tissues import TissueStore

WHOLE = "whole"
"""Folder, beside those of others, of the command that was never disturbed."""


def readable_run(folder: Path) -> None:
    """Every file of a run that has a reader is absent or whole."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        read = READERS.get(path.suffix)
        assert read is None or read(path), path
    if (folder / "decoder.ckpt").exists():
        load_decoder(folder / "decoder.ckpt")
    states = StateFiles(folder / "state")
    newest, damaged = states.recover()
    assert damaged == []
    if newest:
        states.load_checkpoint(newest)


def whole_table(path: Path) -> bool:
    """Whether a CSV file ends with a line as long as its others."""
    text = path.read_text()
    return text.endswith("\n") and len({len(row) for row in csv.reader(io.StringIO(text))}) == 1


def whole_arrays(path: Path) -> bool:
    with np.load(path) as arrays:
        return all(len(arrays[name]) for name in arrays.files)


READERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_text()),
    ".yaml": lambda path: yaml.safe_load(path.read_text())["trainer"],
    ".csv": whole_table,
    ".npz": whole_arrays,
    ".npy": lambda path: np.load(path).ndim == 3,
    ".png": lambda path: Image.open(path).load(),
}


def same_run(folder: Path, whole: Path) -> None:
    """The same numbers, in the same files, and nothing beside them."""
    assert_same_run(folder, whole)
    assert names_in(folder) == names_in(whole)


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def readable_features(folder: Path) -> None:
    """What reads as complete is what it was when nothing was killed."""
    cohort = TissueStore(folder.parent.parent / "cohort.zarr")
    for path in folder.glob("[!.]*.zarr"):
        store = EmbeddingStore(path)
        for tissue in cohort.tissues:
            state = store.state(tissue, cohort.image_digests(tissue, Modality.HE))
            if state == State.COMPLETE and folder.name != WHOLE:
                assert same_files(path / tissue, folder.with_name(WHOLE) / path.name / tissue)


def same_features(folder: Path, whole: Path) -> None:
    (made,), (store,) = (f.glob("[!.]*.zarr") for f in (folder, whole))
    for tissue in shown(store):  # the root says by which command it was made
        assert tissue == "zarr.json" or same_files(made / tissue, store / tissue)
    assert names_in(made) == names_in(store)
    assert not [*folder.glob(".*.work/tissues/*")]
    assert shown(folder) == shown(whole)


def readable_cells(folder: Path) -> None:
    """A tissue that has a name is that of a command that nothing disturbed."""
    for name in shown(folder):
        stamp = json.loads((folder / name / "prediction.json").read_text())
        assert stamp["summary"]["tissue"] == name
        if folder.name != WHOLE:
            same_cells(folder / name, folder.with_name(WHOLE) / name)


def same_cells(tissue: Path, whole: Path) -> None:
    """But for when and by which commit they were made."""
    assert names_in(tissue) == names_in(whole)
    assert (tissue / "cells.csv").read_bytes() == (whole / "cells.csv").read_bytes()
    shapes, others = (json.loads((f / "cells.geojson").read_text()) for f in (tissue, whole))
    assert len(shapes["features"]) > 5
    assert shapes["features"] == others["features"]
    assert same_files(tissue / "labels.ome.zarr", whole / "labels.ome.zarr")


def same_tissues(folder: Path, whole: Path) -> None:
    assert names_in(folder) == names_in(whole)
