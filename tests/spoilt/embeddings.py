"""What a user may ask of `embed` by mistake, and what the one line says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from stores import random_tissue, write_store

AWAY = "embeddings.path="


class Mistake(NamedTuple):
    """Words of the command line, what they must be answered by, and what lies in the folder."""

    words: tuple[str, ...]
    says: tuple[str, ...]
    spoil: Callable[[Path], object] = Path.resolve  # by itself, nothing is spoilt


def file_in_the_way(folder: Path) -> None:
    (folder / "file").write_text("not a folder")


def empty_folder(folder: Path) -> None:
    (folder / "empty.zarr").mkdir()


def tissue_store(folder: Path) -> None:
    write_store(folder / "tissues.zarr", {"t": random_tissue()})


def damaged_store(folder: Path) -> None:
    (folder / "damaged.zarr").mkdir()
    (folder / "damaged.zarr/zarr.json").write_text('{"zarr_format": 3, "node_type"')


def dangling_link(folder: Path) -> None:
    (folder / "link").symlink_to("/proc/nowhere")


def nothing_writable(folder: Path) -> None:
    (folder / "locked").mkdir()
    (folder / "locked").chmod(0o500)


MISTAKES = {
    "views": Mistake(("views=3",), ("views.dihedral=3", "1, 4 (rotations) or 8")),
    "no views": Mistake(("views=0",), ("views.dihedral=0",)),
    "views in words": Mistake(("views=all",), ("views.dihedral='all'",)),
    "fewer than no extra views": Mistake(("views.extra=-1",), ("views.extra=-1", "0 … 64")),
    "an option of no view": Mistake(("views.exta=1",), ("views.exta",)),
    "every channel dropped": Mistake(("views.sp_dropout=1",), ("views.sp_dropout=1", "p < 1")),
    "a number type": Mistake(
        ("embeddings.dtype=int8",), ("embeddings.dtype=int8", "float16, bfloat16, float32")
    ),
    "a codec": Mistake(("embeddings.codec=lz4",), ("embeddings.codec=lz4", "none, zstd")),
    "a check": Mistake(("embeddings.check=maybe",), ("embeddings.check=maybe", "strict, match")),
    "no options": Mistake(
        ("embeddings=null",), ("embeddings=None", "path, check, dtype and codec")
    ),
    "where features come from": Mistake(
        ("features=sometimes",), ("features=sometimes", "auto, online, stored")
    ),
    "on_error": Mistake(("on_error=never",), ("on_error=never", "stop or skip")),
    "no threads": Mistake(("threads=0",), ("threads=0", "at least 1")),
    "threads in words": Mistake(("threads=many",), ("threads=many", "whole number")),
    "half a thread": Mistake(("threads=1.5",), ("threads=1.5", "whole number")),
    "an empty batch": Mistake(("batch_size=0",), ("batch_size=0", "at least 1")),
    "nothing ahead": Mistake(("data.prefetch=0",), ("data.prefetch=0", "at least 1")),
    "a shuffle": Mistake(("data.shuffle=some",), ("data.shuffle=some", "full, shard")),
    "a precision": Mistake(("trainer.precision=8",), ("trainer.precision=8", "32-true")),
    "an edge": Mistake(("data.eval_edge=cut",), ("edge='cut'", "pad, shift, drop")),
    "a tile": Mistake(("data.tile_px=30",), ("data.tile_px=30", "Choose 24 or 32")),
    "a bucket": Mistake((f"{AWAY}s3://bucket/x.zarr",), ("s3://bucket/x.zarr", "a local folder")),
    "a file in the way": Mistake((f"{AWAY}file",), ("file", "cannot be written"), file_in_the_way),
    "a file as a folder": Mistake(
        (f"{AWAY}file/deep/x.zarr",), ("file/deep/x.zarr", "cannot be written"), file_in_the_way
    ),
    "an empty folder": Mistake(
        (f"{AWAY}empty.zarr",), ("empty.zarr", "a path that is free"), empty_folder
    ),
    "a tissue store": Mistake(
        (f"{AWAY}tissues.zarr",), ("tissues.zarr", "holds no stored features"), tissue_store
    ),
    "a damaged store": Mistake(
        (f"{AWAY}damaged.zarr",), ("damaged.zarr", "a path that is free"), damaged_store
    ),
    "a link to nowhere": Mistake((f"{AWAY}link/x.zarr",), ("cannot be written",), dangling_link),
    "a tissue store that is gone": Mistake(("store.path=none.zarr",), ("none.zarr",)),
    "an unknown option": Mistake(("embeddings.level=9",), ("embeddings.level",)),
}

if os.geteuid():  # whoever may do anything can write anywhere
    MISTAKES["a folder of others"] = Mistake(
        (f"{AWAY}locked/x.zarr",), ("locked/x.zarr", "Permission denied"), nothing_writable
    )
