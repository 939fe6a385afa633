"""The way every command starts: Hydra composes, errors become one line, exit codes mean something.

Exit 0: done. 2: the user's to mend (one line says what and how). 130: interrupted; above that: stopped
by a signal, 128 + its number. A traceback with exit 1 is a bug of ours.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable

from hydra import main as hydra_main
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tissueseg.command_help import HELP, QUIET, help_text
from tissueseg.command_line import completed
from tissueseg.composition import one_line, require_words
from tissueseg.config import CONFIG_DIR
from tissueseg.errors import (
    INTERRUPTED,
    STOPPED,
    USER_ERROR,
    PeerLostError,
    TissuesegError,
    in_one_line,
)
from tissueseg.own_packages import find_own_packages, why_not_composed
from tissueseg.store.processes import WATCHED

_HYDRA_SAYS = {
    "Config group override": "Choose one of the group's files.",  # of group=null
    "Only one of --run": "Leave -m out to see one composition.",
}
"""How errors of its begin that are no class of its own -> what to do."""

_LAUNCHERS = (
    "TerminatedWorkerError",
    "UncompletedJobError",
    "FailedJobError",
    "FailedSubmissionError",
)
"""What joblib and submitit say when a process or job of theirs is gone."""


def run_command(
    name: str,
    job: Callable[[DictConfig], None],
    in_sweep: Callable[[DictConfig], None] | None = None,
) -> None:
    """Compose `configs/<name>.yaml` with the command line and run the job on it.

    Args:
        name: of the command.
        job: what it does.
        in_sweep: what it does of each job of a sweep; None: the same.
    """
    asked, quiet = ({*flags} & {*sys.argv[1:]} for flags in (HELP, QUIET))
    sys.argv = completed(name, [word for word in sys.argv if word not in QUIET])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra re-raises, and the lines below speak
    refused: list[Exception] = []

    def quietly(config: DictConfig) -> None:
        # Hydra prints a line of its own about errors that leave a job. In a sweep it must see them:
        # its jobs may run in other processes.
        swept = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
            require_words(OmegaConf.to_container(config, resolve=False))
            (in_sweep or job if swept else job)(config)
        except (TissuesegError, OmegaConfBaseException) as error:
            if swept:
                raise
            refused.append(error)

    start = hydra_main(config_path=str(CONFIG_DIR), config_name=name, version_base="1.3")(quietly)
    try:
        find_own_packages()
        if asked:
            print(help_text(name))
        else:
            if quiet:
                _print_nothing()
            start()
        sys.stdout.flush()
        if refused:
            raise refused[0]
    except PeerLostError as error:
        if WATCHED not in os.environ:  # else the process that started this one says what was lost
            _say(f"error: {one_line(error)}")
        sys.exit(USER_ERROR)
    except (TissuesegError, HydraException, OmegaConfBaseException) as error:
        _print_notes(error)
        _say(f"error: {one_line(error)}{_extra(error)}")
        sys.exit(USER_ERROR)
    except BrokenPipeError:
        if not _reader_left():
            raise
        sys.exit(STOPPED + signal.SIGPIPE)
    except Exception as error:
        if (said := _refusal(error)) is None:
            raise
        _say(f"error: {said}")
        sys.exit(USER_ERROR)
    except KeyboardInterrupt as error:
        _print_notes(error)
        _say("interrupted")
        sys.exit(INTERRUPTED)


def _refusal(error: Exception) -> str | None:
    """What to say of an error that Hydra or a launcher let through; None: it is a bug."""
    for said, mend in _HYDRA_SAYS.items():
        if isinstance(error, ValueError) and str(error).startswith(said):
            return f"{one_line(error)} {mend}"
    if type(error).__name__ in _LAUNCHERS:
        return (
            f"a process that starts runs is gone ({type(error).__name__}: {in_one_line(error)[:200]}). "
            "Start the same command again: what is finished is kept."
        )
    return why_not_composed(error)


def _reader_left() -> bool:
    """Whether nobody reads what is printed any more, as after `| head`; then nothing more is."""
    output = sys.stdout.fileno()
    watched = select.poll()
    watched.register(output, 0)
    left = any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0))
    if left:
        _print_nothing()
    return left


def _print_nothing() -> None:
    """Here and in processes that this one starts; what goes to standard error is seen."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _extra(error: BaseException) -> str:
    """What to install, where Hydra does not know a launcher of a package that is optional."""
    missing = "Could not load 'hydra/launcher/submitit" in str(error)
    return " Install it: pip install 'tissueseg[cluster]'." if missing else ""


def _print_notes(error: BaseException) -> None:
    """What was added to an error on its way, before the line that says it."""
    for note in getattr(error, "__notes__", ()):
        _say(f"notice: {note}")


def _say(line: str) -> None:
    """Write a whole line at once: processes that end together share one standard error."""
    sys.stderr.write(f"{line}\n")
