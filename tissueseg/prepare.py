"""`python -m tissueseg.prepare`: raw images and masks -> a tissue store, checked."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from tissueseg.building import build
from tissueseg.command import run_command
from tissueseg.composition import plain, require_values
from tissueseg.errors import ConfigError
from tissueseg.progress import table_console, tracked
from tissueseg.reporting.store_check import check_folder, report_check, require_folder
from tissueseg.reporting.store_tables import class_share_table, store_table
from tissueseg.store.conversion import convert
from tissueseg.store.notices import gather
from tissueseg.store.shaping.class_map import ClassMap, MappedSource
from tissueseg.store.shaping.resampling import ResampledSource
from tissueseg.store.sources.base import Source


def prepare(config: DictConfig) -> None:
    """Write every tissue of the source to a store, then say what is in it."""
    require_values(config)
    _check_values(config)
    if config.check:
        require_folder(check_folder(Path(config.out)))
    class_map = None if config.class_map is None else ClassMap.read(plain(config)["class_map"])
    source = _source(config, class_map)
    store = convert(
        source,
        config.out,
        overwrite=config.overwrite,
        recipe=[plain(config.source), config.mpp, class_map and asdict(class_map)],
        track=lambda tissues: tracked(tissues, "preparing"),
    )
    console = table_console()
    changes = gather({t: store.attributes(t)["notices"] for t in store.tissues})
    for notice in (*source.notices, *changes):
        console.print(f"notice: {notice}", markup=False, highlight=False, soft_wrap=True)
    labelled = len(store.unlabelled) < len(store.tissues)
    console.print(store_table(store), *([class_share_table(store)] if labelled else ()))
    print(f"wrote {len(store.tissues)} tissues to {config.out}", flush=True)
    if config.check:
        report_check(store, console, tracked)


def _check_values(config: DictConfig) -> None:
    for key in ("out", "source.path"):
        if not isinstance(value := OmegaConf.select(config, key), str) or not value:
            raise ConfigError(
                f"{key}={value}: wanted a path (in quotes where it looks like a number)."
            )
    for key in ("overwrite", "check"):
        if not isinstance(config[key], bool):
            raise ConfigError(f"{key}={config[key]}: wanted true or false.")


def _source(config: DictConfig, class_map: ClassMap | None) -> Source:
    """The source, its classes mapped and its tissues resampled as asked for."""
    source: Source = build(config.source)
    if class_map is not None:
        source = MappedSource(source, class_map)
    if config.mpp is not None:
        source = ResampledSource(source, config.mpp)
    return source


if __name__ == "__main__":
    run_command("prepare", prepare)
