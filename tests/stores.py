"""Small synthetic tissue stores and composed configurations that several test folders share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from hydra import compose as compose_config
from hydra import initialize_config_dir
from omegaconf import DictConfig

from tissueseg.config import CONFIG_DIR
from tissueseg.contracts import Channel, DataSpec, Modality, TissueClass
from tissueseg.store.layout import CLASSES as CLASS_IMAGE
from tissueseg.store.layout import INSTANCES
from tissueseg.store.planes import Tissue, Window
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter

CLASSES = (
    TissueClass(0, "background", "#000000"),
    TissueClass(1, "tumor", "#ff0000"),
    TissueClass(2, "immune", "#00ff00"),
)
PANEL = (Channel("DAPI", "P68431", True), Channel("CD3", "P07766"))

SHEET = {"he": 3, "sp": len(PANEL), "he_sp": 3 + len(PANEL)}


def data_spec(modality: str = "sp", mpp: float | None = 0.5, tile_px: int = 64) -> DataSpec:
    """What these stores look like through one modality."""
    panel = PANEL if "sp" in modality else ()
    return DataSpec(Modality(modality), SHEET[modality], CLASSES, panel, mpp, tile_px)


SETTING = dict.fromkeys(("train", "embed", "doctor"), ("setting=untrained",))
"""Of commands that have one: in tests, encoders have learnt nothing and cost nothing."""

TINY = (
    "setting=untrained",
    "name=tiny_run",
    "data.tile_px=32",
    "data.batch_size=4",
    "decoder.width=0.0625",
    "encoder.spec.channels=[16,16,16,16]",
    "split={train: 1, val: 1, test: 1}",
    "panels={count: 1, size_px: 64, every_n_epochs: 1}",
    "logger=csv",
)
"""Overrides that make a run small enough for a test."""


def random_tissue(height: int = 64, width: int = 64, seed: int = 0, **parts: Any) -> Tissue:
    """Random pixels; half of the 8 px cells hold a square nucleus of 6 px, of class 1 or 2."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    cell = rows // 8 * -(-width // 8) + columns // 8
    filled = rng.permutation(np.arange(cell.max() + 1) % 2 == 0)[cell]
    instances = np.where(filled & (rows % 8 < 6) & (columns % 8 < 6), cell + 1, 0)
    tissue = Tissue(
        instances=instances.astype(np.int32),
        classes=np.where(instances > 0, 1 + rng.integers(0, 2, cell.max() + 1)[cell], 0),
        he=rng.integers(0, 256, (3, height, width), np.uint8),
        sp=rng.integers(0, 4000, (len(PANEL), height, width), np.uint16),
    )
    return tissue._replace(**parts)


def write_store(
    path: Path,
    tissues: Mapping[str, Tissue],
    classes: Sequence[TissueClass] = CLASSES,
    panel: Sequence[Channel] = PANEL,
    **options: Any,
) -> TissueStore:
    """Write tissues that all have both images unless told otherwise, and open them."""
    with TissueWriter(path, mpp=0.5, classes=classes, panel=panel, **options) as writer:
        for name, tissue in tissues.items():
            writer.add(name, tissue)
    return TissueStore(path)


def three_tissues(size_px: int = 64) -> dict[str, Tissue]:
    """One tissue each of three patients."""
    names = ("a", "b", "c")
    return {
        name: random_tissue(size_px, size_px, seed, patient=f"p_{name}")
        for seed, name in enumerate(names)
    }


def whole(store: TissueStore, tissue: str, array: str) -> np.ndarray:
    """All pixels of one image, `instances` or `classes` of a tissue."""
    entry = store.entry(tissue)
    array = {"instances": INSTANCES, "classes": CLASS_IMAGE}.get(array, array)
    return store.read(tissue, array, Window(0, 0, entry.height, entry.width))


def compose(*overrides: str, name: str = "train", hydra: bool = False) -> DictConfig:
    """The configuration of a command; with Hydra's own, when asked for.

    The setting is that of the tests, unless another is named.
    """
    setting = () if any(o.startswith("setting=") for o in overrides) else SETTING.get(name, ())
    overrides = (*setting, *overrides)
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        return compose_config(name, overrides=list(overrides), return_hydra_config=hydra)


def choices(group: str) -> list[str]:
    """What a group of the configuration tree offers."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))
