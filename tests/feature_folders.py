"""Folders of small stores of features, made from a tissue store as `embed` makes them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from stores import three_tissues, write_store

from tissueseg.contracts import EncoderSpec, Modality
from tissueseg.store.embedding_writer import EmbeddingWriter, Grid, create_store, work_folder
from tissueseg.store.embeddings import ATTRIBUTE
from tissueseg.store.fingerprint import fingerprint
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore

SPEC = EncoderSpec("made_up", (Modality.SP,), (5, 5, 5, 5), 8)
GRID = Grid(4, 2, 3, 5)
TILES = 3

DYING = """
import os, sys
from pathlib import Path
from tissueseg.store.claims import Claims

assert Claims(Path(sys.argv[1])).take(sys.argv[2])
os._exit(1)
"""


def write_cohort(path: Path, tissues: Mapping[str, Tissue] | None = None) -> TissueStore:
    """Tissues a, b and c unless told otherwise, over what is there."""
    return write_store(path, tissues or three_tissues(), overwrite=True)


def write_features(
    folder: Path, cohort: TissueStore, tissues: Sequence[str] = ("a", "b"), seed: int = 0
) -> Path:
    """A store of SP features, called as `embed` calls it."""
    fields: dict[str, Any] = {
        "modality": "sp",
        "files": {"encoder.weights": f"{seed:064x}"},
        "tiling": {"tile_px": 16},
        "views": {"dihedral": 1, "extra": 0},
        "dtype": "float16",
        "precision": "32-true",
    }
    path = folder / f"made_up-sp-{fingerprint(fields)[:8]}.zarr"
    made = {"store": str(cohort.path.resolve())}
    with EmbeddingWriter(create_store(path, fields, SPEC, GRID, made)) as writer:
        for tissue in tissues:
            attempt = writer.begin(tissue, TILES)
            assert attempt is not None
            attempt.put(0, np.ones((TILES, 1, *GRID), np.float16))
            attempt.publish(cohort.image_digests(tissue, Modality.SP)).result()
    return path


def leave_attempt(store: Path, tissue: str) -> Path:
    """What a worker leaves that was killed at a tissue: a claim, and half of an array."""
    claims = str(work_folder(store) / "claims")
    command = [sys.executable, "-c", DYING, claims, tissue]
    assert subprocess.run(command, check=False).returncode == 1
    attempt = work_folder(store) / "tissues" / tissue / ("0" * 32)
    attempt.mkdir(parents=True)
    (attempt / "shard").write_bytes(bytes(1000))
    return attempt


def disk_bytes(folder: Path) -> int:
    """Of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _lose_metadata(path: Path) -> None:
    (path / "zarr.json").unlink()


def _cut_metadata(path: Path) -> None:
    os.truncate(path / "zarr.json", 40)


def _change(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        group = zarr.open_group(path, mode="r+")
        about: Any = group.attrs[ATTRIBUTE]
        change(about)
        group.attrs[ATTRIBUTE] = about

    return apply


DAMAGES: dict[str, Callable[[Path], None]] = {
    "metadata lost": _lose_metadata,
    "metadata cut short": _cut_metadata,
    "fields changed": _change(lambda about: about["fields"].update(dtype="float32")),
    "spec lost": _change(lambda about: about.pop("spec")),
}
"""Ways a store of features is damaged."""

newer = _change(lambda about: about.update(schema=2))
"""Make a store one of another version."""
