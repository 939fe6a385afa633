"""Small data in the layouts that cohorts are published in: spora, a student study, PanNuke."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from conftest import square_cells
from PIL import Image

from tissueseg.errors import TissuesegError
from tissueseg.store.planes import whole
from tissueseg.store.sources.base import Source
from tissueseg.store.sources.pannuke import PanNukeSource
from tissueseg.store.sources.spora import SporaSource
from tissueseg.store.sources.study import StudySource

SIZE = (40, 48)
CHANNELS = ("DNA1", "CD3", "CD8", "EMPTY")


def write_parquet(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    import pyarrow as pa  # takes a moment, and few tests need it
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(dict(columns)), path)


def write_csv(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_ngff(
    path: Path,
    image: np.ndarray,
    *,
    axes: str = "cyx",
    scale: float = 1.0,
    unit: str | None = "micrometer",
    labels: Sequence[str] | None = None,
) -> None:
    """An OME-Zarr 0.5 image of two levels, the first in 16 px chunks and 32 px shards."""
    chunks = tuple(16 if axis in "yx" else n for axis, n in zip(axes, image.shape, strict=True))
    shards = tuple(32 if axis in "yx" else n for axis, n in zip(axes, image.shape, strict=True))
    for level, pixels in (("0", image), ("1", image[..., ::2, ::2])):
        array = zarr.create_array(
            path / level,
            shape=pixels.shape,
            chunks=chunks,
            shards=shards,
            dtype=image.dtype,
            overwrite=True,
        )
        array[...] = pixels
    kinds: list[dict[str, Any]] = [
        {"name": axis, "type": "space" if axis in "yx" else "channel"} for axis in axes
    ]
    for kind in kinds:
        if kind["type"] == "space" and unit:
            kind["unit"] = unit
    scales = [[scale * factor if axis in "yx" else 1.0 for axis in axes] for factor in (1, 2)]
    multiscale = {
        "axes": kinds,
        "datasets": [
            {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scales[i]}]}
            for i in (0, 1)
        ],
    }
    ome: dict[str, Any] = {"version": "0.5", "multiscales": [multiscale]}
    if labels:
        ome["omero"] = {"channels": [{"label": label} for label in labels]}
    attributes = {"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}}
    (path / "zarr.json").write_text(json.dumps(attributes), encoding="utf-8")


class Spora:
    """Tissues `a` and `b` of four channels, of which EMPTY failed and CD8 was not measured in `b`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rng = np.random.default_rng(0)
        self.instances, self.typed = square_cells(*SIZE)
        self.sp = {t: rng.gamma(2, 3, (4, *SIZE)).astype(np.float32) for t in "ab"}
        self.he = {t: rng.integers(0, 256, (3, *SIZE), np.uint8) for t in "ab"}
        self.tables()
        self.statistics()
        self.image("a", self.sp["a"], labels=CHANNELS)
        self.image("b", self.sp["b"][[0, 1, 3]])
        for tissue in "ab":
            write_ngff(path / f"he/1_0mpp/images/{tissue}.ome.zarr", self.he[tissue])
            self.mask(tissue, self.instances)

    def tables(self) -> None:
        self.tissues({"tissue_id": ["a", "a", "b"]})
        self.channels({})
        measured = {name: [True, name != "CD8"] for name in CHANNELS}
        write_parquet(
            self.path / "imc/channels_per_tissue.parquet", measured | {"tissue_id": ["a", "b"]}
        )
        ids = np.unique(self.instances)[1:].tolist()
        types = ["tumor" if i % 2 else "CD4" for i in ids]
        self.cells(["a"] * len(ids) + ["b"] * len(ids), ids * 2, types * 2)

    def tissues(self, columns: Mapping[str, Sequence[Any]]) -> None:
        given = {
            "patient_id": ["p", "p", "q"],
            "split": ["train", "train", "test"],
            "modality": ["imc", "he", "imc"],
        }
        write_parquet(self.path / "metadata/tissues.parquet", given | columns)

    def channels(self, columns: Mapping[str, Sequence[Any]]) -> None:
        given = {
            "channel_name": list(CHANNELS),
            "uniprot_id": [None, "P07766", "CD8A_HUMAN", None],
            "qc_pass": [True, True, True, False],
            "is_nuclear_marker": [True, False, False, False],
        }
        write_parquet(self.path / "imc/channels.parquet", given | columns)

    def cells(self, tissues: Sequence[str], ids: Sequence[Any], types: Sequence[Any]) -> None:
        columns = {"tissue_id": tissues, "cell_id": ids, "cell_type": types}
        write_parquet(self.path / "metadata/cells.parquet", columns)

    def statistics(self, **changes: Mapping[str, Sequence[Any]]) -> None:
        tables: dict[str, dict[str, Sequence[Any]]] = {
            "image_level_upper_quantiles": {n: [10.0 + i, 20.0] for i, n in enumerate(CHANNELS)}
            | {"tissue_id": ["a", "b"]},
            "global_level_means": {n: [1.0 + i] for i, n in enumerate(CHANNELS)},
            "global_level_stds": {n: [0.5 + i] for i, n in enumerate(CHANNELS)},
        }
        for name, table in tables.items():
            write_parquet(
                self.folder_of_statistics / f"{name}.parquet", table | changes.get(name, {})
            )

    @property
    def folder_of_statistics(self) -> Path:
        return self.path / "imc/1_0mpp/standardization/quantile_clipping_log1p/uq_0.99_image"

    def image_path(self, tissue: str) -> Path:
        return self.path / f"imc/1_0mpp/images/{tissue}.ome.zarr"

    def image(self, tissue: str, pixels: np.ndarray, **about: Any) -> None:
        write_ngff(self.image_path(tissue), pixels, **about)

    def mask(self, tissue: str, instances: np.ndarray) -> None:
        path = self.path / f"segmentations/1_0mpp/cell_masks/instances/{tissue}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, mask=instances)


def spora_refusal(spora: Spora, **options: Any) -> str:
    """The one line a user gets, from the source or from the first tissue that cannot be opened."""
    return _refusal(lambda: SporaSource(spora.path, **options))


class Study:
    """Tissues `a` and `b` with H&E and three channels, and `c` with H&E only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rng = np.random.default_rng(0)
        self.instances, self.classes = square_cells(*SIZE)
        self.he = {t: rng.integers(0, 256, (3, *SIZE), np.uint8) for t in "abc"}
        self.sp = {t: rng.integers(0, 4000, (3, *SIZE), np.uint16) for t in "ab"}
        self.annotate({})
        write_csv(path / "cycif/channels.csv", {"channel_name": ["DAPI", "CD3", "CD8"]})
        self.genes({"name": ["DAPI", "CD3", "CD8"], "protein_id": ["", "P07766", "CD8A"]})
        for tissue in "abc":
            self.picture(tissue, self.he[tissue])
            self.array("cell_masks/segmentation", tissue, self.instances)
            self.array("cell_masks/broad_cell_type", tissue, self.classes)
        for tissue, image in self.sp.items():
            self.array("cycif/images_resized", tissue, image)
        self.encode(np.array(["background", "tumor", "immune"], object))

    def annotate(self, columns: Mapping[str, Sequence[Any]]) -> None:
        given = {
            "tissue_id": ["a", "b", "c"],
            "he": [1, 1, 1],
            "cycif": [1, 1, 0],
            "alignment": ["x", "y", "z"],
            "patient_id": ["p", "q", "q"],
            "split": ["train", "", "test"],
        }
        write_csv(self.path / "tissue_annotations.csv", given | columns)

    def genes(self, columns: Mapping[str, Sequence[Any]]) -> None:
        write_csv(self.path / "cycif/gene_dict_orion.csv", columns)

    def picture(self, tissue: str, image: np.ndarray) -> None:
        path = self.path / f"he/images_resized/{tissue}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.moveaxis(image, 0, -1)).save(path)

    def array(self, folder: str, tissue: str, values: np.ndarray) -> None:
        path = self.path / folder / f"{tissue}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values)

    @property
    def encoder(self) -> Path:
        return self.path / "cell_masks/labelencoder_broad_cell_type.npy"

    def encode(self, names: np.ndarray) -> None:
        np.save(self.encoder, names, allow_pickle=True)


def study_refusal(study: Study, **options: Any) -> str:
    return _refusal(lambda: StudySource(study.path, **{"mpp": 0.5} | options))


class PanNuke:
    """Two folds of two and one images of 32 × 32 px, the second as published."""

    def __init__(self, path: Path) -> None:
        self.path = path
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.float64)
        self.masks = np.zeros((2, 32, 32, 6))
        self.masks[0, 2:8, 2:8, 0] = 7
        self.masks[0, 10:16, 10:16, 0] = 9
        self.masks[0, 6:12, 2:8, 2] = 7  # the same id, and 12 pixels of a neoplastic nucleus
        self.masks[0, 20:26, 20:26, 4] = 1
        self.masks[..., 5] = self.masks[..., :5].sum(-1) == 0
        self.fold()
        for kind in ("images", "masks"):
            (path / f"Fold 2/{kind}/fold2").mkdir(parents=True)
        np.save(path / "Fold 2/images/fold2/images.npy", self.images[:1])
        np.save(path / "Fold 2/images/fold2/types.npy", np.array(["Bile/duct"], object))
        np.save(path / "Fold 2/masks/fold2/masks.npy", self.masks[:1])

    def fold(self, types: Sequence[str] = ("Breast", "Adrenal_gland")) -> None:
        folder = self.path / "data/fold1"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / "images.npy", self.images)
        np.save(folder / "masks.npy", self.masks)
        np.save(folder / "types.npy", np.array(types))


def pannuke_refusal(pannuke: PanNuke) -> str:
    pannuke.fold()
    return _refusal(lambda: PanNukeSource(pannuke.path))


def _refusal(make: Callable[[], Source]) -> str:
    with pytest.raises(TissuesegError) as caught:
        _read_all(make)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _read_all(make: Callable[[], Source]) -> None:
    source = make()
    for name in source.tissues:
        tissue = source.open(name)
        tissue.read(whole(tissue.shape))
