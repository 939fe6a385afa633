"""`python -m tissueseg.train`: a store and a composition in, a decoder with its numbers out."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.console import Console

from tissueseg.command import INTERRUPTED, plain, run_command
from tissueseg.options import builtin_encoders
from tissueseg.ranks import Rank, begin_ranks
from tissueseg.resuming import config_of, default_folder, named_run, requeue
from tissueseg.store.processes import end_with_starter
from tissueseg.study_checks import check_single
from tissueseg.sweep import start_apart
from tissueseg.workers import stoppable

if TYPE_CHECKING:
    from tissueseg.modules.group import Group
    from tissueseg.modules.resumption import Signals
    from tissueseg.run_folder import Folder
    from tissueseg.training import Training
    from tissueseg.training_parts import Parts

# Torch and Lightning take seconds to import; composing and --help do without them, so they are
# imported inside the functions.


def train(config: DictConfig) -> None:
    """Check, open, fit, score the best epoch, report; in as many processes as there are devices."""
    check_single(config)
    named = named_run(config)
    if named is not None:
        config = config_of(named, config, "train")
    rank = begin_ranks("tissueseg.train", config)
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
    from tissueseg.run_folder import begun
    from tissueseg.training_parts import open_parts

    console = Console(quiet=not group.leads)
    with ExitStack() as stack:
        with stoppable(requeue if config.state.requeue else lambda: None):
            parts = group.in_turn(lambda: open_parts(config, named, group, rank, console))
            wanted = named or default_folder(parts.config, parts.name)
            folder = stack.enter_context(begun(parts, wanted, named is not None, group))
        if folder.finished:
            console.print(f"finished already: {folder.path}", soft_wrap=True)
            return 0
        signals = stack.enter_context(Signals())
        return _train(_training(parts, folder, console, rank, group, signals))


def _training(
    parts: Parts,
    folder: Folder,
    console: Console,
    rank: Rank | None,
    group: Group,
    signals: Signals,
) -> Training:
    from tissueseg.modules.tracking import open_tracking
    from tissueseg.training import Training

    identity, goes_on = folder.identity, folder.goes_on
    loggers = open_tracking(folder.path, parts.name, plain(parts.config), identity, goes_on)
    return Training(parts, folder, loggers, console, rank, group, signals)


def _train(training: Training) -> int:
    """Train, and say what came of it; the exit code if it was stopped, else 0."""
    folder, console = training.folder.path, training.console
    _announce(training.parts, training.folder, console)
    if stopped := training.run():
        _say(console, "interrupted; the best decoder so far is kept. Go on, or score it, with")
        _say(console, f"  python -m tissueseg.train resume={folder}")
        _say(console, f"  python -m tissueseg.evaluate run={folder}")
        if training.group.leads and stopped != INTERRUPTED and training.parts.config.state.requeue:
            requeue()
        training.group.highest(0)  # srun ends all when one has ended badly
        return stopped
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not {"wandb", "state"} & {*path.relative_to(folder).parts}:
            _say(console, f"  {path}")
    _say(console, "cells of whole tissues, and their scores:")
    for command in ("predict", "evaluate"):
        _say(console, f"  python -m tissueseg.{command} run={folder}")
    return 0


def _announce(parts: Parts, folder: Folder, console: Console) -> None:
    data, module = parts.data, parts.module
    sides = ", ".join(f"{len(t)} {side}" for side, t in data.split._asdict().items() if t)
    parameters = sum(p.numel() for p in module.decoder.parameters()) / 1e6
    console.print(f"[bold]{parts.name}[/bold]: decoder of {parameters:.2f} M parameters")
    console.print(f"store: {data.store.address} (tissues: {sides})", soft_wrap=True)
    console.print(f"run folder: {folder.path}", soft_wrap=True)
    for line in (*parts.notes, *folder.notes, *module.describe()):
        _say(console, line)
    for part in (part for part in module.spec.parts or (module.spec,) if part.random_init):
        console.print(
            f"[yellow]notice: encoder={part.name} has random weights and has learnt "
            "nothing: these scores say what the decoder makes of the image, not what an encoder is worth",
            soft_wrap=True,
        )
    for part in builtin_encoders(parts.config):
        console.print(
            f"[yellow]notice: {part} has learnt from drawn tissue alone: weights that have seen real "
            "tissue are given with encoder=… encoder.weights=…",
            soft_wrap=True,
        )
    for line in (*data.describe_scaling(), *data.describe_augmentation(), *data.sampling.notes):
        console.print(f"[yellow]notice: {line}", soft_wrap=True)


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def main() -> None:
    """The command: a training here, or each one of a sweep in a process of its own."""
    end_with_starter()
    run_command("train", train, start_apart)


if __name__ == "__main__":
    main()
