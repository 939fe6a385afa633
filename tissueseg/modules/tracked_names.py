"""How a run is found again among hundreds in W&B: its name, group, job type and tags."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_LONGEST_TAG = 64
_DIGEST = 8


class TrackedNames(NamedTuple):
    """What `wandb.init` is told besides the configuration."""

    name: str
    group: str | None  # study and protocol; None: no study
    job_type: str | None  # arm
    tags: list[str]


def tracked_names(name: str, config: Mapping[str, Any], tags: Iterable[str]) -> TrackedNames:
    """Name a run after its place in a study, or else after what it is made of.

    Args:
        name: of the run as everywhere else: its choices.
        config: resolved.
        tags: the user's own, which come first.
    """
    study = config.get("study") or {}
    seed = config.get("seed", 0)
    if not study.get("arm"):
        encoder = _encoder_name(config.get("encoder") or {})
        made_of = (config.get("modality"), encoder, config.get("name"))
        return TrackedNames(name, None, None, _tags(tags, filter(None, made_of)))
    arm, fold = study["arm"], fold_of(config)
    places = {"study": study.get("name"), "arm": arm, "fold": fold, "seed": seed}
    said = (f"{key}:{value}" for key, value in places.items() if value is not None)
    shown = "-".join(filter(None, (arm, fold and f"fold{fold}", f"seed{seed}")))
    group = "-".join(filter(None, (study.get("name"), protocol_of(config))))
    return TrackedNames(shown, group or None, arm, _tags(tags, said))


def fold_of(config: Mapping[str, Any]) -> str | None:
    """The fold of its split that a run holds out; None where a split has none."""
    fold = (config.get("split") or {}).get("fold")
    return None if fold is None else str(fold)


def protocol_of(config: Mapping[str, Any]) -> str | None:
    """The name of a study's protocol, where it has one."""
    name = (config.get("protocol") or {}).get("name")
    return None if name == "none" else name


def _encoder_name(encoder: Mapping[str, Any]) -> str | None:
    """Its own, or those of the encoders it is a pair of."""
    if name := (encoder.get("spec") or {}).get("name"):
        return name
    parts = (encoder.get(part) for part in ("he", "sp"))
    names = [_encoder_name(part) for part in parts if isinstance(part, Mapping)]
    return "+".join(filter(None, names)) or None


def _tags(own: Iterable[str], more: Iterable[Any]) -> list[str]:
    """Each once, and none longer than W&B takes: what is cut ends with a digest of the whole."""
    return list(dict.fromkeys(_cut(str(tag)) for tag in (*own, *more) if str(tag)))


def _cut(tag: str) -> str:
    if len(tag) <= _LONGEST_TAG:
        return tag
    digest = hashlib.sha256(tag.encode()).hexdigest()[:_DIGEST]
    return f"{tag[: _LONGEST_TAG - _DIGEST - 1]}~{digest}"
