"""Single image files as a tissue store, so that a network predicts on them as on any cohort."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tissueseg.contracts import DataSpec
from tissueseg.errors import StoreNotFoundError
from tissueseg.store.conversion import convert
from tissueseg.store.provenance import record
from tissueseg.store.shaping.resampling import ResampledSource
from tissueseg.store.sources.base import Source
from tissueseg.store.sources.images import ImagesSource
from tissueseg.store.tissues import TissueStore


def image_store(
    he: Path | None,
    sp: Path | None,
    wanted: DataSpec,
    mpp: float | None,
    channels: Sequence[Any] | None,
    out: Path,
    overwrite: bool = False,
) -> TissueStore:
    """Write image files to a tissue store that a trained network can be given.

    One that was interrupted is gone on with; one that was made of the same files in the same way is
    opened as it stands.

    Args:
        he: H&E image; None: the network sees none.
        sp: SP image of the same size; None: the network sees none.
        wanted: data of the network: modality, panel, classes and µm per pixel.
        mpp: µm per pixel of the files; None: they say it.
        channels: names of the SP file's channels in order, None for those to leave out; None: the file
            says them.
        out: path of the store.
        overwrite: replace another store that stands there.

    Returns:
        The store, with one tissue named after the first file; it has no labels.

    Raises:
        SpecMismatchError: H&E for a network of SP, or the other way round, or one of two is missing.
        TissueDataError: a file that is missing, no image, of the wrong kind, or does not fit the other.
        ConfigError: `mpp` or `channels` that cannot be used.
    """
    source = _fitted(ImagesSource(he, sp, wanted, mpp, channels))
    if (standing := _standing(out, source)) is not None:
        return standing
    recipe = [str(he), str(sp), mpp, None if channels is None else [str(c) for c in channels]]
    return convert(source, out, overwrite=overwrite, recipe=recipe)


def file_mpp(
    he: Path | None,
    sp: Path | None,
    wanted: DataSpec,
    mpp: float | None,
    channels: Sequence[Any] | None,
) -> float | None:
    """µm per pixel that `image_store` takes the files to have; None where the network knows no scale."""
    source = ImagesSource(he, sp, wanted, mpp, channels)
    return source.scale(source.tissues[0])


def _fitted(source: ImagesSource) -> Source:
    """The source at the µm/px of the network."""
    wanted = source.wanted.mpp
    if wanted is None or source.scale(source.tissues[0]) == wanted:
        return source
    return ResampledSource(source, wanted)


def _standing(out: Path, source: Source) -> TissueStore | None:
    """The store at the path, if it holds what would be written."""
    try:
        store = TissueStore(out)
    except StoreNotFoundError:
        return None
    name = source.tissues[0]
    about = store.mpp, store.classes, store.panel, store.images, store.tissues
    wanted = (
        source.scale(name),
        *map(tuple, (source.classes, source.panel, source.images)),
        (name,),
    )
    if about != wanted:
        return None
    known, tissue = store.attributes(name), source.open(name)
    files = {file: record(path) for file, path in source.files(name).items()}
    alike = known["source"] == files and known["notices"] == dict(tissue.notices)
    return store if alike else None
