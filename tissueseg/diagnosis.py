"""What would happen if a composition were trained: every step tried, every refusal collected.

Steps that build on a failed one are left out, so that each finding names a cause and not its echoes.
"""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from tissueseg.building import build
from tissueseg.composition import one_line, plain
from tissueseg.errors import TissuesegError
from tissueseg.options import encoder_nodes
from tissueseg.store.notices import name_some

if TYPE_CHECKING:
    from tissueseg.contracts import EncoderSpec
    from tissueseg.data.splits import Split
    from tissueseg.features import FeatureSource
    from tissueseg.store.tissues import TissueStore

_NEEDED = ("torch", "lightning", "zarr", "cv2", "wandb")
_OPTIONAL = {"huggingface_hub": "weights from hf:// (pip install 'tissueseg[hub]')"}
_SHOWN = 6

T = TypeVar("T")


class Finding(NamedTuple):
    """One line of the doctor's."""

    state: str  # ok | notice | fail
    topic: str
    says: str


class Diagnosis:
    """Findings in the order they are made."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def say(self, topic: str, says: str, state: str = "ok") -> None:
        """Add a finding."""
        self.findings.append(Finding(state, topic, says))

    def attempt(self, topic: str, step: Callable[[], T]) -> T | None:
        """Take a step; a refusal becomes a finding, and None comes back."""
        try:
            return step()
        except (TissuesegError, OmegaConfBaseException) as error:
            self.say(topic, one_line(error), "fail")
        return None

    def take(self) -> Iterator[Finding]:
        """What was found since the last time."""
        taken, self.findings = self.findings, []
        return iter(taken)


def diagnose(config: DictConfig, console: Console) -> Iterator[Finding]:
    """Check machine, composition, store, encoder and one tile; findings come as they are made.

    Args:
        config: as composed for `train`.
        console: where a demo being drawn is announced.
    """
    found = Diagnosis()
    healthy = _check_packages(found)
    yield from found.take()
    if not healthy:
        return
    _check_machine(found)
    found.attempt("machine", lambda: _check_request(config))
    yield from found.take()
    spec = found.attempt("composed", lambda: _check_composition(found, config))
    yield from found.take()
    store = found.attempt("store", lambda: _open_store(found, config, console))
    yield from found.take()
    if store is None:
        return
    fits = found.attempt("panel", lambda: _check_panel(found, config, store))
    split = found.attempt("split", lambda: _check_split(found, config, store))
    yield from found.take()
    if spec is None or not fits or split is None:
        return
    features = found.attempt("encoder", lambda: _check_features(found, config, store, split, spec))
    found.attempt("features", lambda: _list_features(found, config, store, split))
    yield from found.take()
    if features is not None:
        _describe_encoder(found, features)
        found.attempt("one tile", lambda: _try_tile(found, config, store, split, features))
    yield from found.take()


def _check_packages(found: Diagnosis) -> bool:
    """Whether everything needed can be imported."""
    found.say("python", f"{platform.python_version()} on {platform.platform()}")
    healthy = True
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except (ImportError, OSError, RuntimeError) as error:
            hint = "pip install -e . again"
            if _version("torchvision") and name == "lightning":
                hint = "pip uninstall torchvision, which does not fit this torch"
            found.say("packages", f"{name} cannot be imported ({one_line(error)}): {hint}", "fail")
            healthy = False
    if healthy:
        shown = ("torch", "lightning", "zarr", "hydra-core", "safetensors")
        found.say("packages", ", ".join(f"{name} {_version(name)}" for name in shown))
    for name, needed_for in _OPTIONAL.items():
        if not _version(name):
            found.say("packages", f"{name} is not installed: needed for {needed_for}", "notice")
    return healthy


def _check_machine(found: Diagnosis) -> None:
    import torch

    found.say("machine", f"{os.cpu_count()} CPUs, {torch.get_num_threads()} torch threads")
    if not torch.cuda.is_available():
        built = "torch has no CUDA build" if not torch.version.cuda else "no CUDA device is seen"
        found.say("machine", f"{built}: trainer=cpu only", "notice")
    for i in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(i)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        says = f"cuda:{i} {gpu.name}, {gpu.total_memory / 2**30:.0f} GiB, {bf16}"
        found.say("machine", f"{says}, CUDA {torch.version.cuda}")


def _check_request(config: DictConfig) -> None:
    """Whether the trainer can have what it asks of the machine."""
    from tissueseg import preflight
    from tissueseg.trainer import build_trainer

    preflight.check_machine(config)
    build_trainer(config, Console(quiet=True), [])


def _check_composition(found: Diagnosis, config: DictConfig) -> EncoderSpec:
    from tissueseg import preflight
    from tissueseg.modules.tracking import check_tracking
    from tissueseg.reporting import runs

    spec = preflight.check(config)
    preflight.check_training(config)
    preflight.settle_paths(config)
    check_tracking(plain(config.logger))
    runs.check_writable(Path(config.run_dir or "runs"))
    heads = ", ".join(config.decoder.heads)
    found.say("composed", f"modality={config.modality} encoder={spec.label} heads: {heads}")
    return spec


def _open_store(found: Diagnosis, config: DictConfig, console: Console) -> TissueStore:
    from tissueseg import assembly, preflight

    store = assembly.open_store(config, console)
    store.require(preflight.modality_of(config))
    entries = [store.entry(tissue) for tissue in store.tissues]
    scale = "unknown µm/px" if store.mpp is None else f"{store.mpp:g} µm/px"
    megapixels = sum(e.height * e.width for e in entries) / 1e6
    images, classes = " and ".join(store.images), len(store.classes)
    found.say(
        "store",
        f"{store.address}: {len(entries)} tissues, {megapixels:.1f} megapixels at {scale}, {images}, "
        f"{classes} classes",
    )
    if bare := store.unlabelled:
        found.say("store", f"no labels: {name_some(bare)}", "notice")
    return store


def _check_panel(found: Diagnosis, config: DictConfig, store: TissueStore) -> bool:
    """Show what every encoder that knows markers makes of the panel; True when none refuses it."""
    for node in (node for _, node in encoder_nodes(config) if "markers" in node):
        table: Any = build(node.markers)
        matches = table.matches(store.panel)
        for match in matches:
            known = "ok" if match.known else "notice"
            says = f"{match.channel.name} -> {match.uniprot or 'no protein'} ({match.how})"
            found.say("panel", says if match.known else f"{says}: no vector", known)
        kept = table(store.panel)
        found.say("panel", f"{len(kept.channels)} of {len(store.panel)} channels reach the encoder")
        for note in (note for note in kept.notes if note.startswith("left out")):
            found.say("panel", note, "notice")
    return True


def _check_split(found: Diagnosis, config: DictConfig, store: TissueStore) -> Split:
    from tissueseg import assembly
    from tissueseg.data.splits import require_labels

    split = assembly.open_split(config, store)
    require_labels(store, split)
    found.say("split", ", ".join(f"{len(t)} {side}" for side, t in split._asdict().items()))
    return split


def _check_features(
    found: Diagnosis, config: DictConfig, store: TissueStore, split: Split, spec: EncoderSpec
) -> FeatureSource:
    from tissueseg.agreement import check_tiles
    from tissueseg.features import open_features

    tile_px = config.data.tile_px
    check_tiles(spec, tile_px, store.mpp)
    features = open_features(config, store, split)
    check_tiles(features.spec, tile_px, store.mpp)
    for note in features.notes:
        found.say("features", note.removeprefix("features: "))
    return features


def _list_features(found: Diagnosis, config: DictConfig, store: TissueStore, split: Split) -> None:
    """Every store of features in the folder, and whether it serves this composition."""
    from tissueseg.features import features_folder
    from tissueseg.reporting.embedding_table import store_line
    from tissueseg.store.embedding_folder import stored_features
    from tissueseg.store.remote import is_remote

    if is_remote(store.address) and not config.embeddings.path:
        return  # `features` has said so
    folder = features_folder(config, store)
    for stored in () if is_remote(folder) else stored_features(Path(folder), store):
        if stored.store is None:
            found.say("features", stored.error, "notice")
            continue
        serves = _serves(stored.path, config, store, split)
        state = "notice" if stored.faulty else "ok"
        found.say("features", f"{store_line(stored, len(store.tissues))}; {serves}", state)


def _serves(path: Path, config: DictConfig, store: TissueStore, split: Split) -> str:
    """What a composition that names this store of features would be told."""
    from tissueseg.features import find_stored

    naming = config.copy()
    naming.embeddings.path = str(path)
    try:
        reason = find_stored(naming, store, split)
    except TissuesegError as error:  # of the encoder or the weights, and a finding already
        return f"cannot be compared ({one_line(error)})"
    if not isinstance(reason, str):
        return "serves"
    return reason.removeprefix("the nearest store, ").removeprefix(path.name).lstrip(", ")


def _describe_encoder(found: Diagnosis, features: FeatureSource) -> None:
    for line in features.encoder.describe() if features.encoder else ():
        found.say("encoder", line)
    found.say("encoder", f"{features.spec.label}: sha256 {features.spec.sha256}")
    if features.spec.random_init:
        found.say("encoder", "random weights: it has learnt nothing", "notice")


def _try_tile(
    found: Diagnosis,
    config: DictConfig,
    store: TissueStore,
    split: Split,
    features: FeatureSource,
) -> None:
    """One training tile through encoder, decoder and loss, on the CPU."""
    import torch

    from tissueseg import assembly, preflight

    data = assembly.open_data(config, store, split, features)
    preflight.check_against_data(config, data)
    preflight.settle_class_weights(config, data)
    for line in (*data.describe_scaling(), *data.describe_augmentation()):
        found.say("one tile", line, "notice")
    module = assembly.build_module(config, features, data).eval()
    for line in module.decoder.describe():  # pyright: ignore[reportCallIssue]
        found.say("decoder", line)
    batch = data.one_tile()
    with torch.no_grad():
        seen = module.features(batch)
        loss = module.loss(module.decoder(seen), batch).total
    grid = " × ".join(str(side) for side in seen.levels[-1].shape[-2:])
    widths = ", ".join(str(level.shape[1]) for level in seen.levels)
    state = "ok" if bool(torch.isfinite(loss)) else "fail"
    says = f"{config.data.tile_px} px -> {grid} tokens of {widths} channels, loss {float(loss):.3f}"
    found.say("one tile", says, state)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
