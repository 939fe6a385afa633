"""The small files of a run folder, read and checked: what is broken is one line that names the file."""

from __future__ import annotations

import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tissueseg.errors import RunFolderError, in_one_line
from tissueseg.forms import require
from tissueseg.reporting.records import run_forms
from tissueseg.store.reading.yaml_text import load_yaml

_Read = TypeVar("_Read")
_TO_DO = "Copy the run's folder again, or leave it out."
_BROKEN = (
    OSError,
    ValueError,
    TypeError,
    EOFError,
    MemoryError,
    OverflowError,
    RecursionError,
    NotImplementedError,  # zipfile's, of a way of packing
    RuntimeError,  # and of a password
    SyntaxError,  # numpy's, of a header
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def read(path: Path, load: Callable[[Path], _Read]) -> _Read:
    """What a function makes of a file.

    Raises:
        RunFolderError: it is missing, broken or not what was wanted.
    """
    try:
        return load(path)
    except KeyError as error:
        raise RunFolderError(f"{path} holds no {error}. {_TO_DO}") from error
    except _BROKEN as error:
        raise RunFolderError(f"{path} cannot be read: {in_one_line(error)}. {_TO_DO}") from error


def json_of(path: Path) -> dict[str, Any]:
    """A JSON object."""
    return _mapping(json.loads(path.read_text(encoding="utf-8")))


def yaml_of(path: Path) -> dict[str, Any]:
    """A YAML mapping."""
    return _mapping(load_yaml(path))


def config_of(path: Path) -> dict[str, Any]:
    """`config.yaml`."""
    found = yaml_of(path)
    require(found, run_forms.CONFIG)
    return found


def environment_of(path: Path) -> dict[str, Any]:
    """`environment.json`."""
    found = json_of(path)
    require(found, run_forms.ENVIRONMENT)
    return found


def cost_of(path: Path) -> dict[str, Any]:
    """`cost.json`."""
    found = json_of(path)
    require(found, run_forms.COST)
    return found


def metrics_of(path: Path, *sides: str) -> dict[str, Any]:
    """`metrics.json`, of `train` or of `evaluate`, with the scores of some sides."""
    found = json_of(path)
    require(found, run_forms.METRICS | dict.fromkeys(sides, run_forms.SIDE))
    return found | {"run": str(found["run"]), "classes": [str(name) for name in found["classes"]]}


def job_of(path: Path) -> dict[str, Any]:
    """What a sweep noted of a run, whose name tells which; it holds no score, so it may be broken."""
    arm, _, label = path.stem.rpartition(".")
    said = {"arm": arm, "label": label, "state": "unknown: the record is broken"}
    try:
        found = said | json_of(path)
        require(found, run_forms.JOB)
        Path(found["arm"], found["label"]).resolve()
    except (OSError, ValueError, RecursionError):
        return said
    return found


def history_of(path: Path) -> dict[str, np.ndarray]:
    """Name -> (epochs,) of an `.npz`."""
    # Opened here, for numpy leaves a broken archive open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        found = {name: np.asarray(arrays[name]) for name in arrays.files}
    shapes = {name: values.shape for name, values in found.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise ValueError(f"arrays of one length were wanted, but it holds {shapes}")
    if odd := [name for name, values in found.items() if values.dtype.kind not in "biuf"]:
        raise ValueError(f"numbers were wanted, but {odd[0]} holds {found[odd[0]].dtype}")
    return found


def counts_of(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers of a shape, of an `.npy`."""
    # Mapped first: a header may promise more than memory holds.
    counts = np.load(path, mmap_mode="r", allow_pickle=False)
    if counts.shape != shape or counts.dtype.kind not in "iu":
        said = f"{counts.dtype} {counts.shape}"
        raise ValueError(f"whole numbers {shape} were wanted, but it holds {said}")
    return np.array(counts)


def _mapping(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ValueError(f"a mapping was wanted, but it holds {type(found).__name__}")
    return found
