"""What the options of encoders may be, checked before anything is built from them.

Constructors take plain numbers and flags; a word where a number was meant would surface deep inside a
network, or not at all: Python takes `no` for true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tissueseg.config import BUILTIN
from tissueseg.errors import ConfigError
from tissueseg.numbers import is_number, is_whole


def _whole(lowest: int, highest: int | None = None) -> Callable[[Any], bool]:
    return lambda v: is_whole(v, lowest, highest)


def _levels(v: Any) -> bool:
    return isinstance(v, list) and all(map(_whole(1), v))


_FLAG = (lambda v: isinstance(v, bool), "true or false")
_COUNT = (_whole(1), "a whole number of at least 1")
_TEXT = (lambda v: isinstance(v, str) and bool(v), "text")
_MOST_HALO_PX = 1024

_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "weights": (_TEXT[0], "a file or hf://owner/repository/file"),
    "random_init": _FLAG,
    "trained_on_he": _FLAG,
    "compile": _FLAG,
    "layer_scale": _FLAG,
    "mpp": (lambda v: is_number(v) and v > 0, "µm per pixel"),
    "halo_px": (_whole(0, _MOST_HALO_PX), f"pixels, 0 to {_MOST_HALO_PX}"),
    "chunk": _COUNT,
    "heads": _COUNT,
    "hidden": _COUNT,
    "grid": _COUNT,
    "window": _COUNT,
    "swiglu_hidden": _COUNT,
    "registers": (_whole(0), "a whole number"),
    "seed": (_whole(0), "a whole number"),
    "levels": (_levels, "whole numbers such as [3,6,9,12]"),
    "positions": _TEXT,
    "pattern": _TEXT,
    "spec": (lambda v: isinstance(v, dict), "the options of a spec"),
    "markers": (lambda v: isinstance(v, dict), "the options of a marker table"),
}
_MAY_BE_NULL = {"weights", "mpp", "chunk", "levels", "swiglu_hidden"}


def check_encoder_options(config: DictConfig) -> None:
    """Refuse options of another kind than an encoder takes, with what it takes.

    Raises:
        ConfigError: naming the option, its value and what was wanted.
    """
    for key, node in encoder_nodes(config):
        plain = OmegaConf.to_container(node, resolve=True)
        assert isinstance(plain, dict)
        for option, value in plain.items():
            fits, wanted = _KINDS.get(str(option), (None, ""))
            if fits is None or fits(value) or (value is None and option in _MAY_BE_NULL):
                continue
            null = " or null" if option in _MAY_BE_NULL else ""
            raise ConfigError(f"{key}.{option}={value}, wanted {wanted}{null}.")


def encoder_nodes(config: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """The encoder and, of a pair, its parts, each with the key it stands under."""
    nodes = {"encoder": config.encoder}
    if OmegaConf.is_dict(config.encoder):
        nodes |= {f"encoder.{k}": config.encoder[k] for k in ("he", "sp") if k in config.encoder}
    for key, node in nodes.items():
        if not OmegaConf.is_dict(node):
            raise ConfigError(f"{key}={node}, wanted one of the configured encoders.")
        yield key, node


def builtin_encoders(config: DictConfig) -> list[str]:
    """Encoders of drawn tissue that are shown a store of the user's own."""
    if config.store.path is None:
        return []
    found = (node for _, node in encoder_nodes(config) if node.get("weights"))
    return [n.spec.name for n in found if str(n.weights).startswith(BUILTIN)]
