"""A finished run opened again: its configuration, brought up to date, and where its files lie now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tissueseg.errors import ConfigError
from tissueseg.numbers import check_whole
from tissueseg.reporting import runs
from tissueseg.run_config import read_config, require_options

ACCELERATORS = ("cpu", "gpu", "cuda", "auto")

_BEFORE = {
    "views": {"dihedral": 1, "extra": 0},
    "embeddings": {"path": None, "dtype": "float16", "codec": "none"},
    "data": {"shuffle": "full", "drop_last": False},
    "sampling": {"_target_": "tissueseg.data.chances.Natural"},
    "augmentation": {"_target_": "tissueseg.data.augment.Augmentation"},
    "finetune": {"blocks": 0, "lora": None},
    "ema": None,
}
"""What runs from before features could be stored do not say."""

_RENAMED = {
    "tissueseg.losses.boundary.BoundaryBCE": {
        "_target_": "tissueseg.losses.binary_cross_entropy.BinaryCrossEntropy",
        "head": "boundary",
    },
}
"""Losses of saved configurations that have another name now."""

_TAKEN_TO = {"markers.table": ("encoder.markers.path", "encoder.sp.markers.path")}
"""Options that a saved configuration repeats where they are used."""

_GROUPS = ("trainer", "data", "store", "encoder", "decoder", "loss", "loss.terms")
"""What every run is configured by."""


def run_folder(config: DictConfig) -> Path:
    """The folder that `run` names.

    Raises:
        ConfigError: it names none.
        RunFolderError: the folder is no run's.
    """
    if OmegaConf.is_missing(config, "run"):
        raise ConfigError("give run=<run folder> on the command line: the folder `train` printed.")
    check_path("run", config.run)
    return runs.open_run_folder(Path(config.run))


def check_path(key: str, value: Any, optional: bool = False) -> None:
    """Refuse what is no path, such as a number without quotes.

    Raises:
        ConfigError: naming the option.
    """
    if not (isinstance(value, str) and value) and not (optional and value is None):
        raise ConfigError(
            f"{key}={value}: wanted a path{' or null' if optional else ''} (in quotes where it looks "
            "like a number)."
        )


def check_command(config: DictConfig) -> None:
    """Refuse options of a command on a finished run that have the wrong form.

    Raises:
        ConfigError: naming the first of them.
    """
    for key in ("store", "data", "encoder", "markers", "trainer"):
        if not OmegaConf.is_dict(config.get(key)):
            raise ConfigError(f"{key}={config.get(key)}: wanted options, such as {key}.…=…")
    check_path("store.path", config.store.path, optional=True)
    check_path("out", config.out, optional=True)
    check_whole("data.batch_size", config.data.batch_size, 1)
    if config.trainer.accelerator not in ACCELERATORS:
        raise ConfigError(
            f"trainer.accelerator={config.trainer.accelerator} is unknown: choose from "
            f"{', '.join(ACCELERATORS)}."
        )


def trained_config(config: DictConfig, folder: Path) -> tuple[DictConfig, str]:
    """A run's configuration, with what a command says of machine, data and panels on top.

    Args:
        config: of the command.
        folder: of the run.

    Returns:
        The configuration, and the precision it was trained with.

    Raises:
        RunFolderError: the run's own configuration is broken.
    """
    trained = read_config(folder)
    require_options(trained, folder, *_GROUPS)
    precision = trained.trainer.precision
    trained.trainer = OmegaConf.to_container(config.trainer, resolve=True)
    said: dict[str, Any] = {k: config[k] for k in ("panels", "features") if k in config}
    said["data"] = {k: v for k, v in config.data.items() if v is not None}
    if "embeddings" in config:
        said["embeddings"] = {"check": config.embeddings.check}
        if config.embeddings.path is not None or config.store.path is not None:
            said["embeddings"]["path"] = config.embeddings.path
    if config.store.path is not None:
        said["store"] = {"path": config.store.path}
    if "weights" in trained.decoder:
        trained.decoder.weights = None  # training began with them; decoder.ckpt has what came of it
    trained.pop("augmentation", None)  # tiles are scored as they stand
    _take_moved(config, trained)
    require_options(trained, folder, *(f"loss.terms.{name}.loss" for name in trained.loss.terms))
    for term in trained.loss.terms.values():
        term.loss.update(_RENAMED.get(term.loss.get("_target_"), {}))
    merged = OmegaConf.merge(_BEFORE, trained, said)
    assert isinstance(merged, DictConfig)
    return merged, precision


def _take_moved(config: DictConfig, trained: DictConfig) -> None:
    """Where weights and marker vectors lie now; their sha256 tells whether they are the same."""
    for key in ("encoder.weights", "encoder.he.weights", "encoder.sp.weights", "markers.table"):
        if (moved := OmegaConf.select(config, key)) is None:
            continue
        place = next((p for p in _TAKEN_TO.get(key, (key,)) if _has(trained, p)), None)
        if place is None:
            raise ConfigError(f"{key}={moved}: this run has none.")
        OmegaConf.update(trained, place, moved)


def _has(config: DictConfig, key: str) -> bool:
    """Whether a configuration has an option, be it null."""
    node, _, name = key.rpartition(".")
    return name in (OmegaConf.select(config, node) or ())
