"""The way every command starts: Hydra composes, errors become one line, exit codes mean something.

Exit 0: done. 2: the user's to mend (one line says what and how). 130: interrupted; above that: stopped
by a signal, 128 + its number. A traceback with exit 1 is a bug of ours. Hydra and OmegaConf stop here:
what comes out of `build` is plain Python.
"""

from __future__ import annotations

import difflib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hydra import main as hydra_main
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tissueseg.command_help import FLAGS, help_text
from tissueseg.command_line import completed
from tissueseg.config import CONFIG_DIR, OWN_PACKAGES, own_packages
from tissueseg.errors import ConfigError, PeerLostError, TissuesegError, in_one_line
from tissueseg.own_packages import find_own_packages
from tissueseg.store.processes import WATCHED

USER_ERROR = 2
INTERRUPTED = 130
STOPPED = 128  # and the number of the signal

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

_REFUSALS = ("MisconfigurationException",)  # Lightning's word for what a machine cannot do
_TRUSTED = ("tissueseg.", "torch.optim.", "torch.nn.", "lightning.pytorch.", "albumentations.")

_MOST_JOBS = 8
"""At a time, unless told otherwise: each holds a few hundred MB."""


def _at_a_time(jobs: int | None) -> int:
    return jobs or min(os.cpu_count() or 1, _MOST_JOBS)


def _first_of(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _below(wanted: int, bound: int) -> int:
    return max(min(wanted, bound - 1), 0)


OmegaConf.register_new_resolver("below", _below, replace=True)
OmegaConf.register_new_resolver("first_of", _first_of, replace=True)
OmegaConf.register_new_resolver("names_of", lambda node: ",".join(node), replace=True)
OmegaConf.register_new_resolver("jobs_at_a_time", _at_a_time, replace=True)


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
    asked = {*FLAGS} & {*sys.argv[1:]}
    sys.argv = completed(name, sys.argv)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra re-raises, and the lines below speak
    refused: list[Exception] = []

    def quietly(config: DictConfig) -> None:
        # Hydra prints a line of its own about errors that leave a job. In a sweep it must see them:
        # its jobs may run in other processes.
        swept = HydraConfig.get().mode == RunMode.MULTIRUN
        try:
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
    except ValueError as error:
        mend = next((m for said, m in _HYDRA_SAYS.items() if str(error).startswith(said)), None)
        if mend is None:
            raise
        _say(f"error: {one_line(error)} {mend}")
        sys.exit(USER_ERROR)
    except BrokenPipeError:
        if not _reader_left():
            raise
        sys.exit(STOPPED + signal.SIGPIPE)
    except Exception as error:
        if type(error).__name__ not in _LAUNCHERS:
            raise
        said = f"{type(error).__name__}: {in_one_line(error)[:200]}"
        _say(
            f"error: a process that starts runs is gone ({said}). Start the same command again: what is "
            "finished is kept."
        )
        sys.exit(USER_ERROR)
    except KeyboardInterrupt as error:
        _print_notes(error)
        _say("interrupted")
        sys.exit(INTERRUPTED)


def _reader_left() -> bool:
    """Whether nobody reads what is printed any more, as after `| head`; then nothing more is."""
    output = sys.stdout.fileno()
    watched = select.poll()
    watched.register(output, 0)
    left = any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0))
    if left:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return left


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


def build(config: Any, **given: Any) -> Any:
    """Instantiate a config node with plain Python arguments.

    Args:
        config: a node with `_target_` (nested ones are built too).
        given: arguments that only the command knows.

    Raises:
        ConfigError: a target outside the packages this project builds from.
    """
    try:
        _check_targets(OmegaConf.to_container(config, resolve=True))
        return instantiate(config, _convert_="all", **given)
    except ImportError as error:
        raise ConfigError(f"{config.get('_target_')} cannot be found: {error}.") from error
    except InstantiationException as error:
        refusal = _refusal(error, str(config.get("_target_")))
        if refusal is None:
            raise
        raise refusal from None


def _refusal(error: InstantiationException, target: str) -> TissuesegError | None:
    """What a constructor said, with the key of its node or the target; None: it refused nothing."""
    cause, key = error.__cause__, _full_key(error)
    if isinstance(cause, ConfigError) and key and not str(cause).startswith(key.split(".")[0]):
        return ConfigError(f"{key}: {cause}")
    if isinstance(cause, TissuesegError):
        return cause
    refused = isinstance(cause, TypeError | ValueError | AttributeError)
    if cause and (refused or type(cause).__name__ in _REFUSALS):
        return ConfigError(f"{key or target} cannot be built: {in_one_line(cause)}.")
    return None


def _full_key(error: InstantiationException) -> str:
    """Where the node stands, which Hydra says in a line of its own."""
    marks = (line.partition("full_key:") for line in str(error).splitlines())
    return next((key.strip() for _, mark, key in marks if mark), "")


def finish(key: str, partial: Callable[..., Any], **given: Any) -> Any:
    """Call what a `_partial_` node built; what it cannot take is the user's to mend.

    Args:
        key: of the node, for the message.
        partial: from `build`.
        given: arguments that only the command knows.
    """
    try:
        return partial(**given)
    except TissuesegError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {error}.") from error


def plain(config: DictConfig | ListConfig) -> Any:
    """Resolve a node into dicts, lists and scalars."""
    return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


def require_values(config: DictConfig) -> None:
    """Refuse a command line that leaves out what has no default."""
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ConfigError(f"give {', '.join(f'{key}=…' for key in missing)} on the command line.")


def tissue_names(config: DictConfig) -> list[str] | None:
    """What `tissues` names; None: all.

    Raises:
        ConfigError: it is no list of names.
    """
    tissues = plain(config).get("tissues")
    names = isinstance(tissues, list) and all(isinstance(name, str) for name in tissues)
    if tissues is not None and not names:
        raise ConfigError(
            f"tissues={tissues}: wanted names as in tissues=[a,b], in quotes where they look like "
            "numbers (\"tissues=['1']\"), or null for all."
        )
    return tissues


def task_words() -> list[str]:
    """What stands on the command line of this job; in a sweep, of this one alone."""
    if not HydraConfig.initialized():
        return []
    return list(HydraConfig.get().overrides.task)


def added(group: str) -> list[str]:
    """What the command line adds to the choices of a group, such as `decoder/slots@decoder`."""
    values = (word.split("=", 1)[1] for word in task_words() if word.startswith(f"+{group}="))
    return [name.strip() for value in values for name in value.strip("[]").split(",")]


def tracked(items: Sequence[str], doing: str) -> Iterable[str]:
    """Show progress through some items, where someone is looking."""
    if not sys.stdout.isatty():
        return items
    from rich.progress import track

    return track(items, doing, transient=True)


def one_line(error: BaseException) -> str:
    """Say an error in one line; for unknown options, name those there are."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    starts = [i for i, line in enumerate(lines) if line.startswith("Available options")]
    if not starts:
        said = in_one_line(error, leave_out=("full_key:", "object_type="))
        return said if not lines or said.endswith(("?", ")")) else f"{said}."
    ends = (i for i, line in enumerate(lines) if line.startswith("Config search path"))
    options = lines[starts[0] + 1 : next(ends, None)]
    return f"{lines[0].rstrip('.')}. Choose from: {', '.join(options)}{_closest(lines[0], options)}"


def _closest(line: str, options: list[str]) -> str:
    wanted = line.rsplit("/", 1)[-1].strip("'\" .")
    close = difflib.get_close_matches(wanted, options, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _check_targets(node: Any) -> None:
    """Refuse targets by where they are defined: a trusted module also holds what it imports."""
    trusted = (*_TRUSTED, *(f"{package}." for package in own_packages()))
    if isinstance(node, dict) and (target := node.get("_target_")) is not None:
        named = str(target)
        defined = getattr(get_object(named), "__module__", "") if named.startswith(trusted) else ""
        if not f"{defined}.".startswith(trusted):
            raise ConfigError(
                f"_target_: {target} is not among the packages configs may build from "
                f"({', '.join(t.rstrip('.') for t in trusted)}); packages of your own are named by "
                f"{OWN_PACKAGES}=…"
            )
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for child in children:
        _check_targets(child)
