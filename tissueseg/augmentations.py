"""From a composed `augmentation` to the parts a run's images have, and what cannot go together.

Its transforms are written without `_partial_`: every thread builds its own of them, at its own time.
"""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf

from tissueseg.building import build, finish
from tissueseg.composition import plain
from tissueseg.contracts import Modality
from tissueseg.data.augment import GROUPS, Augmentation
from tissueseg.data.transforms import library_ready
from tissueseg.errors import ConfigError

_OF_LIBRARY = ("geometry", "he")


def build_augmentation(config: DictConfig, halo_px: int) -> Augmentation:
    """The parts that a run's images can have, for an encoder that sees `halo_px` beyond its tiles."""
    groups = _groups(config)
    images = Modality(config.modality).images
    if any(groups[group] for group in _OF_LIBRARY):
        library_ready()
    node = {k: v for k, v in plain(config.augmentation).items() if k not in GROUPS}
    made = build(OmegaConf.create(node | {"_partial_": True}))
    parts = {group: _built(group, groups[group]) for group in GROUPS}
    given = {"images": images, "tile_px": config.data.tile_px, "halo_px": halo_px}
    augmentation = finish("augmentation", made, **parts, **given)
    if not isinstance(augmentation, Augmentation):
        raise ConfigError("augmentation names no augmentation: choose one of configs/augmentation.")
    return augmentation


def altering_parts(config: DictConfig) -> tuple[str, ...]:
    """Names of the parts that alter a run's images, and so need its encoder; views are none of them."""
    groups = _groups(config)
    images = Modality(config.modality).images
    applied = (group for group in GROUPS if group == "geometry" or group in images)
    return tuple(f"{group}.{name}" for group in applied for name in groups[group])


def refuse_altering(config: DictConfig, what: str, do: str = "") -> None:
    """Refuse parts that need an encoder where features are stored.

    Args:
        config: of the run.
        what: the words of the user's that want stored features.
        do: what else the user could do.
    """
    if parts := altering_parts(config):
        raise ConfigError(
            f"augmentation has {', '.join(parts)}, but {what} has views alone: choose "
            f"augmentation=dihedral{do}."
        )


def _groups(config: DictConfig) -> dict[str, dict[str, Any]]:
    """Group -> name -> options of a part; a part that is null is left out."""
    node = config.augmentation
    if not OmegaConf.is_dict(node):
        raise ConfigError(f"augmentation={node}, wanted one of the configured ones.")
    found: dict[str, dict[str, Any]] = {}
    for group in GROUPS:
        parts = plain(node).get(group) or {}
        if not isinstance(parts, dict):
            raise ConfigError(f"augmentation.{group}={parts}, wanted a name and options a part.")
        found[group] = {name: part for name, part in parts.items() if part is not None}
        for name, part in found[group].items():
            if not isinstance(part, dict) or "_target_" not in part:
                raise ConfigError(
                    f"augmentation.{group}.{name}={part}, wanted a _target_ and its options."
                )
    return found


def _built(group: str, parts: dict[str, Any]) -> dict[str, Any]:
    """Parts of SP, or recipes of the library's transforms."""
    late = {"_partial_": True} if group in _OF_LIBRARY else {}
    return {name: build(OmegaConf.create(part | late)) for name, part in parts.items()}
