"""A dataset in the spora layout, in which VirTues' cohorts are published, as a source of tissues.

    metadata/{tissues,cells}.parquet                                     patients, splits; types of cells
    <modality>/{channels,channels_per_tissue}.parquet
    <modality>/1_0mpp/images/<tissue>.ome.zarr                           imc, codex, cycif or mibi
    <modality>/1_0mpp/standardization/quantile_clipping_log1p/uq_0.99_image/*.parquet
    he/1_0mpp/images/<tissue>.ome.zarr
    segmentations/1_0mpp/cell_masks/instances/<tissue>.npz               ids are the cell_id of cells

Images are read window by window; the masks of one tissue are in memory. Tissue masks are not read:
what lies outside of the tissue is background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.notices import Notices, name_some
from tissueseg.store.planes import Window
from tissueseg.store.reading.claims import MPP_TOLERANCE
from tissueseg.store.reading.ngff import NgffImage
from tissueseg.store.reading.rasters import ALPHA_DROPPED, check_he, read_mask, storable
from tissueseg.store.reading.tables import plain_id
from tissueseg.store.sizes import check_sizes
from tissueseg.store.sources.cell_types import CellTypes, settle_classes
from tissueseg.store.sources.description import Section
from tissueseg.store.sources.files import require_files
from tissueseg.store.sources.masked import (
    MaskedTissue,
    Reader,
    instance_ids,
    require_choice,
    require_folder,
    require_mpp,
)
from tissueseg.store.sources.masks import check_not_classes, settle_untyped, type_by_table
from tissueseg.store.sources.spora_tables import (
    CHANNEL_TABLES,
    STATISTICS,
    TissueRow,
    read_panel,
    read_standardization,
    read_tissues,
)

MODALITIES = ("imc", "codex", "cycif", "mibi")

_SUFFIX = ".ome.zarr"


class SporaSource:
    """Reads the tissues of a spora dataset.

    Args:
        path: the folder with `metadata`, `segmentations` and the modalities.
        modality: whose images are the SP image: imc, codex, cycif or mibi.
        mpp: µm per pixel; decides the folder (1.0: `1_0mpp`).
        he: whether tissues have H&E beside it.
        classes: as in a folder's description, background first; None: all types that occur.
        types_column: of cells.parquet; None: all cells are of one class.
        unknown_types: values in it that mean: not known.
        channels: `qc` leaves out channels that did not pass quality control; `all` keeps them.
        uniprot: accessions by channel name that go before the table's.
        untyped: `error`, or `ignore`: cells without type take class 255.
        tissues: only these; None: all whose image is there.
        standardization: whether published clips, means and deviations are reused.

    Raises:
        ConfigError: options that cannot be used.
        TissueDataError: tables or files that are missing or contradict each other.
    """

    def __init__(
        self,
        path: str | Path,
        modality: str = "imc",
        mpp: float = 1.0,
        he: bool = False,
        classes: Sequence[Any] | None = None,
        types_column: str | None = "cell_type",
        unknown_types: Sequence[str] | None = None,
        channels: str = "qc",
        uniprot: Mapping[str, str] | None = None,
        untyped: str = "error",
        tissues: Sequence[str] | None = None,
        standardization: bool = True,
    ) -> None:
        self.path = require_folder(path)
        self.mpp = require_mpp(mpp, "1.0")
        self._modality = require_choice("modality", modality, MODALITIES)
        self._ignore_untyped = require_choice("untyped", untyped, ("error", "ignore")) == "ignore"
        self.images = ("he", "sp") if he else ("sp",)
        self._notices: list[str] = []
        self._resolution = _resolution(self.path / modality, self.mpp)
        self._rows, self.tissues = self._find_tissues(tissues)
        self._check_files()
        kept = require_choice("channels", channels, ("qc", "all"))
        self._panel = read_panel(self.path / modality, self.tissues, kept, uniprot)
        self.panel = self._panel.channels
        self._types = self._read_types(types_column)
        self.classes, self._type_ids, about = settle_classes(self._types, classes, unknown_types)
        folder = self.path / modality / self._resolution if standardization else None
        self._clips, self.moments, said = read_standardization(folder, self.tissues, self.panel)
        self._notices += [*about, *self._panel.notices, *said]

    @property
    def notices(self) -> tuple[str, ...]:
        """What was assumed of the whole cohort."""
        return tuple(self._notices)

    def scale(self, tissue: str) -> float | None:
        """µm per pixel, of every tissue alike."""
        return self.mpp

    def files(self, tissue: str) -> dict[str, Path]:
        """Images and mask of a tissue and the tables of all, by their paths in the dataset."""
        names = self._own_files(tissue) + self._tables()
        return {name: self.path / name for name in names if (self.path / name).exists()}

    def open(self, tissue: str) -> MaskedTissue:
        """Open the images of a tissue and read its mask."""
        notices = Notices()
        *images, mask = (self.path / name for name in self._own_files(tissue))
        sp, he = images[0], images[1] if len(images) > 1 else None
        instances = read_mask(mask, "mask")
        sizes = {"the SP image": self._open_image(tissue, sp, notices)}
        if he is not None:
            sizes["the H&E image"] = self._open_image(tissue, he, notices)
        shapes = {what: image.shape[1:] for what, image in sizes.items()}
        check_sizes(f"tissue {tissue}", shapes | {f"the mask {mask}": instances.shape})
        check_not_classes(instances, mask)
        row = self._rows.get(tissue, TissueRow(None, None))
        return MaskedTissue(
            instances,
            self._paint(tissue, mask, instances, notices),
            None if he is None else self._he_reader(sizes["the H&E image"], notices),
            self._sp_reader(tissue, sizes["the SP image"], notices),
            row.patient,
            row.split,
            self._clips.get(tissue, {}),
            notices.found,
        )

    def _own_files(self, tissue: str) -> list[str]:
        """SP image, H&E image if wanted, mask."""
        kinds = (self._modality, "he") if "he" in self.images else (self._modality,)
        names = [f"{kind}/{self._resolution}/images/{tissue}{_SUFFIX}" for kind in kinds]
        return [*names, f"segmentations/{self._resolution}/cell_masks/instances/{tissue}.npz"]

    def _tables(self) -> list[str]:
        """Those that were read: when one of them changes, so does every tissue."""
        names = ["metadata/tissues.parquet", *(["metadata/cells.parquet"] if self._types else [])]
        names += [f"{self._modality}/{name}" for name in CHANNEL_TABLES]
        folder = f"{self._modality}/{self._resolution}/standardization"
        return names + [f"{folder}/{name}" for name in STATISTICS if self.moments]

    def _find_tissues(
        self, wanted: Sequence[str] | None
    ) -> tuple[dict[str, TissueRow], tuple[str, ...]]:
        folder = self.path / self._modality / self._resolution / "images"
        found = sorted(path.name.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}"))
        found = [plain_id(tissue, str(folder)) for tissue in found]
        table = self.path / "metadata" / "tissues.parquet"
        rows = read_tissues(table, self._modality)
        if wanted is not None:
            section = Section({"tissues": wanted}, "options: source", ("tissues",))
            wanted = [plain_id(tissue, "source.tissues") for tissue in section.texts("tissues")]
            if absent := [tissue for tissue in wanted if tissue not in found]:
                raise TissueDataError(
                    f"source.tissues: {folder / (absent[0] + _SUFFIX)} is missing."
                )
            found = wanted
        if not found:
            raise TissueDataError(f"{folder} holds no image (<tissue>{_SUFFIX}): mend source.path.")
        if rows is None:
            self._notices.append(f"no {table.name}: every tissue is its own patient")
            return {}, tuple(found)
        if absent := [tissue for tissue in found if tissue not in rows]:
            raise TissueDataError(
                f"{table} has no row for {name_some(absent)}: add it, or list others as source.tissues."
            )
        if lost := [tissue for tissue in rows if tissue not in found and wanted is None]:
            self._notices.append(f"of {table.name} without image, left out: {name_some(lost)}")
        if own := [tissue for tissue in found if rows[tissue].patient is None]:
            self._notices.append(f"no patient_id, each is its own patient: {name_some(own)}")
        return rows, tuple(found)

    def _check_files(self) -> None:
        files = ((f"tissue {t}", name) for t in self.tissues for name in self._own_files(t))
        hint = "Fetch it, or list the complete tissues under source.tissues."
        require_files(self.path, files, hint)

    def _read_types(self, column: str | None) -> CellTypes | None:
        path = self.path / "metadata" / "cells.parquet"
        if column is None:
            return None
        if not path.is_file():
            self._notices.append(f"no {path.name}: all cells are of one class")
            return None
        return CellTypes(path, column, self.tissues)

    def _open_image(self, tissue: str, path: Path, notices: Notices) -> NgffImage:
        image = NgffImage(path)
        what = "H&E" if path.parent.parent.parent.name == "he" else "SP"
        notices.count(f"{{n}} chunks of the {what} image are not there and read 0", image.missing)
        if image.mpp is None:
            notices.count(f"the {what} image does not state its µm/px, mpp={self.mpp:g} is used")
        elif any(abs(mpp / self.mpp - 1) > MPP_TOLERANCE for mpp in image.mpp):
            raise TissueDataError(
                f"tissue {tissue}: {path} states {image.mpp[0]:g} × {image.mpp[1]:g} µm/px, but "
                f"source.mpp={self.mpp:g}: mend source.mpp or fetch the image again."
            )
        return image

    def _sp_reader(self, tissue: str, image: NgffImage, notices: Notices) -> Reader:
        positions = self._panel.positions(tissue, image.shape[0], image.names, image.path)
        dtype = storable(image.dtype, image.path)
        if dtype != image.dtype:
            notices.count(f"SP intensities converted from {image.dtype} to {dtype}")
        chosen = None if positions == list(range(image.shape[0])) else positions
        return partial(_read_as, image, chosen, dtype)

    def _he_reader(self, image: NgffImage, notices: Notices) -> Reader:
        check_he(image.path, image.dtype, image.shape[0])
        notices.count(ALPHA_DROPPED, int(image.shape[0] > 3))
        chosen = [0, 1, 2] if image.shape[0] > 3 else None
        return partial(_read_as, image, chosen, np.dtype(np.uint8))

    def _paint(
        self, tissue: str, mask: Path, instances: np.ndarray, notices: Notices
    ) -> np.ndarray:
        ids = instance_ids(instances)
        notices.count("no instance at all", int(ids.size == 0))
        if self._types is None:
            return (instances > 0).astype(np.uint8)
        types = self._types.classes(tissue, self._type_ids)
        absent = int((~np.isin(list(types), ids)).sum()) if types else 0
        notices.count("{n} rows of types without an instance", absent)
        classes = type_by_table(instances, types)
        where = f"tissue {tissue}: {mask} and {self._types.path.name} ({self._types.column})"
        return settle_untyped(where, instances, classes, self._ignore_untyped, notices)


def _resolution(folder: Path, mpp: float) -> str:
    """The folder of a resolution: `1_0mpp` for 1.0 µm/px."""
    if not folder.is_dir():
        there = [m for m in MODALITIES if (folder.parent / m).is_dir()]
        raise ConfigError(f"source.modality={folder.name} is not in {folder.parent}, but {there}.")
    text = f"{mpp:.1f}" if round(mpp, 1) == mpp else f"{mpp:g}"
    name = text.replace(".", "_") + "mpp"
    if not (folder / name).is_dir():
        there = sorted(path.name for path in folder.glob("*mpp"))
        raise ConfigError(f"source.mpp={mpp:g}: {folder} has no folder {name}, but {there}.")
    return name


def _read_as(
    image: NgffImage, channels: list[int] | None, dtype: np.dtype, window: Window
) -> np.ndarray:
    return image.read(window, channels).astype(dtype, copy=False)
