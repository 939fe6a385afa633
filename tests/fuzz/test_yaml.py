"""Descriptions, class maps and configurations in YAML that were spoilt: read, or refused in one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import ImageFolder
from fuzz.kinds import Kind, check
from fuzz.plain_values import spoilt_yaml
from omegaconf import DictConfig, OmegaConf
from slide_folders import SlideFolder, draw_slide
from sources import MemorySource
from stores import random_tissue

from tissueseg.command import run_command
from tissueseg.composition import plain
from tissueseg.config import CONFIG_DIR, OWN_PACKAGES
from tissueseg.contracts import TissueClass
from tissueseg.errors import ConfigError
from tissueseg.store.conversion import convert
from tissueseg.store.planes import Tissue, whole
from tissueseg.store.shaping.class_map import ClassMap, MappedSource
from tissueseg.store.sources.base import Source
from tissueseg.store.sources.folder import FolderSource
from tissueseg.store.sources.orion import OrionSource

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0)]

NAMES = ("background", "tumor", "immune", "stroma", "debris", "b_cell", "t_cell")
CLASSES = tuple(TissueClass(i, name, f"#0000{i:02x}") for i, name in enumerate(NAMES))
MAPS: tuple[dict[str, Any], ...] = (
    {"rename": {"tumor": "cancer"}, "drop": ["debris"], "ignore": ["stroma"]},
    {
        "merge": {"lymphoid": ["b_cell", "t_cell"]},
        "keep": ["tumor"],
        "colors": {"tumor": "#e6194b"},
    },
    {"unknown": "stroma", "merge": {"all": ["b_cell"]}, "colors": {"all": "#000000"}},
    {"types": "none", "drop": ["debris"]},
)
GROUPS = ("encoder", "decoder", "loss", "split", "sampling", "augmentation", "optim", "experiment")
OWN: dict[str, tuple[dict[str, Any], ...]] = {}
"""Group -> files of the package's own, as a user copies them."""


def images_kind(folder: Path) -> Kind:
    images = ImageFolder(folder / "images")
    images.add("a", small_tissue(24))
    (images.path / "a.csv").write_text("id,type\n" + "\n".join(f"{i},tumor" for i in range(1, 10)))
    typed = {"instances": "{id}.nuclei.tif", "ignore": "{id}.classes.png"}
    typed["types"] = {"file": "{id}.csv", "id": "id", "type": "type", "untyped": ["x"]}  # type: ignore[assignment]
    classes = ["background", "tumor", {"name": "t_cell", "color": "#3cb44b", "types": ["T_h"]}]
    trees = [
        images.description,
        images.description | {"masks": typed, "classes": classes, "untyped": "ignore"},
        images.description | {"patient": "^(.)", "tissues": ["a"], "mpp": "unknown"},
        images.description | {"channels": [None, {"name": "CD3", "nuclear": False}], "masks": None},
    ]
    return Kind(
        partial(_file, trees),
        lambda path: _converted(FolderSource(images.path, path), path.parent),
    )


def slides_kind(folder: Path) -> Kind:
    slides = SlideFolder(folder / "slides")
    slides.add("a", draw_slide(80, 96))
    slides.write("slides.csv", "id,he,sp", "a,a.he.ome.tif,a.sp.ome.tif")
    slides.write("regions.csv", "slide,region,x,y,width,height", "a,r,8,8,32,24")
    plain_masks = {"instances": "{id}.labels.ome.tif"}
    trees = [
        slides.description | {"regions": {"size_px": 48, "edge": "keep", "min_cells": 2}},
        slides.description | {"regions": {"table": "regions.csv"}, "mpp": 0.5, "patient": "^(.)"},
        {"slides": "slides.csv", "tissues": ["a"]},
        {"images": slides.description["images"], "masks": plain_masks, "classes": None}
        | {"channels": {"CD3": "P07766", "CD8": "P01732"}},
        {"images": {"sp": "{id}.sp.ome.tif"}, "channels": ["DNA", "CD3", None, "x", "y"]},
    ]
    return Kind(
        partial(_file, trees),
        lambda path: _converted(OrionSource(slides.path, path), path.parent),
    )


def class_map_kind(folder: Path) -> Kind:
    source = MemorySource({"a": small_tissue(16)}, {"a": 0.5}, classes=CLASSES)

    def read(path: Path) -> None:
        _converted(MappedSource(source, ClassMap.read(str(path))), path.parent)

    return Kind(partial(_file, MAPS), read)


def own_configs_kind(folder: Path) -> Kind:
    """A file of one's own in a group, chosen on the command line of `train`."""
    from tissueseg import preflight

    trees = [
        (group, yaml.safe_load(path.read_text(encoding="utf-8")), _head(path))
        for group in GROUPS
        for path in sorted((CONFIG_DIR / group).glob("*.yaml"))
    ]
    trees = [(group, tree, head) for group, tree, head in trees if isinstance(tree, dict)]

    def make(random: Random, place: Path) -> tuple[Path, str]:
        group, tree, head = random.choice(trees)
        configs = place / "ownpackage" / "configs" / group
        configs.mkdir(parents=True)
        (configs.parent.parent / "__init__.py").touch()
        (configs / "mine.yaml").write_bytes(head + spoilt_yaml(random, tree))
        return place, group

    def read(given: tuple[Path, str]) -> None:
        place, group = given
        sys.path.insert(0, str(place))
        os.environ[OWN_PACKAGES] = "ownpackage"
        plus = "+" if group == "experiment" else ""
        sys.argv = ["train", f"{plus}{group}=mine", "setting=untrained", f"hydra.run.dir={place}"]
        os.chdir(place)
        try:
            _as_command("train", lambda config: (preflight.check(config), None)[1])
        finally:
            os.chdir("/")
            sys.path.remove(str(place))

    return Kind(make, read)


def run_config_kind(folder: Path) -> Kind:
    """`config.yaml` of a finished run, as evaluate and predict, `resume` and `resume=auto` read it."""
    from tissueseg import preflight
    from tissueseg.resuming import begun_before, config_of
    from tissueseg.trained import check_command, run_folder, trained_config

    kept: list[Any] = []
    sys.argv = ["train", "setting=untrained", f"hydra.run.dir={folder}"]
    settled = {"class_weights": None}  # a number a class, in a run of several
    _as_command("train", lambda config: kept.append(plain(OmegaConf.merge(config, settled))))

    def evaluated(config: DictConfig) -> None:
        check_command(config)
        preflight.check(trained_config(config, run_folder(config))[0])

    def resumed(config: DictConfig) -> None:
        preflight.check(config_of(Path(config.resume), config, "train"))

    def begun(config: DictConfig) -> None:
        begun_before(config, Path(config.run_dir))

    composed: dict[Any, Any] = {}
    for name, job in (("evaluate", evaluated), ("train", resumed), ("train", begun)):
        sys.argv = [name, "run=x"] if name == "evaluate" else [name, "setting=untrained"]
        sys.argv.append(f"hydra.run.dir={folder}")
        _as_command(
            name,
            lambda config, job=job: composed.setdefault(
                job, OmegaConf.create(OmegaConf.to_container(config, resolve=True))
            ),
        )

    def make(random: Random, place: Path) -> tuple[Any, Path]:
        _file([kept[0]], random, place, "config.yaml")
        return random.choice((evaluated, resumed, begun)), place

    def read(given: tuple[Any, Path]) -> None:
        job, place = given
        config = composed[job].copy()
        key = {evaluated: "run", resumed: "resume", begun: "run_dir"}[job]
        OmegaConf.update(config, key, str(place))
        if job is begun:
            OmegaConf.update(config, "resume", "auto")
        _refused_by_command(job, config)

    return Kind(make, read)


KINDS = {
    "tissues": images_kind,
    "slides": slides_kind,
    "class_map": class_map_kind,
    "own_config": own_configs_kind,
    "run_config": run_config_kind,
}


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    before, argv, path = dict(os.environ), sys.argv, Path.cwd()
    yield
    os.environ.clear()
    os.environ.update(before)
    sys.argv = argv
    os.chdir(path)


@pytest.mark.parametrize("name", KINDS)
def test_spoilt_yaml_is_read_or_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corpus").mkdir()
    check(name, KINDS[name](tmp_path / "corpus"), tmp_path / "inputs", capsys)


def small_tissue(side: int) -> Tissue:
    made = random_tissue(side, side)
    assert made.instances is not None
    assert made.classes is not None
    types = made.classes.astype(np.uint8)
    return made._replace(instances=made.instances.astype(np.uint16), classes=types)


def _file(trees: Any, random: Random, place: Path, name: str = "spoilt.yaml") -> Path:
    path = place / name
    path.write_bytes(spoilt_yaml(random, random.choice(trees)))
    return path


def _converted(source: Source, place: Path) -> None:
    """Written to a store if everything fits, as `prepare` does, every eighth time; else read."""
    if int(place.name) % 8 == 0:
        convert(source, place / "out.zarr")
        return
    for name in source.tissues[:2]:
        tissue = source.open(name)
        tissue.read(whole(tissue.shape))


def _head(path: Path) -> bytes:
    """The comment by which Hydra packs a file elsewhere."""
    first = path.read_bytes().split(b"\n", 1)[0]
    return first + b"\n" if first.startswith(b"# @package") else b""


def _as_command(name: str, job: Any) -> None:
    """A command as the shell starts it; one that says what is wrong and exits 2 refuses."""
    try:
        run_command(name, job)
    except SystemExit as stop:
        if stop.code != 2:
            raise
        raise ConfigError("refused by the command") from None


def _refused_by_command(job: Any, config: DictConfig) -> None:
    """What a command refuses: errors of Hydra and OmegaConf, too, which it says in one line."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        job(config)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(" ".join(str(error).split())).with_traceback(
            error.__traceback__
        ) from error
