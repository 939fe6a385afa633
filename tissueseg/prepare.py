"""`python -m tissueseg.prepare`: raw images and masks -> a tissue store, checked."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tissueseg.command import build, plain, run_command
from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError
from tissueseg.reporting.store_check import check_folder, report_check
from tissueseg.store.conversion import convert
from tissueseg.store.notices import gather
from tissueseg.store.shaping.class_map import ClassMap, MappedSource
from tissueseg.store.shaping.resampling import ResampledSource
from tissueseg.store.sources.base import Source
from tissueseg.store.tissues import TissueStore


def prepare(config: DictConfig) -> None:
    """Write every tissue of the source to a store, then say what is in it."""
    if missing := sorted(OmegaConf.missing_keys(config)):
        raise ConfigError(f"give {', '.join(f'{key}=…' for key in missing)} on the command line.")
    _check_values(config)
    class_map = None if config.class_map is None else ClassMap.read(plain(config)["class_map"])
    source = _source(config, class_map)
    store = convert(
        source,
        config.out,
        overwrite=config.overwrite,
        recipe=[plain(config.source), config.mpp, class_map and asdict(class_map)],
        track=lambda tissues: _tracked(tissues, "preparing"),
    )
    console = Console()
    changes = gather({t: store.attributes(t)["notices"] for t in store.tissues})
    for notice in (*source.notices, *changes):
        console.print(f"notice: {notice}", markup=False, highlight=False, soft_wrap=True)
    console.print(store_table(store), class_table(store))
    print(f"wrote {len(store.tissues)} tissues to {config.out}", flush=True)
    if config.check:
        report_check(store, console, _tracked, check_folder(store.path))


def _check_values(config: DictConfig) -> None:
    for key in ("out", "source.path"):
        if not isinstance(value := OmegaConf.select(config, key), str) or not value:
            raise ConfigError(f"{key}={value}: wanted a path.")
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


def store_table(store: TissueStore) -> Table:
    """What is in the store, in one column."""
    entries = [store.entry(tissue) for tissue in store.tissues]
    sizes = sorted({(e.height, e.width) for e in entries})
    height_width = " … ".join(f"{h} × {w}" for h, w in dict.fromkeys((sizes[0], sizes[-1])))
    channels = (f"{c.name}{'*' * c.nuclear} {c.uniprot or '–'}" for c in store.panel)
    table = Table("store", str(store.path))
    table.add_row("tissues", f"{len(entries)}, patients {len({e.patient for e in entries})}")
    scale = "an unknown scale" if store.mpp is None else f"{store.mpp:g} µm/px"
    table.add_row("height × width", f"{height_width} px at {scale}")
    table.add_row("images", ", ".join({"he": "H&E", "sp": "SP"}[kind] for kind in store.images))
    if store.panel:
        table.add_row("channels (* nuclear)", ", ".join(channels))
    return table


def class_table(store: TissueStore) -> Table:
    """Share of pixels and number of instances of every class."""
    pixels = store.class_pixels(store.tissues)
    counted = np.array([store.attributes(t)["instances_per_class"] for t in store.tissues])
    instances = counted.sum(axis=0)
    total = sum(store.entry(t).height * store.entry(t).width for t in store.tissues)
    table = Table("id", "class", "pixels", "instances")
    rows = [(c.id, c.name, pixels[c.id], instances[c.id]) for c in store.classes]
    if ignored := total - pixels.sum():
        rows.append((IGNORE, "unknown or ignored", ignored, instances[-1]))
    for index, name, covered, found in rows:
        table.add_row(str(index), name, f"{covered / total:.1%}", str(found) if index else "")
    return table


def _tracked(tissues: Sequence[str], doing: str) -> Iterable[str]:
    if not sys.stdout.isatty():
        return tissues
    return track(tissues, doing, transient=True)


if __name__ == "__main__":
    run_command("prepare", prepare)
