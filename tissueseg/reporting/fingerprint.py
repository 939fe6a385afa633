"""What shapes a run's numbers, and one hash of it: equal fingerprints promise equal scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_MATTERS_NOT = (
    "run_dir",
    "resume",
    "state",
    "name",
    "logger",
    "panels",
    "protocol",
    "study_protocol",
    "data.num_workers",
    "data.prefetch",
    "data.pin_memory",
    "embeddings.path",
    "embeddings.make",
)
"""How things are called and shown, and how fast they are read."""

_PLACES = (
    "store.path",
    "markers.table",
    *(f"encoder.{part}weights" for part in ("", "he.", "sp.")),
    *(f"encoder.{part}markers.path" for part in ("", "sp.")),
)
"""Of what has a digest, by which it is known wherever it lies."""

_OF_A_STUDY = ("name", "arm")


def what_matters(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what changes no number.

    Args:
        config: of a run, as plain dicts, resolved or not.
    """
    kept = _without(config, _MATTERS_NOT)
    if isinstance(study := kept.get("study"), Mapping):
        kept["study"] = {key: study.get(key) for key in _OF_A_STUDY}
    return kept


def fingerprint(
    config: Mapping[str, Any],
    encoder_sha256: str | None,
    digests: Mapping[str, Mapping[str, str]],
    version: str,
) -> str:
    """Hash of everything that shapes a run's numbers, but for the machine.

    Args:
        config: of the run, resolved.
        encoder_sha256: of its weights.
        digests: side of the split -> tissue -> digest of its images and labels.
        version: of this package.
    """
    said = {
        "config": _without(what_matters(config), _PLACES),
        "encoder": encoder_sha256,
        "tissues": digests,
        "tissueseg": version,
    }
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _without(node: Mapping[str, Any], left_out: tuple[str, ...], key: str = "") -> dict[str, Any]:
    kept = {}
    for name, value in node.items():
        below = f"{key}.{name}" if key else name
        if below not in left_out:
            kept[name] = _without(value, left_out, below) if isinstance(value, Mapping) else value
    return kept
