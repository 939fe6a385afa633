"""`python -m tissueseg.evaluate run=…`: a run's decoder scored again, on any side or another store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg.command import run_command
from tissueseg.errors import ConfigError

if TYPE_CHECKING:
    from tissueseg.data.splits import Split
    from tissueseg.store.tissues import TissueStore

SIDES = ("val", "test", "train")


def evaluate(config: DictConfig) -> None:
    """Load, check that everything fits, count, print and write."""
    from tissueseg import assembly
    from tissueseg.modules.checkpoint import load_decoder
    from tissueseg.modules.scoring import count
    from tissueseg.reporting import runs
    from tissueseg.reporting.scores import side_scores
    from tissueseg.reporting.tables import class_table

    folder, console = _run_folder(config), Console()
    trained = _trained_config(config, folder)
    checkpoint = load_decoder(folder / runs.DECODER)
    spec = assembly.check(trained)
    store = assembly.open_store(trained, console)
    split = _chosen(config, trained, store)
    title = config.side if config.store.path is None else Path(config.store.path).stem
    out = Path(config.out or folder / "evaluation" / title)
    runs.check_writable(out)
    normaliser = checkpoint.read_normaliser()
    data = assembly.open_data(trained, store, split, spec.normalisation, normaliser)
    encoder = assembly.build_encoder(trained, data.spec)
    checkpoint.check_encoder(encoder.spec, encoder.digest())
    checkpoint.check_data(data.spec)
    module = assembly.build_module(trained, encoder, data)
    module.decoder.load_state_dict(checkpoint.state)
    panels = assembly.build_panels(trained, data, out / runs.PANELS)
    counts = count(assembly.build_trainer(trained, console, [panels]), module, data, "val")
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


def _trained_config(config: DictConfig, folder: Path) -> DictConfig:
    """The run's configuration, with what this command says of store and panels on top."""
    from tissueseg.reporting import runs

    trained = OmegaConf.load(folder / runs.CONFIG)
    said = {"panels": config.panels, "store": {"path": config.store.path or trained.store.path}}
    merged = OmegaConf.merge(trained, said)
    assert isinstance(merged, DictConfig)
    return merged


def _chosen(config: DictConfig, trained: DictConfig, store: TissueStore) -> Split:
    """A split whose validation side holds what is to be scored."""
    from tissueseg import assembly
    from tissueseg.data.splits import Split
    from tissueseg.errors import SplitError

    if config.store.path is not None:
        return Split(train=(), val=store.tissues)
    tissues = getattr(assembly.open_split(trained, store), config.side)
    if not tissues:
        raise SplitError(f"side={config.side} of this run holds no tissue: choose another side.")
    return Split(train=(), val=tissues)


if __name__ == "__main__":
    run_command("evaluate", evaluate)
