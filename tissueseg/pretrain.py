"""`python -m tissueseg.pretrain`: stores of images in, labelled or not, and a learned encoder out."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.console import Console

from tissueseg.command import INTERRUPTED, plain, run_command
from tissueseg.ranks import Rank, begin_ranks
from tissueseg.resuming import config_of, default_folder, named_run, requeue
from tissueseg.store.processes import end_with_starter
from tissueseg.sweep import start_apart
from tissueseg.workers import stoppable

if TYPE_CHECKING:
    from tissueseg.modules.group import Group
    from tissueseg.pretraining_parts import PretrainingParts
    from tissueseg.run_folder import Folder


def pretrain(config: DictConfig) -> None:
    """Check, open, fit, leave the encoder and its scores; in as many processes as there are devices."""
    named = named_run(config)
    if named is not None:
        config = config_of(named, config, "pretrain")
    rank = begin_ranks("tissueseg.pretrain", config)
    from tissueseg.devices import own_device
    from tissueseg.modules.group import joined

    place, device = rank or Rank(), own_device(config)
    cuda = device.type == "cuda"
    with joined(place.number, place.of, device.index if cuda else 0, cuda) as group:
        stopped = _run(config, named, rank, group)
    if stopped:
        sys.exit(stopped)


def _run(config: DictConfig, named: Path | None, rank: Rank | None, group: Group) -> int:
    """Open and train; the exit code if it was stopped, else 0."""
    from tissueseg.modules.resumption import Signals
    from tissueseg.modules.tracking import open_tracking
    from tissueseg.pretraining_job import Pretraining
    from tissueseg.pretraining_parts import open_parts
    from tissueseg.run_folder import begun

    console = Console(quiet=not group.leads)
    with ExitStack() as stack:
        with stoppable(requeue if config.state.requeue else lambda: None):
            parts = group.in_turn(lambda: open_parts(config, named, rank, console))
            wanted = named or default_folder(parts.config, parts.name)
            folder = stack.enter_context(begun(parts, wanted, named is not None, group))
        if folder.finished:
            console.print(f"finished already: {folder.path}", soft_wrap=True)
            return 0
        signals = stack.enter_context(Signals())
        shown = plain(parts.config)
        loggers = open_tracking(folder.path, parts.name, shown, folder.identity, folder.goes_on)
        _announce(parts, folder, console)
        stopped = Pretraining(parts, folder, loggers, console, rank, group, signals).run()
        _close(stopped, parts, folder, console, group)
        return stopped


def _announce(parts: PretrainingParts, folder: Folder, console: Console) -> None:
    parameters = sum(p.numel() for p in parts.module.autoencoder.parameters()) / 1e6
    console.print(
        f"[bold]{parts.name}[/bold]: encoder and decoder of {parameters:.2f} M parameters"
    )
    for store, split in zip(parts.stores, parts.splits, strict=True):
        said = f"{len(split.train)} train, {len(split.val)} val"
        said += f", {len(split.test)} test left alone" if split.test else ""
        _say(console, f"store: {store.address} (tissues: {said})")
    _say(console, f"{len(parts.data.train)} training tiles of {parts.config.data.tile_px} px")
    _say(console, f"run folder: {folder.path}")
    for line in (*parts.notes, *folder.notes):
        _say(console, line)


def _close(
    stopped: int, parts: PretrainingParts, folder: Folder, console: Console, group: Group
) -> None:
    """Say what came of it."""
    if stopped:
        _say(console, "interrupted. Go on with")
        _say(console, f"  python -m tissueseg.pretrain resume={folder.path}")
        if group.leads and stopped != INTERRUPTED and parts.config.state.requeue:
            requeue()
        group.highest(0)  # srun ends all when one has ended badly
        return
    for path in sorted(folder.path.rglob("*")):
        if path.is_file() and not {"wandb", "state"} & {*path.relative_to(folder.path).parts}:
            _say(console, f"  {path}")
    spec = parts.module.autoencoder.encoder.spec
    _say(console, "an encoder for training, evaluation and prediction:")
    words = f"encoder={spec.name} encoder.random_init=false"
    _say(
        console,
        f"  python -m tissueseg.train {words} encoder.weights={folder.path}/encoder.safetensors",
    )


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    end_with_starter()
    run_command("pretrain", pretrain, start_apart)
