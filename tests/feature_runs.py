"""What tests of stored features share: a cohort and its words, small weights, what a run left."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from published import write_published
from safetensors.torch import save_file
from stores import TINY, three_tissues, write_store

from tissueseg.store.planes import Tissue
from tissueseg.tensorfile import read_tensors

WORDS = (*TINY, "store.path=cohort.zarr", "modality=he")
"""Of every command, started in the folder of the cohort."""

WEIGHTED = ("encoder=cellvit_256", "encoder.levels=[1,2,3,4]", "encoder.heads=2")
"""The options of an encoder that loads `write_weights`."""


def write_cohort(folder: Path, tissues: Mapping[str, Tissue] | None = None, **options: Any) -> Path:
    """Write `cohort.zarr`, over what is there, and go to no trouble where nothing is asked for."""
    given = {"overwrite": True} | options
    return write_store(folder / "cohort.zarr", tissues or three_tissues(), **given).path


def write_weights(path: Path, seed: int) -> str:
    """A small ViT of some seed; what names it on the command line."""
    scratch = path.with_suffix(".folder")
    scratch.mkdir()
    tensors = read_tensors(str(write_published(scratch).cellvit)).tensors
    draw = torch.Generator().manual_seed(seed)
    state = {
        name.removeprefix("encoder."): value + 0.1 * torch.randn(value.shape, generator=draw)
        for name, value in tensors.items()
        if name.startswith("encoder.")
    }
    save_file(state, path)
    return f"encoder.weights={path}"


def feature_store(folder: Path) -> Path:
    """The only store of features there is."""
    (found,) = (folder / "cohort_embeddings").glob("[!.]*.zarr")
    return found


def encoded(out: str) -> list[str]:
    """Tissues that a command says it is encoding."""
    lines = (line.split() for line in out.splitlines() if line.startswith("encoding "))
    return [name for _, name, *_ in lines]


def error_line(result: Any) -> str:
    """The one line of a command that was refused."""
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert result.err.startswith("error: ")
    return result.err


def epochs(run: Path) -> list[dict[str, float]]:
    """Every number of every epoch."""
    with (run / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
