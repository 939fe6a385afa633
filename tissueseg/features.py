"""Where a run's features come from: its encoder, as tiles are read, or a store that was made before.

Stored features serve a run only if everything they were made from is what the run would make them
from. With stored features no encoder is built and its weights need not be there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf

from tissueseg.command import build, finish, plain, task_words
from tissueseg.contracts import DataSpec, EncoderSpec, Markers
from tissueseg.data.datamodule import Embeddings, data_spec
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.data.tiles import TileCover
from tissueseg.data.views import Views
from tissueseg.encoders.base import Encoder
from tissueseg.errors import ConfigError, SpecMismatchError, StoreNotFoundError, TissuesegError
from tissueseg.options import encoder_nodes
from tissueseg.preflight import modality_of
from tissueseg.store.embedding_folder import SUFFIX, embedding_stores, folder_beside
from tissueseg.store.embeddings import EmbeddingStore, State
from tissueseg.store.fingerprint import Check, Difference, differences
from tissueseg.store.provenance import record
from tissueseg.store.remote import UnreachableError, is_remote
from tissueseg.store.tissues import TissueStore
from tissueseg.tensorfile import fetch

VERSION = 1
"""Of how features are computed: to be raised by whoever changes what an encoder returns."""

_OF_SPEC = {"mpp", "halo_px", "random_init"}  # short names for what stands in an encoder's spec
_NO_MATTER = {"_partial_", "chunk", "compile", "trained_on_he"}
_ELSEWHERE = {"weights", "seed", "markers"}  # among the files
_SHOWN = 4


class FeatureSource(NamedTuple):
    """An encoder, or what it left behind."""

    spec: EncoderSpec
    encoder: Encoder | None
    embeddings: Embeddings | None
    notes: tuple[str, ...] = ()  # for the user: where features come from, and why


def open_features(
    config: DictConfig,
    store: TissueStore,
    split: Split,
    normaliser: Normaliser | None = None,
    command: str | None = None,
) -> FeatureSource:
    """Find stored features or build the encoder, as `features` says.

    Args:
        config: of the run.
        store: of tissues.
        split: whose tissues need features.
        normaliser: of a trained decoder; None: fitted on the training tissues.
        command: that would store them, for the user; None: `embed` with the words of this one.

    Raises:
        StoreNotFoundError: features=stored, and none serve.
    """
    reason = ""
    if config.features != "online":
        found = find_stored(config, store, split, normaliser)
        if isinstance(found, EmbeddingStore):
            return _stored(found)
        reason = found
    command = command or " ".join(["python -m tissueseg.embed", *_embed_words()])
    if config.features == "stored":
        raise StoreNotFoundError(f"features=stored, but {reason}. Make them first ({command})")
    encoder = build_encoder(config, data_spec(store, modality_of(config), config.data.tile_px))
    why = f", since {reason}" if reason else ""
    note = f"features: encoded online{why}. To encode them once for all: {command}"
    return FeatureSource(encoder.spec, encoder, None, (note,))


def find_stored(
    config: DictConfig, store: TissueStore, split: Split, normaliser: Normaliser | None = None
) -> EmbeddingStore | str:
    """A store of features that serves all tissues of a split, or why none does."""
    if is_remote(store.path) and not config.embeddings.path:
        return f"embeddings.path is not given, and nothing is looked for beside {store.path}"
    folder = features_folder(config, store)
    candidates, damaged = [], None
    for found in embedding_stores(folder):
        if isinstance(found, UnreachableError):  # it may serve: the network must not decide that
            raise found
        if isinstance(found, TissuesegError):
            damaged = found
            continue
        candidates.append(_held_against(found, config, store, split, normaliser))
    if serving := [c.store for c in candidates if not c.reason]:
        return _only(serving)
    if candidates:
        nearest = min(candidates, key=lambda c: (len(c.differ), len(c.stale), len(c.missing)))
        return nearest.reason
    return str(damaged).rstrip(".") if damaged else f"there are none in {folder}"


def build_encoder(config: DictConfig, data: DataSpec) -> Encoder:
    """Build the frozen encoder for a store's images; reads its weights."""
    node = OmegaConf.create(_without_spec_names(plain(config.encoder)))
    return finish("encoder", build(node), data=data)


def features_folder(config: DictConfig, store: TissueStore) -> str:
    """Where stores of features stand, or the one store that was named."""
    if named := config.embeddings.path:
        return str(named) if is_remote(named) else str(Path(named).expanduser().resolve())
    if is_remote(store.path):
        raise ConfigError(
            f"{store.path} is remote, so features have no place beside it: name one with embeddings.path."
        )
    return str(folder_beside(store.path).resolve())


def tile_cover(config: DictConfig, store: TissueStore, tissue: str) -> TileCover:
    """The tiles of a tissue that training and evaluation read."""
    entry, edges = store.entry(tissue), {config.data.train_edge, config.data.eval_edge}
    return TileCover(entry.height, entry.width, config.data.tile_px, edges)


def store_name(spec: EncoderSpec, config: DictConfig, fingerprint: str) -> str:
    """What a store of features is called."""
    return f"{spec.label}-{config.modality}-{fingerprint[:8]}{SUFFIX}"


def wanted_fields(config: DictConfig, store: TissueStore, normaliser: Normaliser) -> dict[str, Any]:
    """Everything that decides what features are, in plain types; but for the pixels of tissues."""
    views = Views(**plain(config.views)).as_dict()
    scaled = normaliser.as_dict()
    fields = {
        "version": VERSION,
        "modality": scaled.pop("modality"),
        "encoder": _without(plain(config.encoder)),
        "files": dict(_files(config, store)),
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


class _Candidate(NamedTuple):
    """A store of features, held against what a run wants."""

    store: EmbeddingStore
    differ: Sequence[Difference]
    missing: Sequence[str]  # tissues
    stale: Sequence[str]  # tissues whose images have changed

    @property
    def reason(self) -> str:
        """Why it does not serve; empty if it does."""
        name = self.store.name
        if self.differ:
            said = "; ".join(map(str, self.differ))
            return f"the nearest store, {name}, is of another origin (stored ≠ wanted): {said}"
        if self.stale:
            shown = ", ".join(self.stale[:_SHOWN])
            return f"{name} was made from other images of {len(self.stale)} tissues ({shown})"
        if self.missing:
            shown = ", ".join(self.missing[:_SHOWN])
            return f"{name} lacks {len(self.missing)} tissues ({shown})"
        return ""


def _held_against(
    found: EmbeddingStore,
    config: DictConfig,
    store: TissueStore,
    split: Split,
    normaliser: Normaliser | None,
) -> _Candidate:
    modality = modality_of(config)
    if modality not in found.spec.modalities or found.fields["modality"] != modality:
        wanted = Difference("modality", found.fields["modality"], modality.value)
        return _Candidate(found, [wanted], (), ())
    fitted = normaliser or Normaliser.fit(store, split.train, modality, found.spec.normalisation)
    wanted = wanted_fields(config, store, fitted)
    check = Check(config.embeddings.check)
    differ = differences(found.fields, wanted, check)
    if check == Check.MATCH:
        differ += _too_few(found.fields, wanted)
    if differ:
        return _Candidate(found, differ, (), ())
    states = {
        t: found.state(t, store.image_digests(t, modality))
        for t in (tissue for side in split for tissue in side)
        if len(tile_cover(config, store, t))
    }
    return _Candidate(
        found,
        (),
        [t for t, state in states.items() if state == State.MISSING],
        [t for t, state in states.items() if state == State.STALE],
    )


def _too_few(stored: dict[str, Any], wanted: dict[str, Any]) -> list[Difference]:
    """Views or tiles that a store which need not be equal still must have."""
    found = []
    if not Views(**stored["views"]).covers(Views(**wanted["views"])):
        found.append(Difference("views", stored["views"], wanted["views"]))
    edges = (stored["tiling"]["edges"], wanted["tiling"]["edges"])
    if not set(edges[1]) <= set(edges[0]):
        found.append(Difference("tiling.edges", *edges))
    return found


def _only(serving: Sequence[EmbeddingStore]) -> EmbeddingStore:
    """The one to use; several may serve when the run does not say which weights it means."""
    weights = {json.dumps(found.fields["files"], sort_keys=True) for found in serving}
    if len(weights) > 1:
        names = ", ".join(found.name for found in serving)
        raise SpecMismatchError(
            f"stored features of different weights would serve: {names}. Name the weights with "
            "encoder.weights=…, or the store with embeddings.path=…"
        )
    return serving[0]


def _stored(found: EmbeddingStore) -> FeatureSource:
    shown = f"{found.views} view{'s' if found.views > 1 else ''}, {found.dtype}"
    note = f"features: stored in {found.path} ({shown}); no encoder is built"
    edges = tuple(found.fields["tiling"]["edges"])
    return FeatureSource(found.spec, None, Embeddings(found, edges), (note,))


def _files(config: DictConfig, store: TissueStore) -> Iterator[tuple[str, str | None]]:
    """Digests of weights and marker vectors; None where the run does not name them."""
    for key, node in encoder_nodes(config):
        if "markers" in node:
            yield f"{key}.markers", _markers_digest(node, store)
        if node.spec.get("random_init"):
            version = torch.__version__.partition("+")[0]
            yield f"{key}.weights", f"random, seed {node.seed}, torch {version}"
        elif "weights" in node:
            yield f"{key}.weights", node.weights and record(fetch(node.weights))["sha256"]


def _markers_digest(node: DictConfig, store: TissueStore) -> str | None:
    if not node.markers.path:
        return None
    markers: Markers = build(node.markers)(store.panel)
    return sha256(repr(markers.channels).encode() + markers.vectors.tobytes()).hexdigest()


def _without_spec_names(node: Any) -> Any:
    """An encoder's options without those its spec has taken up, parts of pairs included."""
    if not isinstance(node, dict):
        return node
    taken = _OF_SPEC if "spec" in node else set()
    return {
        k: v if k == "spec" else _without_spec_names(v) for k, v in node.items() if k not in taken
    }


def _without(node: Any) -> Any:
    """An encoder's options without those that change no feature."""
    if not isinstance(node, dict):
        return node
    return {k: _without(v) for k, v in node.items() if k not in _NO_MATTER | _ELSEWHERE}


def _embed_words() -> list[str]:
    return [w for w in task_words() if not w.startswith(("features=", "run_dir=", "run="))]
