"""Objects from nodes of a composition: `_target_` says which, from packages that are trusted.

Hydra and OmegaConf stop here: what comes out is plain Python, and what cannot be built is the user's to
mend, with the key that says it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf

from tissueseg.config import OWN_PACKAGES, own_packages
from tissueseg.errors import ConfigError, TissuesegError, in_one_line
from tissueseg.numbers import shown

T = TypeVar("T")
_REFUSALS = ("MisconfigurationException",)  # Lightning's word for what a machine cannot do
_TRUSTED = ("tissueseg.", "torch.optim.", "torch.nn.", "lightning.pytorch.", "albumentations.")


def build(config: Any, **given: Any) -> Any:
    """Instantiate a config node with plain Python arguments.

    Args:
        config: a node with `_target_` (nested ones are built too).
        given: arguments that only the command knows.

    Raises:
        ConfigError: a target outside the packages this project builds from.
    """
    if not OmegaConf.is_dict(config) or config.get("_target_") is None:
        key = config._get_full_key("") if OmegaConf.is_config(config) else ""
        raise ConfigError(
            f"{key or 'a part of the configuration'}={shown(config)}, wanted a _target_ and its options."
        )
    try:
        _check_targets(OmegaConf.to_container(config, resolve=True))
        return instantiate(config, _convert_="all", **given)
    except ImportError as error:
        raise ConfigError(
            f"{config.get('_target_')} cannot be found: {in_one_line(error)}."
        ) from error
    except InstantiationException as error:
        refusal = _refusal(error, str(config.get("_target_")))
        if refusal is None:
            raise
        raise refusal from None


def _refusal(error: InstantiationException, target: str) -> TissuesegError | None:
    """What a constructor said, with the key of its node or the target; None: it refused nothing."""
    cause, key = error.__cause__, _full_key(error)
    if isinstance(cause, ConfigError) and key and not str(cause).startswith(key.split(".")[0]):
        return ConfigError(f"{key}: {cause}")
    if isinstance(cause, TissuesegError):
        return cause
    refused = isinstance(cause, TypeError | ValueError | AttributeError)
    if cause and (refused or type(cause).__name__ in _REFUSALS):
        return ConfigError(f"{key or target} cannot be built: {in_one_line(cause)}.")
    return None


def _full_key(error: InstantiationException) -> str:
    """Where the node stands, which Hydra says in a line of its own."""
    marks = (line.partition("full_key:") for line in str(error).splitlines())
    return next((key.strip() for _, mark, key in marks if mark), "")


def require_kind(key: str, built: Any, kind: type[T]) -> T:
    """What was built, if it is what its place takes.

    Raises:
        ConfigError: another `_target_` was named there.
    """
    if not isinstance(built, kind):
        raise ConfigError(
            f"{key}._target_ makes a {type(built).__name__}, wanted a {kind.__name__}: choose one of the "
            "group's files, or mend your own."
        )
    return built


def finish(key: str, partial: Callable[..., Any], **given: Any) -> Any:
    """Call what a `_partial_` node built; what it cannot take is the user's to mend.

    Args:
        key: of the node, for the message.
        partial: from `build`.
        given: arguments that only the command knows.
    """
    try:
        return partial(**given)
    except TissuesegError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {error}.") from error


def _check_targets(node: Any) -> None:
    """Refuse targets by where they are defined: a trusted module also holds what it imports."""
    trusted = (*_TRUSTED, *(f"{package}." for package in own_packages()))
    if isinstance(node, dict) and (target := node.get("_target_")) is not None:
        named = str(target)
        if not all(part.isidentifier() for part in named.split(".")):
            raise ConfigError(f"_target_: {named!r} is no name with dots between its parts.")
        defined = getattr(get_object(named), "__module__", "") if named.startswith(trusted) else ""
        if not f"{defined}.".startswith(trusted):
            raise ConfigError(
                f"_target_: {target} is not among the packages configs may build from "
                f"({', '.join(t.rstrip('.') for t in trusted)}); packages of your own are named by "
                f"{OWN_PACKAGES}=…"
            )
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        _check_targets(child)
