"""`config.yaml` of a run, read again: by commands on what it left, and by a training that goes on."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tissueseg.composition import require_words
from tissueseg.errors import ConfigError, RunFolderError, in_one_line
from tissueseg.reporting import runs
from tissueseg.store.reading.yaml_text import UNREADABLE, what_is_wrong


def read_config(folder: Path) -> DictConfig:
    """The configuration that a run was begun with.

    Args:
        folder: of the run.

    Raises:
        RunFolderError: the file is missing, broken or holds no configuration.
    """
    path = folder / runs.CONFIG
    try:
        found = OmegaConf.load(path)
    except OmegaConfBaseException as error:
        raise _broken(path, in_one_line(error, leave_out=("full_key:", "object_type="))) from error
    except UNREADABLE as error:
        raise _broken(path, what_is_wrong(error)) from error
    if not isinstance(found, DictConfig):
        raise _broken(path, f"it holds a list of {len(found)}, wanted keys with values")
    try:
        require_words(OmegaConf.to_container(found, resolve=False))
    except ConfigError as error:
        raise _broken(path, str(error).rstrip(".")) from error
    return found


def require_options(config: DictConfig, folder: Path, *keys: str) -> None:
    """Refuse a run's configuration without groups of options that every run has.

    Raises:
        RunFolderError: naming the first.
    """
    for key in keys:
        if not OmegaConf.is_dict(found := OmegaConf.select(config, key)):
            said = " ".join(str(found).split())[:80]
            raise _broken(folder / runs.CONFIG, f"{key} is {said}, wanted options")


def _broken(path: Path, why: str) -> RunFolderError:
    return RunFolderError(
        f"{path} cannot be used: {why}. Copy the run's folder again, or mend the file."
    )
