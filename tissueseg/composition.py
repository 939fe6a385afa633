"""What Hydra composed, as plain Python: values, words of the command line, and what it refuses."""

from __future__ import annotations

import difflib
import os
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from tissueseg.errors import ConfigError, in_one_line

_MOST_JOBS = 8
"""At a time, unless told otherwise: each holds a few hundred MB."""


def _at_a_time(jobs: int | None) -> int:
    return jobs or min(os.cpu_count() or 1, _MOST_JOBS)


def _first_of(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _below(wanted: int, bound: int) -> int:
    return max(min(wanted, bound - 1), 0)


OmegaConf.register_new_resolver("below", _below, replace=True)
OmegaConf.register_new_resolver("first_of", _first_of, replace=True)
OmegaConf.register_new_resolver("names_of", lambda node: ",".join(node), replace=True)
OmegaConf.register_new_resolver("jobs_at_a_time", _at_a_time, replace=True)


def plain(config: DictConfig | ListConfig) -> Any:
    """Resolve a node into dicts, lists and scalars."""
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def require_words(node: Any, above: str = "") -> None:
    """Refuse keys that are no words, which nothing is called by.

    Raises:
        ConfigError: naming the first, and where it stands.
    """
    children = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in children:
        if isinstance(node, dict) and not isinstance(key, str):
            raise ConfigError(f"{above or 'the configuration'} has the key {key!r}, wanted a word.")
        if isinstance(value, dict | list):
            require_words(value, f"{above}.{key}" if above else str(key))


def require_values(config: DictConfig) -> None:
    """Refuse a command line that leaves out what has no default."""
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ConfigError(f"give {', '.join(f'{key}=…' for key in missing)} on the command line.")


def tissue_names(config: DictConfig) -> list[str] | None:
    """What `tissues` names; None: all.

    Raises:
        ConfigError: it is no list of names.
    """
    tissues = plain(config).get("tissues")
    names = isinstance(tissues, list) and all(isinstance(name, str) for name in tissues)
    if tissues is not None and not names:
        raise ConfigError(
            f"tissues={tissues}: wanted names as in tissues=[a,b], in quotes where they look like "
            "numbers (\"tissues=['1']\"), or null for all."
        )
    return tissues


def task_words() -> list[str]:
    """What stands on the command line of this job; in a sweep, of this one alone."""
    if not HydraConfig.initialized():
        return []
    return list(HydraConfig.get().overrides.task)


def added(group: str) -> list[str]:
    """What the command line adds to the choices of a group, such as `decoder/slots@decoder`."""
    values = (word.split("=", 1)[1] for word in task_words() if word.startswith(f"+{group}="))
    return [name.strip() for value in values for name in value.strip("[]").split(",")]


def one_line(error: BaseException) -> str:
    """Say an error in one line; for unknown options, name those there are."""
    if str(error).startswith("Key '") and (key := getattr(error, "full_key", None)):
        return f"{key} is missing: compare with the group's other files."
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("Available options")]
    if not starts:
        said = in_one_line(error, leave_out=("full_key:", "object_type="))
        return said if not lines or said.endswith(("?", ")")) else f"{said}."
    ends = (i for i, line in enumerate(lines) if line.startswith("Config search path"))
    options = lines[starts[0] + 1 : next(ends, None)]
    return f"{lines[0].rstrip('.')}. Choose from: {', '.join(options)}{_closest(lines[0], options)}"


def _closest(line: str, options: list[str]) -> str:
    wanted = line.rsplit("/", 1)[-1].strip("'\" .")
    close = difflib.get_close_matches(wanted, options, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
