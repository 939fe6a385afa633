"""The folder of a training: made, or entered again to go on, and held while it is written to."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree
from typing import Any, NamedTuple, Protocol, cast
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf

from tissueseg.errors import RunFolderError, SpecMismatchError
from tissueseg.modules.group import Group
from tissueseg.modules.state_files import StateFiles
from tissueseg.reporting import runs
from tissueseg.resuming import begun_before, finds_its_folder
from tissueseg.store.claims import Claims

_PATIENCE_S = 150.0  # with a process of another machine, which is thought dead after 120
_POLL_S = 2.0
_SAME = ("encoder", "data", "split", "digests")


class Folder(NamedTuple):
    """A run's folder, ready to be written to."""

    path: Path
    identity: str | None  # by which trackers know the run
    goes_on: bool  # it was begun before
    state: Path | None  # where it goes on; None: at the beginning
    finished: bool  # nothing is left to do
    notes: tuple[str, ...]  # for the user


class Described(Protocol):
    """What a training is made of, opened and checked."""

    @property
    def config(self) -> DictConfig:
        """As composed, settled; the folder keeps it."""
        ...

    def describe(self) -> dict[str, Any]:
        """Which encoder, data, split and store it is made of."""
        ...

    def keep_split(self) -> str:
        """Name the split in the store and in the configuration; a line on that."""
        ...


@contextmanager
def begun(parts: Described, wanted: Path, named: bool, group: Group) -> Iterator[Folder]:
    """The folder, made or entered by the first process of a group, which holds it for all.

    Args:
        parts: of the training.
        wanted: folder, as of `entered`.
        named: it was named as the folder of a run to go on with.
        group: of the processes that train together.
    """
    if not group.leads:
        group.in_turn(lambda: None)
        yield group.told(cast("Folder", None))
        return
    with ExitStack() as stack:
        entering = entered(parts, wanted, named)
        yield group.told(group.in_turn(lambda: stack.enter_context(entering)))


@contextmanager
def entered(parts: Described, wanted: Path, named: bool) -> Iterator[Folder]:
    """Make a run's folder, or go on in it.

    Args:
        parts: of the training.
        wanted: folder; a new one gets a number if the name is taken.
        named: it was named as the folder of a run to go on with.

    Raises:
        RunFolderError: it holds another run, or another process is at it.
        SpecMismatchError: the run was begun with other data.
    """
    about, note = parts.describe(), parts.keep_split()
    found = named or finds_its_folder(parts.config)
    path = wanted if found else runs.make_run_folder(wanted)
    _refuse_results(path)
    with ExitStack() as stack:
        if not _is_over(path):
            stack.enter_context(_held(path))
        goes_on = named or begun_before(parts.config, path)
        if goes_on:
            _check_same(path, about)
        else:
            _begin(path, parts.config, about)
        if (path / runs.METRICS).is_file():
            yield Folder(path, None, goes_on, None, finished=True, notes=())
            return
        state, damaged = StateFiles(path / runs.STATE).recover()
        identity = runs.read_json(path / runs.ENVIRONMENT).get("id")
        said = [f"notice: {line}, and is removed" for line in damaged]
        if goes_on:
            said.append(f"goes on after {state.name}" if state else "begins anew: it left no state")
        yield Folder(path, identity, goes_on, state, finished=False, notes=(note, *said))


def _refuse_results(folder: Path) -> None:
    """Leave alone what is no run that can be gone on with, and no folder that a run was to begin in."""
    kept = (runs.METRICS, runs.DECODER, runs.ENCODER)
    results = any((folder / name).exists() for name in kept)
    if results and not (folder / runs.CONFIG).is_file():
        raise RunFolderError(
            f"{folder} holds results, but no {runs.CONFIG}: choose another run_dir."
        )


def _is_over(folder: Path) -> bool:
    """Whether a run is finished, and the state of its training gone."""
    return (folder / runs.METRICS).is_file() and not (folder / runs.STATE).exists()


def _begin(folder: Path, config: DictConfig, about: Mapping[str, Any]) -> None:
    """Say what the run is; with its configuration, which comes last, it is begun."""
    identity = {"id": uuid4().hex[:12]}
    runs.write_json(folder / runs.ENVIRONMENT, {**runs.environment(), **about, **identity})
    kept = OmegaConf.merge(config, {"resume": None})
    with runs.written_whole(folder / runs.CONFIG) as partial:
        OmegaConf.save(kept, partial, resolve=True)


def _check_same(folder: Path, about: Mapping[str, Any]) -> None:
    """Refuse to go on with another encoder, other data or other tissues than before."""
    before = runs.read_json(folder / runs.ENVIRONMENT)
    now = json.loads(json.dumps(about, default=str))
    if differ := [key for key in _SAME if before.get(key) != now[key]]:
        raise SpecMismatchError(
            f"{folder} {runs.BEGUN_WITH_OTHER} {' and '.join(differ)} than there are now, and numbers of "
            "both would be mixed: begin a new run."
        )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a run folder: one training writes in it at a time."""
    with runs.disk_errors(folder), Claims(folder / runs.STATE / "claims") as claims:
        until, claim = time.monotonic() + _PATIENCE_S, claims.take("run")
        # A job that was put back into the queue may begin before its last heartbeat is history.
        while claim is None and not claims.held_here("run") and time.monotonic() < until:
            time.sleep(_POLL_S)
            claim = claims.take("run")
        if claim is None:
            raise RunFolderError(
                f"{folder}: another process trains this run: wait for it, or begin a new run."
            )
        try:
            yield
        finally:
            if folder.is_dir():
                claim.release()
    if (folder / runs.METRICS).is_file():
        rmtree(folder / runs.STATE, ignore_errors=True)  # nothing is left to go on with
