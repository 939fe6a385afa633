"""The demo as a tissue store, drawn once and kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from platformdirs import user_cache_path

from tissueseg.errors import StoreNotFoundError, TissueDataError
from tissueseg.store.demo import CLASSES, PANEL, DemoParameters, draw_tissue
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter


def demo_store(
    parameters: DemoParameters,
    cache: Path | None = None,
    track: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Path:
    """Path of the demo store with these parameters; draws it when it is not in the cache yet.

    The file name holds a digest of the parameters and of the drawing code, so a store drawn otherwise
    is never taken for this one.

    Args:
        parameters: of the cohort.
        cache: folder; None: `$TISSUESEG_CACHE`, or the user's cache folder.
        track: wraps the tissue numbers, to show progress.
    """
    path = (cache or _cache()) / f"demo-{_digest(parameters)}.zarr"
    if not _is_store(path):
        try:
            _draw(parameters, path, track)
        except (OSError, TissueDataError):
            if not _is_store(path):  # else another process was faster
                raise
    return path


def _cache() -> Path:
    if named := os.environ.get("TISSUESEG_CACHE"):
        return Path(named)
    try:
        return user_cache_path("tissueseg")
    except RuntimeError as error:  # a user without a home, as in some containers
        raise StoreNotFoundError(
            f"no place to keep the demo ({error}): set TISSUESEG_CACHE to a folder."
        ) from error


def _draw(
    parameters: DemoParameters, path: Path, track: Callable[[Iterable[int]], Iterable[int]]
) -> None:
    # What stands there is no store, or we would not be here; a whole one is never replaced, since
    # another process may be reading it.
    shutil.rmtree(path, ignore_errors=True)
    with TissueWriter(path, mpp=parameters.mpp, classes=CLASSES, panel=PANEL) as out:
        for i in track(range(parameters.tissues)):
            drawn = draw_tissue(parameters, i)
            tissue = Tissue(drawn.instances, drawn.classes, drawn.he, drawn.sp)
            out.add(f"demo_{i:03d}", tissue)


def _is_store(path: Path) -> bool:
    try:
        TissueStore(path)
    except StoreNotFoundError:
        return False
    return True


def _digest(parameters: DemoParameters) -> str:
    hashed = hashlib.sha256(repr(sorted(asdict(parameters).items())).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        hashed.update(source.read_bytes())
    return hashed.hexdigest()[:16]
