"""A whole source into a store: the loop that `prepare` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from tissueseg.errors import TissueDataError
from tissueseg.store.provenance import Stamps
from tissueseg.store.sources.base import Source
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter


def convert(
    source: Source,
    out: str | Path,
    *,
    overwrite: bool = False,
    recipe: Any = None,
    track: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> TissueStore:
    """Write every tissue of a source to a store; one that was interrupted is gone on with.

    Args:
        source: of tissues that all have one µm/px.
        out: path of the store.
        overwrite: replace a store that stands there.
        recipe: the options that made the source, in plain types: what an interrupted run left is used
            only when they are the same.
        track: wraps the tissue names, to show progress.
    """
    files = {name: source.files(name) for name in source.tissues}
    stamps = Stamps(files)
    with TissueWriter(
        out,
        mpp=common_scale(source),
        classes=source.classes,
        panel=source.panel,
        images=source.images,
        moments=source.moments,
        overwrite=overwrite,
        resume=True,
        recipe=recipe,
    ) as writer:
        for name in track(source.tissues):
            if not writer.kept(name, stamps):
                writer.add(name, source.open(name), files[name], stamps)
    return TissueStore(out)


def common_scale(source: Source) -> float | None:
    """µm per pixel of all tissues.

    Raises:
        TissueDataError: they have not one.
    """
    scales = {name: source.scale(name) for name in source.tissues}
    found = set(scales.values())
    if len(found) > 1:
        finest, coarsest = (
            next(name for name, scale in scales.items() if scale == wanted)
            for wanted in (min(found, key=_order), max(found, key=_order))
        )
        raise TissueDataError(
            f"tissue {finest} has {_shown(scales[finest])}, but {coarsest} {_shown(scales[coarsest])}: "
            "a store has one scale. Give mpp=… to resample all of them to it."
        )
    return next(iter(found), None)


def _order(scale: float | None) -> float:
    return scale or 0.0


def _shown(scale: float | None) -> str:
    return "unknown µm/px" if scale is None else f"{scale:g} µm/px"
