"""`python -m tissueseg.train`: a store and a composition in, a decoder with its numbers out."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg.command import INTERRUPTED, run_command

if TYPE_CHECKING:
    from tissueseg.data.datamodule import TissueDataModule
    from tissueseg.modules.segmentation import SegmentationModule

# Torch and Lightning take seconds to import; composing and --help do without them, so they are
# imported inside the functions.


def train(config: DictConfig) -> None:
    """Run one training: check, open, fit, score the best epoch, report."""
    from lightning.pytorch import seed_everything

    from tissueseg import assembly
    from tissueseg.reporting import runs

    console = Console()
    spec = assembly.check(config)
    name = f"{config.name}-{config.modality}-{spec.label}"
    wanted = Path(config.run_dir or Path("runs") / name / time.strftime("%Y-%m-%d_%H-%M-%S"))
    runs.check_writable(wanted)
    store = assembly.open_store(config, console)
    split = assembly.open_split(config, store)
    data = assembly.open_data(config, store, split, spec.normalisation)
    assembly.settle_class_weights(config, data)
    seed_everything(config.seed, workers=True, verbose=False)
    encoder = assembly.build_encoder(config, data.spec)
    module = assembly.build_module(config, encoder, data)
    folder = _open_folder(config, wanted, module, data)
    _announce(console, name, folder, data, module)
    if not _fit(config, console, folder, name, module, data):
        _say_interrupted(console, folder)
        sys.exit(INTERRUPTED)
    _score(config, console, folder, name, module, data)


def _open_folder(
    config: DictConfig, wanted: Path, module: SegmentationModule, data: TissueDataModule
) -> Path:
    """Make the run folder and write what is known before the first step."""
    from tissueseg.reporting import runs

    folder = runs.make_run_folder(wanted)
    OmegaConf.save(config, folder / runs.CONFIG, resolve=True)
    encoder = module.encoder.spec.as_dict() | {"weights": module.encoder.digest()}
    described = {"encoder": encoder, "data": data.spec.as_dict(), "split": data.split._asdict()}
    store = {"path": str(data.store.path.resolve())}
    runs.write_json(folder / runs.ENVIRONMENT, runs.environment() | described | {"store": store})
    return folder


def _announce(
    console: Console,
    name: str,
    folder: Path,
    data: TissueDataModule,
    module: SegmentationModule,
) -> None:
    sides = ", ".join(f"{len(t)} {side}" for side, t in data.split._asdict().items() if t)
    parameters = sum(p.numel() for p in module.decoder.parameters()) / 1e6
    console.print(f"[bold]{name}[/bold]: {parameters:.2f} M decoder parameters; tissues: {sides}")
    if module.encoder.spec.random_init:
        console.print(
            f"[yellow]encoder={module.encoder.spec.name} has random weights and has learnt nothing: "
            "these scores say what the decoder makes of the image, not what an encoder is worth."
        )
    if silent := data.describe_silent():
        console.print(f"[yellow]{silent}")
    console.print(f"run folder: {folder}", soft_wrap=True)


def _fit(
    config: DictConfig,
    console: Console,
    folder: Path,
    name: str,
    module: SegmentationModule,
    data: TissueDataModule,
) -> bool:
    """Train; False when it was interrupted."""
    from lightning.pytorch.callbacks import EarlyStopping

    from tissueseg import assembly
    from tissueseg.modules.callbacks import BestDecoder
    from tissueseg.modules.history import History
    from tissueseg.reporting import runs

    save = assembly.keep_decoder(config, data, module.encoder, folder / runs.DECODER)
    callbacks = [
        BestDecoder(config.monitor, save),
        EarlyStopping(config.monitor, mode="max", patience=config.patience, check_finite=False),
        assembly.build_panels(config, data, folder / runs.PANELS),
        History(folder, echo=not console.is_terminal),
    ]
    loggers = assembly.build_loggers(config, folder, name)
    trainer = assembly.build_trainer(config, console, callbacks, loggers)
    try:
        trainer.fit(module, datamodule=data)
    except SystemExit:  # how Lightning ends after Ctrl-C
        if not trainer.interrupted:
            raise
    return not trainer.interrupted


def _score(
    config: DictConfig,
    console: Console,
    folder: Path,
    name: str,
    module: SegmentationModule,
    data: TissueDataModule,
) -> None:
    """Score the kept decoder, not the last one, and print what the run left."""
    from tissueseg import assembly
    from tissueseg.modules.checkpoint import load_decoder
    from tissueseg.modules.scoring import count, load_best
    from tissueseg.reporting import runs
    from tissueseg.reporting.scores import side_scores
    from tissueseg.reporting.tables import class_table

    checkpoint = load_decoder(folder / runs.DECODER)
    load_best(module, checkpoint)
    trainer = assembly.build_trainer(
        config, console, [assembly.build_panels(config, data, folder / runs.PANELS)]
    )
    sides: dict[str, Any] = {}
    for side in runs.CONFUSION:
        if tissues := getattr(data.split, side):
            counts = count(trainer, module, data, side)
            runs.save_confusion(folder, side, counts)
            sides[side] = side_scores(counts, tissues, checkpoint.train_pixels)
    classes = [c.name for c in data.store.classes]
    about = {"run": name, "epoch": checkpoint.epoch, "monitor": config.monitor, "classes": classes}
    runs.write_json(folder / runs.METRICS, about | sides)
    console.print(class_table(f"{name}, epoch {checkpoint.epoch + 1}", classes, sides))
    _say_left(console, folder)


def _say_left(console: Console, folder: Path) -> None:
    for path in sorted(p for p in folder.rglob("*") if "wandb" not in p.parts and p.is_file()):
        console.print(f"  {path}", highlight=False, soft_wrap=True)


def _say_interrupted(console: Console, folder: Path) -> None:
    console.print(
        f"interrupted; the best decoder so far is kept. Score it with\n"
        f"  python -m tissueseg.evaluate run={folder}",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    run_command("train", train)
