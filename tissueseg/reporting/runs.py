"""A run folder: made once, never reused, and the only thing that later commands read of a run."""

from __future__ import annotations

import errno
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from tissueseg import __version__
from tissueseg.config import CONFIG_DIR, own_packages
from tissueseg.errors import RunFolderError, TissuesegError, in_one_line

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
METRICS = "metrics.json"
COST = "cost.json"
DECODER = "decoder.ckpt"
ENCODER = "encoder.safetensors"
PANELS = "panels"
STATE = "state"

BEGUN_WITH_OTHER = "was begun with other"
"""Words of the refusal to go on with a run, by which a study knows that it must begin anew."""
CONFUSION = {"val": "confusion.npy", "test": "confusion_test.npy"}

_DISK = {
    getattr(errno, name)
    for name in ["ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EIO", "ENOENT", "ESTALE", "EACCES"]
}

_PACKAGES = ("torch", "lightning", "torchmetrics", "numpy", "scipy", "zarr", "hydra-core", "wandb")


def check_writable(folder: Path, key: str = "run_dir") -> None:
    """Refuse a place where no folder can be made, before anything expensive happens.

    Args:
        folder: that is to be made.
        key: of the option that names it.

    Raises:
        RunFolderError: naming what stands in its way.
    """
    ancestor = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not ancestor.is_dir() or not os.access(ancestor, os.W_OK | os.X_OK):
        raise RunFolderError(
            f"{key}={folder}: {ancestor} is no folder that can be written to. Choose another {key}."
        )


def make_run_folder(wanted: Path) -> Path:
    """Make a new folder; a taken name gets a number, so that no run overwrites another."""
    for number in range(1, 10_000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunFolderError(f"run_dir={wanted}: {error}. Choose another run_dir.") from error
        return folder
    raise RunFolderError(
        f"run_dir={wanted}: ten thousand runs of this name. Choose another run_dir."
    )


def open_run_folder(folder: Path) -> Path:
    """Check that a folder is a run's.

    Raises:
        RunFolderError: it is missing or holds no config.yaml.
    """
    if not (folder / CONFIG).is_file():
        raise RunFolderError(
            f"run={folder} holds no {CONFIG}: give the folder that `train` printed."
        )
    return folder


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write atomically; NaN becomes null."""
    text = json.dumps(_without_nan(content), indent=1, ensure_ascii=False) + "\n"
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the name of a file when the block ends well."""
    partial = path.with_name(f"{path.name}.partial")
    yield partial
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote.

    Raises:
        RunFolderError: missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} is missing or damaged: {in_one_line(error)}.") from error


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Say of a run's folder what the disk says, in place of a traceback.

    Raises:
        RunFolderError: the disk is full, the folder is gone, …
    """
    try:
        yield
    except TissuesegError:
        raise
    except OSError as error:
        if error.errno not in _DISK:
            raise
        begun = (folder / CONFIG).is_file()
        then = f"and go on with resume={folder}" if begun else "and start the same command again"
        raise RunFolderError(
            f"{folder} cannot be written to ({in_one_line(error)}): what was written before is kept. "
            f"Mend that, {then}."
        ) from error


def save_confusion(folder: Path, side: str, counts: np.ndarray) -> None:
    """Write the counts (n_tissues, n, n) [tissue, truth, prediction] of one side."""
    with written_whole(folder / CONFUSION[side]) as partial, partial.open("wb") as file:
        np.save(file, counts, allow_pickle=False)


def environment() -> dict[str, Any]:
    """What ran, on what: code, packages, machine."""
    import torch  # here, not above: reading runs needs no torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "tissueseg": __version__,
        "commit": _commit(),
        "command": sys.argv,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in (*_PACKAGES, *own_packages())},
        "machine": {
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpus": gpus,
        },
    }


def _commit() -> str | None:
    """Commit of the checkout, with a mark when it has been changed since; None for a wheel."""
    if not (CONFIG_DIR.parent / ".git").exists():
        return None
    command = [
        "git",
        "-C",
        str(CONFIG_DIR.parent),
        "describe",
        "--always",
        "--abbrev=12",
        "--dirty",
    ]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
