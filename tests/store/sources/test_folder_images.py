"""Images of a folder: modes, axes, types and damage, made here and real ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from folders import SIZE, convert, first, refused, said, save_he
from PIL import Image

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissuesegError
from tissueseg.store.planes import Window
from tissueseg.store.sources.folder import FolderSource


def test_alpha_is_dropped_and_said(image_folder: Any) -> None:
    save_he(image_folder, np.full((*SIZE, 4), 7, np.uint8))
    source = FolderSource(image_folder.path)
    tissue = source.open(source.tissues[0])
    assert tissue.he is not None
    assert tissue.he.shape == (3, *SIZE)
    assert "alpha channel of H&E dropped (tissue a)" in said(tissue)


def test_palette_becomes_rgb(image_folder: Any) -> None:
    rgb = np.zeros((*SIZE, 3), np.uint8)
    rgb[:20, :, 0] = 255
    Image.fromarray(rgb).quantize(4).save(image_folder.path / "a.he.png")
    np.testing.assert_array_equal(first(image_folder).he, np.moveaxis(rgb, -1, 0))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_he_with_other_channels_is_refused(
    channels: int, image_folder: Any, tmp_path: Path
) -> None:
    image = np.zeros((channels, *SIZE), np.uint8)
    for name in ("a", "b"):
        tifffile.imwrite(image_folder.path / f"{name}.he.tif", image, metadata={"axes": "CYX"})
    image_folder.describe(images={"he": "{id}.he.tif"})
    message = refused(image_folder, tmp_path)
    assert f"a.he.tif: H&E has {channels} channels, wanted 3" in message


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "CMYK"])
def test_he_of_other_modes_is_refused(mode: str, image_folder: Any, tmp_path: Path) -> None:
    kind = "tif" if mode == "CMYK" else "png"
    for name in ("a", "b"):
        Image.new(mode, SIZE[::-1]).save(image_folder.path / f"{name}.x.{kind}")
    image_folder.describe(images={"he": f"{{id}}.x.{kind}"}, channels=None)
    message = refused(image_folder, tmp_path)
    assert f"a.x.{kind}" in message
    assert "RGB" in message


def test_he_of_16_bits_is_refused(image_folder: Any, tmp_path: Path) -> None:
    import cv2

    image = np.full((*SIZE, 3), 40000, np.uint16)
    cv2.imwrite(str(image_folder.path / "a.he.png"), image)
    assert "16-bit colour PNG" in refused(image_folder, tmp_path)
    for name in ("a", "b"):
        tifffile.imwrite(image_folder.path / f"{name}.he.tif", image, photometric="rgb")
    image_folder.describe(images={"he": "{id}.he.tif"})
    assert "a.he.tif: H&E has uint16 pixels, wanted 8-bit" in refused(image_folder, tmp_path)


@pytest.mark.parametrize(
    ("shape", "axes"), [((2, 1, 40, 48), "CZYX"), ((40, 48, 2), "YXC"), ((2, 40, 48), "QYX")]
)
def test_sp_axes_are_put_in_order(shape: tuple[int, ...], axes: str, image_folder: Any) -> None:
    image = np.zeros(shape, np.uint16)
    np.moveaxis(image, axes.find("C") if "C" in axes else 0, 0)[1] = 5
    metadata = None if "Q" in axes else {"axes": axes}
    tifffile.imwrite(image_folder.path / "a.sp.tif", image, metadata=metadata)
    found = first(image_folder).sp
    assert found is not None
    np.testing.assert_array_equal(found[:, 0, 0], [0, 5])


def test_ambiguous_axes_are_refused(image_folder: Any, tmp_path: Path) -> None:
    stack = np.zeros((40, 48, 2), np.uint16)
    np.save(image_folder.path / "a.sp.npy", stack)
    np.save(image_folder.path / "b.sp.npy", stack)
    image_folder.describe(images={"sp": "{id}.sp.npy"})
    assert "Its last axis fits: move it to the front" in refused(image_folder, tmp_path)


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("bool", "uint8"), ("int32", "float32"), ("float64", "float32"), ("float16", "float32")],
)
def test_sp_types_become_those_of_the_store(dtype: str, stored: str, image_folder: Any) -> None:
    image_folder.describe(images={"sp": "{id}.sp.npy"})
    for name in ("a", "b"):
        np.save(image_folder.path / f"{name}.sp.npy", np.ones((2, *SIZE), dtype))
    source = FolderSource(image_folder.path)
    tissue = source.open(source.tissues[0])
    assert tissue.sp is not None
    assert tissue.sp.dtype == stored
    assert f"SP intensities converted from {dtype} to {stored} (tissue a)" in said(tissue)


def test_tissues_of_one_file_type_have_one_type_whatever_their_values(image_folder: Any) -> None:
    image_folder.describe(images={"sp": "{id}.sp.npy"})
    for name, value in (("a", 1), ("b", 70_000)):
        np.save(image_folder.path / f"{name}.sp.npy", np.full((2, *SIZE), value, np.int32))
    source = FolderSource(image_folder.path)
    found = [source.open(tissue).sp for tissue in source.tissues]
    assert [(sp.dtype, sp.max()) for sp in found if sp is not None] == [
        (np.float32, 1),
        (np.float32, 70_000),
    ]


@pytest.mark.parametrize(("value", "said"), [(np.nan, "NaN"), (-3, "negative values (lowest -3)")])
def test_sp_values_are_checked(value: float, said: str, image_folder: Any, tmp_path: Path) -> None:
    image = np.ones((2, *SIZE), np.float64)
    image[1, 4, 4] = value
    tifffile.imwrite(image_folder.path / "b.sp.tif", image, metadata={"axes": "CYX"})
    message = refused(image_folder, tmp_path)
    assert message.startswith("tissue b: SP channels CD3 hold")
    assert said in message


@pytest.mark.parametrize("file", ["a.he.png", "a.sp.tif", "a.nuclei.tif", "b.classes.png"])
@pytest.mark.parametrize("kept", [0, 30, -40])
def test_damaged_files_are_named(kept: int, file: str, image_folder: Any, tmp_path: Path) -> None:
    path = image_folder.path / file
    path.write_bytes(path.read_bytes()[:kept])
    assert f"{file} cannot be read" in refused(image_folder, tmp_path)


def test_pickled_arrays_are_never_loaded(image_folder: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.save(image_folder.path / f"{name}.m.npy", np.array([{}], object), allow_pickle=True)
    image_folder.describe(masks={"instances": "{id}.m.npy"}, classes=None)
    assert "a.m.npy cannot be read" in refused(image_folder, tmp_path)


@pytest.mark.real
def test_real_he_and_mif(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("r11053_43924_t13", "r11053_43924_t17", "r12449_56334_t19"):
        for file in (shared_data / "paired_he_mif").glob(f"{name}.*"):
            shutil.copy(file, folder)
    (folder / "tissues.yaml").write_text(
        """
        mpp: 0.5
        images: {he: "{id}.he.jpg", sp: "{id}.mif.ome.tif"}
        masks: {instances: "{id}.nuclei.tif", classes: "{id}.classes.tif", ignore: "{id}.ignore.tif"}
        classes: [background, epithelial, t_cell, b_cell, other]
        channels: {CD3: P07766, CD20: P11836, panCK: P02533}
        patient: "^(r[0-9]+_[0-9]+)"
        """
    )
    source = FolderSource(folder)
    store = convert(source, tmp_path / "out.zarr")
    assert len(store.tissues) >= 2
    assert "r11053_43924" in {store.entry(t).patient for t in store.tissues}
    assert [c.name for c in store.panel] == ["DAPI", "CD3", "CD20", "panCK"]
    whole = Window(0, 0, 512, 512)
    for tissue in store.tissues:
        nuclei = tifffile.imread(folder / f"{tissue}.nuclei.tif")
        np.testing.assert_array_equal(store.read(tissue, "labels/instances", whole), nuclei)
        ignored = tifffile.imread(folder / f"{tissue}.ignore.tif") > 0
        classes = store.read(tissue, "labels/classes", whole)
        np.testing.assert_array_equal(classes == IGNORE, ignored)


@pytest.mark.real
def test_real_multiplexed_image(shared_data: Path, tmp_path: Path) -> None:
    description = tmp_path / "codex.yaml"
    description.write_text(
        """
        mpp: 0.377
        images: {sp: "{id}.ome.tif"}
        masks: {instances: "{id}.inst_cells.tif", types: "{id}.types.csv"}
        classes: [background, B, {name: T, types: [T_h, T_tox]}]
        tissues: [roi101]
        """
    )
    source = FolderSource(shared_data / "mx_codex_lymphoma", description)
    store = convert(source, tmp_path / "out.zarr")
    assert [c.name for c in store.panel] == ["DAPI", "PAX5", "CD3", "CD4", "CD8"]
    classes = store.read("roi101", "labels/classes", Window(0, 0, 101, 101))
    instances = store.read("roi101", "labels/instances", Window(0, 0, 101, 101))
    assert np.unique(instances[classes == 1]).size == 35
    assert np.unique(instances[classes == 2]).size == 21


@pytest.mark.real
def test_real_panel_with_duplicate_names(shared_data: Path, tmp_path: Path) -> None:
    image = "codex_ramces_28ch.ome.tif"
    (tmp_path / image).symlink_to(shared_data / "mx_nomask" / image)
    np.save(tmp_path / "codex_ramces_28ch.npy", np.ones((256, 256), np.uint8))
    description = tmp_path / "tissues.yaml"
    text = 'mpp: 0.377\nimages: {sp: "{id}.ome.tif"}\nmasks: {instances: "{id}.npy"}\n'
    description.write_text(text)
    with pytest.raises(TissuesegError, match="DAPI ×7, EMPTY ×3"):
        FolderSource(tmp_path)
    names = (shared_data / "mx_nomask" / "codex_ramces_28ch.markers.txt").read_text().split("\n")
    once = [name if name not in [*names[:i], "EMPTY"] else "null" for i, name in enumerate(names)]
    description.write_text(text + "channels:" + "".join(f"\n  - {name}" for name in once if name))
    source = FolderSource(tmp_path)
    (tissue,) = map(source.open, source.tissues)
    assert tissue.sp is not None
    assert tissue.sp.shape == (19, 256, 256)
