"""Where runs lie below the folders that a user names, and what a study's sweep noted of each.

Nothing but names is looked at, so folders copied from elsewhere are found like those made here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tissueseg.errors import RunFolderError
from tissueseg.reporting import runs

JOBS = "jobs"
"""Of a study's folder: a record of every run, as the sweep left it."""

_NOT_LOOKED_INTO = ("wandb", "report", JOBS)
_LEFT = (runs.METRICS, runs.DECODER)
"""Files that tell of a run, though others that were beside them may not have been copied."""


class Place(NamedTuple):
    """A folder, and how a table names it."""

    folder: Path
    name: str


def find_runs(named: Sequence[Path]) -> tuple[list[Place], list[Place]]:
    """Run folders at or below the named ones, each once, by name; and records of sweeps' jobs.

    Raises:
        RunFolderError: a folder that is missing, or cannot be looked into.
    """
    found: list[Place] = []
    records: list[Place] = []
    seen: set[tuple[int, int]] = set()
    for root in named:
        if not root.is_dir():
            raise RunFolderError(
                f"runs={root} is no folder: give folders of runs, or those they lie in."
            )
        title = root.resolve().name
        try:
            for folder in _folders(root, seen):
                parts = folder.relative_to(root).parts
                if _is_run(folder):
                    shown = parts if parts and len(named) == 1 else (title, *parts)
                    found.append(Place(folder, "/".join(shown)))
                    continue
                shown = parts if len(named) == 1 else (title, *parts)
                paths = sorted((folder / JOBS).glob("*.json"))
                records += [Place(path, "/".join(shown)) for path in paths]
        except OSError as error:
            raise RunFolderError(f"runs={root} cannot be looked into: {error}. Copy it.") from error
    return _distinct(found), records


def _folders(folder: Path, seen: set[tuple[int, int]]) -> Iterator[Path]:
    """A folder and those below it, by name, none twice whatever links lead to it."""
    about = folder.stat()
    if (about.st_dev, about.st_ino) in seen:
        return
    seen.add((about.st_dev, about.st_ino))
    yield folder
    if _is_run(folder):
        return
    for below in sorted(folder.iterdir()):
        if is_looked_into(below.name) and below.is_dir():
            yield from _folders(below, seen)


def is_looked_into(name: str) -> bool:
    """Whether runs are looked for in a folder of this name."""
    hidden = name.startswith(".") or name in _NOT_LOOKED_INTO
    return not hidden and not name.endswith(".zarr")


def missing(folder: Path) -> list[str]:
    """Files without which a run cannot be read."""
    return [name for name in (runs.CONFIG, runs.ENVIRONMENT) if not (folder / name).is_file()]


def _is_run(folder: Path) -> bool:
    return not missing(folder) or any((folder / name).is_file() for name in _LEFT)


def _distinct(places: Sequence[Place]) -> list[Place]:
    """Names that two folders would share become paths."""
    times = Counter(place.name for place in places)
    return [p if times[p.name] == 1 else p._replace(name=str(p.folder)) for p in places]
