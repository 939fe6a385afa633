"""Where a run's features come from: its encoder, as tiles are read, or a store that was made before.

Stored features serve a run only if everything they were made from is what the run would make them
from. With stored features no encoder is built and its weights need not be there.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from tissueseg.augmentations import altering_parts
from tissueseg.building import build, finish
from tissueseg.composition import plain, task_words
from tissueseg.contracts import DataSpec, EncoderSpec, Normalisation
from tissueseg.data.datamodule import Embeddings, data_spec
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.data.tiles import TileCover
from tissueseg.data.views import Views
from tissueseg.encoders.base import Encoder
from tissueseg.errors import (
    ConfigError,
    SpecMismatchError,
    StoreNotFoundError,
    TissuesegError,
    UnreachableError,
)
from tissueseg.feature_fields import file_digests, wanted_fields
from tissueseg.optimisation import check_learning, finetune_of
from tissueseg.preflight import modality_of
from tissueseg.store.embedding_folder import embedding_stores, folder_beside
from tissueseg.store.embeddings import EmbeddingStore, State
from tissueseg.store.fingerprint import Check, Difference, differences
from tissueseg.store.remote import is_remote
from tissueseg.store.tissues import TissueStore

_OF_SPEC = {"mpp", "halo_px", "random_init"}  # short names for what stands in an encoder's spec
_OF_TRAINING = ("features=", "embeddings.make=", "run_dir=", "resume=")
_SHOWN = 4


class FeatureSource(NamedTuple):
    """An encoder, or what it left behind."""

    spec: EncoderSpec
    encoder: Encoder | None
    embeddings: Embeddings | None
    notes: tuple[str, ...] = ()  # for the user: where features come from, and why


class Trained(NamedTuple):
    """How a decoder that is there already was trained; of views it is shown the first."""

    normaliser: Normaliser
    precision: str


def open_features(
    config: DictConfig,
    store: TissueStore,
    split: Split,
    trained: Trained | None = None,
    command: str | None = None,
    make: Callable[[str], tuple[str, ...]] | None = None,
) -> FeatureSource:
    """Find stored features or build the encoder, as `features` says.

    Args:
        config: of the run.
        store: of tissues.
        split: whose tissues need features.
        trained: what a trained decoder wants; None: it is to be trained.
        command: that would store them, for the user; None: there is none.
        make: called with why none serve, where stored ones could; stores them if it can, and gives lines
            on what came of it. None: they are not to be made.

    Raises:
        StoreNotFoundError: features=stored, and none serve.
    """
    reason, made = "", ()
    if (how := finetune_of(config)).active:
        check_learning(config)  # refuses stored ones
        command = None
        if config.features == "auto":
            reason = f"{how.said} changes the encoder in every step"
    elif config.features == "auto" and (parts := altering_parts(config)):
        command = None
        reason = f"augmentation has {', '.join(parts)}, which stored features do not show"
    elif config.features != "online":
        found = find_stored(config, store, split, trained)
        if isinstance(found, str) and make:
            made = make(found)
            found = find_stored(config, store, split, trained)
        if not isinstance(found, str):
            served = _stored(found.store, found.loose)
            return served._replace(notes=(*made, *served.notes))
        reason = found
    if config.features == "stored":
        first = f". Make them first ({command})" if command else ""
        raise StoreNotFoundError(f"features=stored, but {reason}{first}")
    encoder = build_encoder(config, data_spec(store, modality_of(config), config.data.tile_px))
    why = f", since {reason}" if reason else ""
    once = f". To encode them once for all: {command}" if command else ""
    note = f"features: encoded online{why}{once}"
    return FeatureSource(encoder.spec, encoder, None, (*made, note))


def find_stored(
    config: DictConfig, store: TissueStore, split: Split, trained: Trained | None = None
) -> Candidate | str:
    """A store of features that serves all tissues of a split, or why none does."""
    if is_remote(store.address) and not config.embeddings.path:
        return f"embeddings.path is not given, and nothing is looked for beside {store.address}"
    folder = features_folder(config, store)
    candidates, damaged = [], None
    wanted = _Wanted(config, store, split, trained)
    for found in embedding_stores(folder):
        if isinstance(found, UnreachableError):  # it may serve: the network must not decide that
            raise found
        if isinstance(found, TissuesegError):
            damaged = found
            continue
        candidates.append(_held_against(found, wanted))
    if serving := [c for c in candidates if not c.reason]:
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
    if is_remote(store.address):
        raise ConfigError(
            f"{store.address} is remote, so features have no place beside it: name one with "
            "embeddings.path."
        )
    return str(folder_beside(store.path.resolve()))


def tile_cover(config: DictConfig, store: TissueStore, tissue: str) -> TileCover:
    """The tiles of a tissue that training and evaluation read."""
    entry, edges = store.entry(tissue), {config.data.train_edge, config.data.eval_edge}
    return TileCover(entry.height, entry.width, config.data.tile_px, edges)


class Candidate(NamedTuple):
    """A store of features, held against what a run wants."""

    store: EmbeddingStore
    differ: Sequence[Difference]
    missing: Sequence[str] = ()  # tissues
    stale: Sequence[str] = ()  # tissues whose images have changed
    loose: Sequence[Difference] = ()  # differences that do not count

    @property
    def reason(self) -> str:
        """Why it does not serve; empty if it does."""
        name = self.store.name
        if self.differ:
            said = "; ".join(map(str, self.differ))
            split = any(d.field.startswith("normaliser.sp_") for d in self.differ)
            hint = " (SP is scaled by the moments of the training tissues)" if split else ""
            return (
                f"the nearest store, {name}, is of another origin (stored ≠ wanted): {said}{hint}"
            )
        if self.stale:
            shown = ", ".join(self.stale[:_SHOWN])
            return f"{name} was made from other images of {len(self.stale)} tissues ({shown})"
        if self.missing:
            shown = ", ".join(self.missing[:_SHOWN])
            return f"{name} lacks {len(self.missing)} tissues ({shown})"
        return ""


class _Wanted:
    """What a run wants, to be held against one store after another; files are read once."""

    def __init__(
        self, config: DictConfig, store: TissueStore, split: Split, trained: Trained | None
    ) -> None:
        self.config, self.store, self.split = config, store, split
        self.modality = modality_of(config)
        self._trained = trained
        self._fitted: dict[Normalisation, Normaliser] = {}

    def fields(self, normalisation: Normalisation) -> dict[str, Any]:
        """Given how the weights want their images scaled, which a store of features knows."""
        if self._trained:
            fields = wanted_fields(self.config, self.store, self._trained.normaliser, self._files)
            return fields | {"precision": self._trained.precision}
        if normalisation not in self._fitted:
            self._fitted[normalisation] = Normaliser.fit(
                self.store, self.split.train, self.modality, normalisation
            )
        return wanted_fields(self.config, self.store, self._fitted[normalisation], self._files)

    def differences(self, stored: dict[str, Any], wanted: dict[str, Any]) -> list[Difference]:
        """Those that count."""
        check = Check(self.config.embeddings.check)
        differ = differences(stored, wanted, check)
        if check == Check.MATCH:
            differ += _too_few(stored, wanted)
        return [d for d in differ if not (self._trained and d.field.startswith("views"))]

    @cached_property
    def digests(self) -> dict[str, dict[str, str]]:
        """Tissue with tiles -> image -> digest."""
        tissues = (tissue for side in self.split for tissue in side)
        return {
            tissue: self.store.image_digests(tissue, self.modality)
            for tissue in tissues
            if len(tile_cover(self.config, self.store, tissue))
        }

    @cached_property
    def _files(self) -> dict[str, str | None]:
        return file_digests(self.config, self.store)


def _held_against(found: EmbeddingStore, run: _Wanted) -> Candidate:
    if run.modality not in found.spec.modalities or found.fields["modality"] != run.modality:
        differ = Difference("modality", found.fields["modality"], run.modality.value)
        return Candidate(found, [differ])
    wanted = run.fields(found.spec.normalisation)
    strict = differences(found.fields, wanted)
    if differ := run.differences(found.fields, wanted):
        return Candidate(found, differ)
    states = found.states(run.digests)
    missing = [t for t, state in states.items() if state == State.MISSING]
    stale = [t for t, state in states.items() if state == State.STALE]
    return Candidate(found, (), missing, stale, strict)


def _too_few(stored: dict[str, Any], wanted: dict[str, Any]) -> list[Difference]:
    """Views or tiles that a store which need not be equal still must have."""
    found = []
    if not Views(**stored["views"]).covers(Views(**wanted["views"])):
        found.append(Difference("views", stored["views"], wanted["views"]))
    edges = (stored["tiling"]["edges"], wanted["tiling"]["edges"])
    if not set(edges[1]) <= set(edges[0]):
        found.append(Difference("tiling.edges", *edges))
    return found


def _only(serving: Sequence[Candidate]) -> Candidate:
    """The one most like what was asked for; if the run does not name its weights, there is one."""
    weights = {json.dumps(found.store.fields["files"], sort_keys=True) for found in serving}
    if len(weights) > 1:
        names = ", ".join(found.store.name for found in serving)
        raise SpecMismatchError(
            f"stored features of different weights would serve: {names}. Name the weights with "
            "encoder.weights=…, or the store with embeddings.path=…"
        )
    return min(serving, key=lambda found: (len(found.loose), found.store.name))


def _stored(found: EmbeddingStore, loose: Sequence[Difference]) -> FeatureSource:
    shown = f"{found.views} view{'s' if found.views > 1 else ''}, {found.dtype}"
    but = f"; other than asked for (stored ≠ wanted): {'; '.join(map(str, loose))}" if loose else ""
    note = f"features: stored in {found.path} ({shown}){but}; no encoder is built"
    edges = tuple(found.fields["tiling"]["edges"])
    return FeatureSource(found.spec, None, Embeddings(found, edges), (note,))


def _without_spec_names(node: Any) -> Any:
    """An encoder's options without those its spec has taken up, parts of pairs included."""
    if not isinstance(node, dict):
        return node
    taken = _OF_SPEC if "spec" in node else set()
    return {
        k: v if k == "spec" else _without_spec_names(v) for k, v in node.items() if k not in taken
    }


def embed_command() -> str:
    """The command that stores the features this one wants."""
    words = [word for word in task_words() if not word.startswith(_OF_TRAINING)]
    return " ".join(["python -m tissueseg.embed", *map(shlex.quote, words)])
