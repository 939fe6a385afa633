"""Everything that decides what features are: what a store of them is held against.

Whoever adds an option that changes features sees to it that it is among these fields.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from tissueseg.building import build
from tissueseg.composition import plain
from tissueseg.contracts import EncoderSpec, Markers
from tissueseg.data.normalise import Normaliser
from tissueseg.data.views import Views
from tissueseg.options import encoder_nodes
from tissueseg.store.embedding_folder import SUFFIX
from tissueseg.store.provenance import record
from tissueseg.store.tissues import TissueStore
from tissueseg.tensorfile import fetch

VERSION = 1
"""Of how features are computed: to be raised by whoever changes what an encoder returns."""

_NO_MATTER = {"_partial_", "chunk", "compile", "trained_on_he"}
_ELSEWHERE = {"weights", "seed", "markers"}  # among the files


def wanted_fields(
    config: DictConfig,
    store: TissueStore,
    normaliser: Normaliser,
    files: Mapping[str, str | None],
) -> dict[str, Any]:
    """Everything that decides what features are, in plain types; but for the pixels of tissues.

    Args:
        config: of the run.
        store: of tissues.
        normaliser: fitted on the training tissues, or of a trained decoder.
        files: from `file_digests`.
    """
    views = Views(**plain(config.views)).as_dict()
    scaled = normaliser.as_dict()
    for key in ("sp_mean", "sp_std"):  # the last bits differ between machines
        scaled[key] = [float(f"{value:.12g}") for value in scaled[key]]
    fields = {
        "version": VERSION,
        "modality": scaled.pop("modality"),
        "encoder": _without(plain(config.encoder)),
        "files": dict(files),
        "normaliser": scaled.pop("normalisation") | scaled,
        "data": {
            "mpp": store.mpp,
            "panel": [f"{c.name} {c.uniprot or ''}".strip() for c in store.panel]
            if normaliser.sp_mean
            else [],
        },
        "tiling": {
            "tile_px": config.data.tile_px,
            "edges": sorted({config.data.train_edge, config.data.eval_edge}),
        },
        "views": views if views["extra"] else {"dihedral": views["dihedral"], "extra": 0},
        "dtype": config.embeddings.dtype,
        "precision": config.trainer.precision,
    }
    return json.loads(json.dumps(fields))


def file_digests(config: DictConfig, store: TissueStore) -> dict[str, str | None]:
    """Digests of weights and marker vectors, which are read; None where the run does not name them."""
    return dict(_digests(config, store))


def _digests(config: DictConfig, store: TissueStore) -> Iterator[tuple[str, str | None]]:
    for key, node in encoder_nodes(config):
        if "markers" in node:
            named = _there(config, node.markers.path)
            yield f"{key}.markers", named and _markers_digest(node, store)
        if node.spec.get("random_init"):
            version = torch.__version__.partition("+")[0]
            yield f"{key}.weights", f"random, seed {node.seed}, torch {version}"
        elif "weights" in node:
            named = _there(config, node.weights)
            yield f"{key}.weights", named and record(fetch(named))["sha256"]


def _there(config: DictConfig, source: str | None) -> str | None:
    """A file that was named; stored features do without one that lies elsewhere."""
    if source is None or config.features != "stored" or "://" in str(source):
        return source
    return source if Path(source).expanduser().exists() else None


def _markers_digest(node: DictConfig, store: TissueStore) -> str:
    markers: Markers = build(node.markers)(store.panel)
    return sha256(repr(markers.channels).encode() + markers.vectors.tobytes()).hexdigest()


def _without(node: Any) -> Any:
    """An encoder's options without those that change no feature."""
    if not isinstance(node, dict):
        return node
    return {k: _without(v) for k, v in node.items() if k not in _NO_MATTER | _ELSEWHERE}


def store_name(spec: EncoderSpec, config: DictConfig, fingerprint: str) -> str:
    """What a store of features is called."""
    return f"{spec.label}-{config.modality}-{fingerprint[:8]}{SUFFIX}"
