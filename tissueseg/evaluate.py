"""`python -m tissueseg.evaluate run=…`: a run's decoder scored again, on any side or another store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg.command import run_command
from tissueseg.errors import ConfigError, SplitError

if TYPE_CHECKING:
    from tissueseg.data.splits import Split
    from tissueseg.modules.checkpoint import DecoderCheckpoint
    from tissueseg.store.tissues import TissueStore

SIDES = ("val", "test", "train")

_BEFORE = {
    "views": {"dihedral": 1, "extra": 0},
    "embeddings": {"path": None, "dtype": "float16", "codec": "none"},
    "data": {"shuffle": "full", "drop_last": False},
    "sampling": {"_target_": "tissueseg.data.chances.Natural"},
    "augmentation": {"_target_": "tissueseg.data.augment.Augmentation"},
    "finetune": {"blocks": 0, "lora": None},
    "ema": None,
}
"""What runs from before features could be stored do not say."""

_RENAMED = {
    "tissueseg.losses.boundary.BoundaryBCE": {
        "_target_": "tissueseg.losses.binary_cross_entropy.BinaryCrossEntropy",
        "head": "boundary",
    },
}
"""Losses of saved configurations that have another name now."""

_TAKEN_TO = {"markers.table": ("encoder.markers.path", "encoder.sp.markers.path")}
"""Options that a saved configuration repeats where they are used."""


def evaluate(config: DictConfig) -> None:
    """Load, check that everything fits, count, print and write."""
    from tissueseg import assembly, preflight
    from tissueseg.data.datamodule import data_spec
    from tissueseg.features import Trained, open_features
    from tissueseg.modules.checkpoint import load_decoder
    from tissueseg.modules.scoring import count
    from tissueseg.reporting import runs
    from tissueseg.reporting.scores import side_scores
    from tissueseg.reporting.tables import class_table

    folder, console = _run_folder(config), Console()
    trained, precision = _trained_config(config, folder)
    checkpoint = load_decoder(folder / runs.DECODER)
    preflight.check(trained)
    preflight.check_machine(trained)
    title = config.side if config.store.path is None else Path(config.store.path).stem
    out = Path(config.out or folder / "evaluation" / title)
    _check_out(out)
    store, modality = assembly.open_store(trained, console), preflight.modality_of(trained)
    store.require(modality)
    about_data = data_spec(store, modality, trained.data.tile_px)
    checkpoint.check_data(about_data)
    split = _chosen(config, checkpoint, store)
    normaliser = checkpoint.read_normaliser()
    features = open_features(trained, store, split, Trained(normaliser, precision))
    for line in features.notes:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    checkpoint.check_encoder(features.spec)
    data = assembly.open_data(trained, store, split, features, normaliser)
    module = assembly.build_module(trained, features, data)
    checkpoint.restore(module.decoder, module.encoder)
    panels = assembly.build_panels(trained, data, out / runs.PANELS)
    trainer = assembly.build_trainer(trained, console, [panels], every_tile=True)
    counts = count(trainer, module, data, "val")
    out.mkdir(parents=True, exist_ok=True)
    sides = {title: side_scores(counts, split.val, checkpoint.train_pixels)}
    about = checkpoint.about(trained.name)
    runs.save_confusion(out, "val", counts)
    runs.write_json(out / runs.METRICS, about | sides)
    console.print(class_table(about, sides))
    console.print(f"  {out}", highlight=False, soft_wrap=True)


def _run_folder(config: DictConfig) -> Path:
    from tissueseg.reporting import runs

    if OmegaConf.is_missing(config, "run"):
        raise ConfigError("give run=<run folder> on the command line: the folder `train` printed.")
    if config.side not in SIDES:
        raise ConfigError(f"side={config.side} is unknown: choose from {', '.join(SIDES)}.")
    return runs.open_run_folder(Path(config.run))


def _check_out(out: Path) -> None:
    from tissueseg.reporting import runs

    runs.check_writable(out)
    if (out / runs.CONFIG).exists():
        raise ConfigError(f"out={out} is the folder of a run, whose scores would be lost.")


def _trained_config(config: DictConfig, folder: Path) -> tuple[DictConfig, str]:
    """The run's configuration, with what this command says of machine, store and panels on top.

    Beside it the precision it was trained with.
    """
    from tissueseg.reporting import runs

    trained = OmegaConf.load(folder / runs.CONFIG)
    assert isinstance(trained, DictConfig)
    precision = trained.trainer.precision
    trained.trainer = OmegaConf.to_container(config.trainer, resolve=True)
    said = {"panels": config.panels, "data": config.data, "features": config.features}
    said["embeddings"] = {"check": config.embeddings.check}
    if config.embeddings.path is not None or config.store.path is not None:
        said["embeddings"]["path"] = config.embeddings.path
    if config.store.path is not None:
        said["store"] = {"path": config.store.path}
    if "weights" in trained.decoder:
        trained.decoder.weights = None  # training began with them; decoder.ckpt has what came of it
    trained.pop("augmentation", None)  # tiles are scored as they stand
    _take_moved(config, trained)
    for term in trained.loss.terms.values():
        term.loss.update(_RENAMED.get(term.loss.get("_target_"), {}))
    merged = OmegaConf.merge(_BEFORE, trained, said)
    assert isinstance(merged, DictConfig)
    return merged, precision


def _take_moved(config: DictConfig, trained: DictConfig) -> None:
    """Where weights and marker vectors lie now; their sha256 tells whether they are the same."""
    for key in ("encoder.weights", "encoder.he.weights", "encoder.sp.weights", "markers.table"):
        if (moved := OmegaConf.select(config, key)) is None:
            continue
        place = next((p for p in _TAKEN_TO.get(key, (key,)) if _has(trained, p)), None)
        if place is None:
            raise ConfigError(f"{key}={moved}: this run has none.")
        OmegaConf.update(trained, place, moved)


def _has(config: DictConfig, key: str) -> bool:
    """Whether a configuration has an option, be it null."""
    node, _, name = key.rpartition(".")
    return name in (OmegaConf.select(config, node) or ())


def _chosen(config: DictConfig, checkpoint: DecoderCheckpoint, store: TissueStore) -> Split:
    """A split whose validation side holds what is to be scored, none of it training in disguise."""
    from tissueseg.data.splits import Split

    if config.store.path is not None:
        checkpoint.check_unseen(store.digests())
        return Split(train=(), val=store.tissues)
    tissues = getattr(checkpoint.split_of(store.digests()), config.side)
    if not tissues:
        raise SplitError(f"side={config.side} of this run holds no tissue: choose another side.")
    return Split(train=(), val=tissues)


if __name__ == "__main__":
    run_command("evaluate", evaluate)
