"""`python -m tissueseg.export`: a tissue store -> what napari or spatialdata open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from tissueseg.command import run_command
from tissueseg.composition import require_values, tissue_names
from tissueseg.errors import ConfigError
from tissueseg.progress import tracked
from tissueseg.store.notices import name_some
from tissueseg.store.tissues import TissueStore
from tissueseg.tables.ngff import check_ngff, write_ngff
from tissueseg.tables.spatialdata import write_spatialdata
from tissueseg.tables.targets import chosen


def export(config: DictConfig) -> None:
    """Write tissues of a store in the format asked for."""
    require_values(config)
    _check_values(config)
    store, out = TissueStore(config.store.path), Path(config.out)
    if out.resolve().is_relative_to(store.path.resolve()):
        raise ConfigError(f"out={out} lies in the store {store.path}: choose a folder elsewhere.")
    tissues = chosen(store, tissue_names(config))
    FORMATS[config.format](store, out, tissues, config.overwrite)


def export_ngff(store: TissueStore, out: Path, tissues: Sequence[str], overwrite: bool) -> None:
    """One OME-Zarr per tissue."""
    check_ngff(tissues, out, overwrite)
    paths = [write_ngff(store, t, out, overwrite=overwrite) for t in tracked(tissues, "exporting")]
    print(f"wrote {name_some(tissues)}: see one with `napari {paths[0]}/{store.images[0]}`")


def export_spatialdata(
    store: TissueStore, out: Path, tissues: Sequence[str], overwrite: bool
) -> None:
    """One Zarr with all tissues."""
    path = write_spatialdata(store, out, tissues, overwrite)
    print(f"wrote {name_some(tissues)}: see them with `spatialdata.read_zarr({str(path)!r})`")


FORMATS: dict[str, Callable[[TissueStore, Path, Sequence[str], bool], None]] = {
    "ngff": export_ngff,
    "spatialdata": export_spatialdata,
}


def _check_values(config: DictConfig) -> None:
    if config.format not in FORMATS:
        raise ConfigError(f"format={config.format}; choose from {', '.join(FORMATS)}.")
    if not isinstance(config.store.path, str) or not isinstance(config.out, str):
        raise ConfigError(f"store.path={config.store.path}, out={config.out}: wanted two paths.")
    if not isinstance(config.overwrite, bool):
        raise ConfigError(f"overwrite={config.overwrite}: wanted true or false.")
    tissue_names(config)


if __name__ == "__main__":
    run_command("export", export)
