"""A command that trains: one run in as many processes as there are devices, to its last line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig
from rich.console import Console

from tissueseg.composition import plain
from tissueseg.errors import INTERRUPTED
from tissueseg.ranks import Rank, begin_ranks
from tissueseg.resuming import config_of, default_folder, named_run, requeue
from tissueseg.workers import stoppable

if TYPE_CHECKING:
    from tissueseg.fitting import Fitting, PartsT
    from tissueseg.modules.group import Group
    from tissueseg.run_folder import Folder

# Torch and Lightning take seconds to import; composing and --help do without them, so they are
# imported inside the functions.


@dataclass(frozen=True)
class Job:
    """This process's part of a run.

    Args:
        command: train or pretrain.
        config: as composed, or as a run that goes on has kept it.
        named: folder of a run that goes on.
        rank: of this process; None: it is alone.
        group: of the processes that train together.
        console: quiet in all processes but the first.
    """

    command: str
    config: DictConfig
    named: Path | None
    rank: Rank | None
    group: Group
    console: Console

    def run(
        self,
        opened: Callable[[], PartsT],
        kind: type[Fitting[PartsT]],
        announce: Callable[[PartsT, Folder], None],
        next_steps: Callable[[PartsT, Path, bool], Iterable[str]],
    ) -> int:
        """Open and train; the exit code if it was stopped, else 0.

        Args:
            opened: opens and checks what the run is made of, before anything is written.
            kind: of training.
            announce: says what begins.
            next_steps: lines on what can be done with what is in its folder; True: it was stopped.
        """
        from tissueseg.modules.resumption import Signals
        from tissueseg.modules.tracking import open_tracking
        from tissueseg.run_folder import begun

        requeues, group = self.config.state.requeue, self.group
        with ExitStack() as stack:
            with stoppable(requeue if requeues else lambda: None):
                parts = group.in_turn(opened)
                wanted = self.named or default_folder(parts.config, parts.name)
                folder = stack.enter_context(begun(parts, wanted, self.named is not None, group))
            path, shown = folder.path, plain(parts.config)
            if folder.finished:
                self.say(f"finished already: {path}")
                return 0
            signals = stack.enter_context(Signals())
            loggers = open_tracking(path, parts.name, shown, folder.identity, folder.goes_on)
            announce(parts, folder)
            fitting = kind(parts, folder, loggers, self.console, self.rank, group, signals)
            stopped = fitting.run()
            self._list(path) if not stopped else self._tell_stopped(path)
            for line in next_steps(parts, path, bool(stopped)):
                self.say(line)
            if stopped:
                if group.leads and stopped != INTERRUPTED and requeues:
                    requeue()
                group.highest(0)  # srun ends all when one has ended badly
            return stopped

    def say(self, line: str) -> None:
        """Print a line as it is, however wide the terminal."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def warn(self, line: str) -> None:
        """Print what the user should know."""
        self.console.print(f"[yellow]notice: {line}", soft_wrap=True)

    def _tell_stopped(self, folder: Path) -> None:
        self.say("interrupted. Go on with")
        self.say(f"  python -m tissueseg.{self.command} resume={folder}")

    def _list(self, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not {"wandb", "state"} & {*path.relative_to(folder).parts}:
                self.say(f"  {path}")


def in_ranks(command: str, config: DictConfig, run: Callable[[Job], int]) -> None:
    """Run in as many processes as there are devices; leave with the exit code of a run that was stopped.

    Args:
        command: train or pretrain.
        config: as composed; a run that goes on has kept its own.
        run: what each process does.
    """
    named = named_run(config)
    if named is not None:
        config = config_of(named, config, command)
    rank = begin_ranks(f"tissueseg.{command}", config)
    from tissueseg.devices import own_device
    from tissueseg.modules.group import joined

    place, device = rank or Rank(), own_device(config)
    cuda = device.type == "cuda"
    with joined(place.number, place.of, device.index if cuda else 0, cuda) as group:
        stopped = run(Job(command, config, named, rank, group, Console(quiet=not group.leads)))
    if stopped:
        sys.exit(stopped)
