"""A folder of images as a source: what users have, what they get wrong, what they are told."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tissueseg.contracts import IGNORE, Channel
from tissueseg.errors import TissuesegError
from tissueseg.store.checks import Tissue
from tissueseg.store.sources.folder import FolderSource
from tissueseg.store.sources.masks import clear_ignored, type_by_image
from tissueseg.store.tissues import TissueStore, Window
from tissueseg.store.writer import TissueWriter

SIZE = (40, 48)  # of the fixture's tissues


def convert(source: FolderSource, out: Path) -> TissueStore:
    """What the command does, in this process."""
    with TissueWriter(
        out, mpp=source.mpp, classes=source.classes, panel=source.panel, images=source.images
    ) as writer:
        for name, tissue in source:
            writer.add(name, tissue)
    return TissueStore(out)


def refused(folder: Any, tmp_path: Path) -> str:
    """The one line a user gets; nothing may be left beside the folder."""
    with pytest.raises(TissuesegError) as caught:
        convert(FolderSource(folder.path), tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def first(folder: Any) -> Tissue:
    return next(iter(FolderSource(folder.path)))[1]


def save_he(folder: Any, image: np.ndarray, mode: str | None = None) -> None:
    Image.fromarray(image, mode).save(folder.path / "a.he.png")


def test_what_goes_in_comes_out(
    image_folder: Any, make_tissue: Callable[..., Tissue], tmp_path: Path
) -> None:
    store = convert(FolderSource(image_folder.path), tmp_path / "out.zarr")
    assert store.tissues == ("a", "b")
    assert store.panel == (Channel("DAPI", "P68431", True), Channel("CD3", "P07766"))
    for seed, name in enumerate(store.tissues):
        tissue = make_tissue(seed=seed)
        window = Window(5, 3, 30, 40)
        parts = {"he": tissue.he, "sp": tissue.sp, "labels/instances": tissue.instances}
        for array, whole in (parts | {"labels/classes": tissue.classes}).items():
            assert whole is not None
            np.testing.assert_array_equal(
                store.read(name, array, window),
                whole[..., 5:35, 3:43],
                strict=array != "labels/instances",
            )


def test_every_file_is_hashed(image_folder: Any) -> None:
    source = first(image_folder).source
    assert source is not None
    assert sorted(source) == ["a.classes.png", "a.he.png", "a.nuclei.tif", "a.sp.tif"]
    content = (image_folder.path / "a.sp.tif").read_bytes()
    assert source["a.sp.tif"] == hashlib.sha256(content).hexdigest()


# --- descriptions ---------------------------------------------------------------------------------

DESCRIPTIONS = {
    "unknown key": ({"chanels": []}, "unknown key 'chanels': did you mean channels?"),
    "missing key": ({"mpp": None}, "mpp is missing"),
    "no masks": ({"masks": {}}, "masks.instances is missing"),
    "no images": ({"images": {}}, "give he, sp or both"),
    "text for a number": ({"mpp": "0.5"}, "mpp is '0.5', wanted µm per pixel (0 to 20) or unknown"),
    "nanometres": ({"mpp": 500}, "wanted µm per pixel"),
    "text for keys": ({"images": "{id}.png"}, "wanted keys with values"),
    "no id": ({"images": {"he": "a.png"}}, "put {id} where the tissue stands"),
    "strange suffix": ({"images": {"he": "{id}.svs"}}, "images.he is '{id}.svs', wanted .jpg"),
    "jpeg mask": ({"masks": {"instances": "{id}.jpg"}}, "masks.instances is '{id}.jpg'"),
    "both classes and types": (
        {"masks": {"instances": "{id}.png", "classes": "{id}.png", "types": "{id}.csv"}},
        "both `classes` and `types`",
    ),
    "no background": ({"classes": ["tumor", "immune"]}, "must begin with background"),
    "class given twice": ({"classes": ["background", "x", "x"]}, "x to more than one class"),
    "class colour": (
        {"classes": ["background", {"name": "x", "color": "red"}]},
        "wanted '#rrggbb'",
    ),
    "class key": ({"classes": ["background", {"nam": "x"}]}, "did you mean name?"),
    "patient": ({"patient": "("}, "no regular expression"),
    "patient unfound": ({"patient": "^z"}, "finds nothing in the tissue id 'a'"),
    "untyped": ({"untyped": "drop"}, "choose error or ignore"),
    "channel twice": ({"channels": ["CD3", "DAPI", "CD3"]}, "CD3 ×2"),
    "accession": ({"channels": {"CD3": "CD3E_HUMAN"}}, "'CD3E_HUMAN' is no UniProt accession"),
    "channel key": ({"channels": [{"name": "A", "unipro": "P07766"}]}, "unknown keys ['unipro']"),
    "no name": ({"channels": [{"uniprot": "P07766"}]}, "wanted a name"),
    "no channel": ({"channels": [None]}, "names no channel"),
    "no names in file": ({"channels": None}, "carries no channel names"),
    "tissue": ({"tissues": ["c"]}, "tissue c: "),
    "missing file": (
        {"images": {"he": "{id}.he.png", "sp": "{id}.npy"}},
        "a.npy is missing (2 files",
    ),
    "mask is the image": ({"masks": {"instances": "{id}.he.png"}}, "which is the image"),
    "pattern": ({"images": {"he": "{id}.HE.png"}}, "no file in"),
}


@pytest.mark.parametrize(("changes", "said"), DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_description_is_checked_before_an_image_is_read(
    changes: dict[str, Any],
    said: str,
    image_folder: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image_folder.describe(**changes)
    monkeypatch.setattr(FolderSource, "_read", lambda *_: pytest.fail("an image was read"))
    assert said in refused(image_folder, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds None"),
        ("mpp: [", "cannot be read"),
        ("mpp: 1\nmpp: 2", "mpp is given twice"),
        ("mpp: !!python/object/apply:os.system [ls]", "cannot be read"),
    ],
)
def test_text_that_is_no_description(
    text: str, said: str, image_folder: Any, tmp_path: Path
) -> None:
    (image_folder.path / "tissues.yaml").write_text(text)
    message = refused(image_folder, tmp_path)
    assert said in message
    assert "tissues.yaml" in message


def test_folder_and_description_must_be_there(image_folder: Any, tmp_path: Path) -> None:
    with pytest.raises(TissuesegError, match="is not a folder"):
        FolderSource(tmp_path / "none")
    with pytest.raises(TissuesegError, match=r"no description at .*none\.yaml"):
        FolderSource(image_folder.path, tmp_path / "none.yaml")


# --- tissues, patients, channels --------------------------------------------------------------------


def test_masks_that_fit_the_image_pattern_are_no_tissues(image_folder: Any) -> None:
    for name in ("a", "b"):
        (image_folder.path / f"{name}.he.png").rename(image_folder.path / f"{name}.png")
    masks = {"instances": "{id}.nuclei.tif", "classes": "{id}.classes.png"}
    image_folder.describe(images={"he": "{id}.png"}, masks=masks, channels=None)
    assert FolderSource(image_folder.path).tissues == ("a", "b")


def test_patterns_may_have_folders(image_folder: Any) -> None:
    for name in ("a", "b"):
        (image_folder.path / name).mkdir()
        for file in list(image_folder.path.glob(f"{name}.*")):
            file.rename(image_folder.path / name / file.name)
    masks = {"instances": "{id}/{id}.nuclei.tif"}
    image_folder.describe(
        images={"he": "{id}/{id}.he.png"}, masks=masks, classes=None, channels=None
    )
    source = first(image_folder).source
    assert source is not None
    assert list(source) == ["a/a.he.png", "a/a.nuclei.tif"]


def test_tissues_may_be_chosen_and_have_patients(image_folder: Any) -> None:
    image_folder.describe(tissues=["b"], patient="^(.)")
    ((name, tissue),) = FolderSource(image_folder.path)
    assert (name, tissue.patient) == ("b", "b")
    image_folder.describe()
    assert first(image_folder).patient is None


def save_ome(folder: Any, name: str, channels: list[str]) -> None:
    image = np.ones((len(channels), *SIZE), np.uint8)
    metadata = {"axes": "CYX", "Channel": {"Name": channels}, "PhysicalSizeX": 0.25}
    tifffile.imwrite(folder.path / f"{name}.ome.tif", image, ome=True, metadata=metadata)


def test_channel_names_come_from_the_file(image_folder: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_ome(image_folder, name, ["DNA1", "CD8", "x"])
    sp = {"sp": "{id}.ome.tif"}
    image_folder.describe(images=sp, channels={"CD8": "P01732"})
    source = FolderSource(image_folder.path)
    assert source.panel == (Channel("DNA1", "P68431", True), Channel("CD8", "P01732"), Channel("x"))
    assert "a.ome.tif claims 0.25 µm/px, mpp=0.5 is used" in source.notices
    image_folder.describe(images=sp, channels={"CD88": "P01732"})
    assert "has ['CD88'], but" in refused(image_folder, tmp_path)
    image_folder.describe(images=sp, channels=["CD8", "DNA1", "x"])
    assert "another order than" in refused(image_folder, tmp_path)
    image_folder.describe(images=sp, channels=["DNA1", None, "y"])
    tissue = first(image_folder)
    assert tissue.sp is not None
    assert tissue.sp.shape == (2, *SIZE)


def test_imagej_labels_are_channel_names(image_folder: Any) -> None:
    image = np.ones((2, *SIZE), np.uint16)
    for name in ("a", "b"):
        metadata = {"axes": "CYX", "Labels": ["Hoechst 33342", "CD4"]}
        tifffile.imwrite(
            image_folder.path / f"{name}.sp.tif", image, imagej=True, metadata=metadata
        )
    image_folder.describe(channels=None)
    assert [c.name for c in FolderSource(image_folder.path).panel] == ["Hoechst 33342", "CD4"]


def test_duplicate_and_different_channels_are_refused(image_folder: Any, tmp_path: Path) -> None:
    image_folder.describe(images={"sp": "{id}.ome.tif"}, channels=None)
    save_ome(image_folder, "a", ["DAPI", "CD3", "DAPI"])
    save_ome(image_folder, "b", ["DAPI", "CD3"])
    message = refused(image_folder, tmp_path)
    assert "a.ome.tif names channels more than once: DAPI ×2" in message
    assert "null for those to leave out" in message
    save_ome(image_folder, "a", ["CD3", "DAPI"])
    assert "tissue b: " in refused(image_folder, tmp_path)


# --- images -----------------------------------------------------------------------------------------


def test_alpha_is_dropped_and_said(image_folder: Any) -> None:
    save_he(image_folder, np.full((*SIZE, 4), 7, np.uint8))
    source = FolderSource(image_folder.path)
    tissue = next(iter(source))[1]
    assert tissue.he is not None
    assert tissue.he.shape == (3, *SIZE)
    assert "alpha channel of H&E dropped (tissue a)" in source.notices


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
    [("bool", "uint8"), ("int32", "uint16"), ("float64", "float32"), ("float16", "float32")],
)
def test_sp_types_become_those_of_the_store(dtype: str, stored: str, image_folder: Any) -> None:
    image_folder.describe(images={"sp": "{id}.sp.npy"})
    for name in ("a", "b"):
        np.save(image_folder.path / f"{name}.sp.npy", np.ones((2, *SIZE), dtype))
    source = FolderSource(image_folder.path)
    tissue = next(iter(source))[1]
    assert tissue.sp is not None
    assert tissue.sp.dtype == stored
    assert f"SP intensities converted from {dtype} to {stored} (tissue a)" in source.notices


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


# --- masks ------------------------------------------------------------------------------------------


def save_masks(folder: Any, **masks: np.ndarray) -> None:
    """Give both tissues these masks, as npz; a mask's name is its pattern."""
    for kind, mask in masks.items():
        for name in ("a", "b"):
            np.savez(folder.path / f"{name}.{kind}.npz", other=np.zeros(3), **{kind: mask})


def describe_masks(folder: Any, *kinds: str, **changes: Any) -> None:
    folder.describe(masks={kind: f"{{id}}.{kind}.npz" for kind in kinds}, **changes)


def two_cells() -> np.ndarray:
    instances = np.zeros(SIZE, np.uint16)
    instances[2:12, 2:12] = 4
    instances[20:30, 20:30] = 9
    return instances


def test_without_classes_every_instance_is_a_nucleus(image_folder: Any) -> None:
    save_masks(image_folder, instances=two_cells())
    describe_masks(image_folder, "instances", classes=None)
    source = FolderSource(image_folder.path)
    tissue = next(iter(source))[1]
    assert [c.name for c in source.classes] == ["background", "nucleus"]
    np.testing.assert_array_equal(tissue.classes, two_cells() > 0)


def test_mixed_instance_takes_its_majority_class(image_folder: Any) -> None:
    classes = np.zeros(SIZE, np.uint8)
    classes[2:5, 2:12] = 1  # a third of cell 4, the rest of it is background
    classes[5:6, 2:12] = 2
    classes[20:30, 20:30] = 2
    classes[35:, :] = 1  # of no instance
    save_masks(image_folder, instances=two_cells(), classes=classes)
    describe_masks(image_folder, "instances", "classes")
    source = FolderSource(image_folder.path)
    tissue = next(iter(source))[1]
    assert (tissue.classes[two_cells() == 4] == 1).all()
    assert (tissue.classes[two_cells() == 9] == 2).all()
    assert (tissue.classes[35:] == 1).all()
    said = " ".join(source.notices)
    assert "1 instances of several classes took the most frequent one" in said
    assert "240 pixels keep their class outside instances" in said


def test_untyped_instance_is_an_error_or_ignored(image_folder: Any, tmp_path: Path) -> None:
    classes = np.where(two_cells() == 4, 1, 0)
    save_masks(image_folder, instances=two_cells(), classes=classes)
    describe_masks(image_folder, "instances", "classes")
    assert refused(image_folder, tmp_path).startswith(
        "tissue a: 1 instances without class, such as [9]"
    )
    describe_masks(image_folder, "instances", "classes", untyped="ignore")
    tissue = first(image_folder)
    assert (tissue.classes[two_cells() == 9] == IGNORE).all()
    np.testing.assert_array_equal(tissue.instances, two_cells())


def test_class_outside_the_table_is_refused(image_folder: Any, tmp_path: Path) -> None:
    save_masks(image_folder, instances=two_cells(), classes=np.full(SIZE, 3))
    describe_masks(image_folder, "instances", "classes")
    assert "tissue a: class mask holds id [3]" in refused(image_folder, tmp_path)


def test_ignore_mask_takes_instances_whole_or_not_at_all(image_folder: Any) -> None:
    ignore = np.zeros(SIZE, np.uint8)
    ignore[:8, :] = 1  # 6 of 10 rows of cell 4
    ignore[27:, :] = 255  # 3 of 10 rows of cell 9
    save_masks(image_folder, instances=two_cells(), ignore=ignore)
    describe_masks(image_folder, "instances", "ignore", classes=None)
    source = FolderSource(image_folder.path)
    tissue = next(iter(source))[1]
    np.testing.assert_array_equal(tissue.instances, np.where(two_cells() == 9, 9, 0))
    wanted = ((ignore > 0) | (two_cells() == 4)) & (two_cells() != 9)
    np.testing.assert_array_equal(tissue.classes == IGNORE, wanted)
    assert (tissue.classes[two_cells() == 9] == 1).all()
    said = " ".join(source.notices)
    assert "1 instances ignored whole" in said
    assert "1 instances kept whole" in said


@pytest.mark.parametrize("value", [1, 255])
def test_foreground_mask_is_no_instance_mask(value: int, image_folder: Any, tmp_path: Path) -> None:
    save_masks(image_folder, instances=np.where(two_cells() > 0, value, 0))
    describe_masks(image_folder, "instances", classes=None)
    message = refused(image_folder, tmp_path)
    assert f"a.instances.npz holds one id ({value}) in 2 pieces" in message


def test_class_image_is_no_instance_mask(image_folder: Any, tmp_path: Path) -> None:
    masks = {"instances": "{id}.classes.png"}
    image_folder.describe(masks=masks, classes=None)
    assert "holds 2 ids in 30 pieces: it looks like a class image" in refused(
        image_folder, tmp_path
    )
    image_folder.describe(masks=masks | {"classes": "{id}.classes.png"})
    assert "one file for `instances` and `classes`" in refused(image_folder, tmp_path)


def test_a_tiff_is_not_read_as_the_png_it_claims_to_be(image_folder: Any, tmp_path: Path) -> None:
    sixteen_bit = np.full((40, 48, 3), 4000, np.uint16)
    tifffile.imwrite(image_folder.path / "a.he.png", sixteen_bit, photometric="rgb")
    assert "a.he.png holds a TIFF" in refused(image_folder, tmp_path)


@pytest.mark.parametrize(
    ("instances", "said"),
    [
        (np.zeros((*SIZE, 3), np.uint8), "wanted one integer per pixel"),
        (np.full(SIZE, 0.5), "wanted integers"),
        (np.zeros(7), "wanted one integer per pixel"),
        (np.zeros((39, 48), np.uint8), "instance mask is (39, 48), but the image is (40, 48)"),
        (np.full(SIZE, 2**40), "relabel them"),
    ],
)
def test_masks_that_are_none(
    instances: np.ndarray, said: str, image_folder: Any, tmp_path: Path
) -> None:
    save_masks(image_folder, instances=instances)
    describe_masks(image_folder, "instances", classes=None)
    assert said in refused(image_folder, tmp_path)


def test_class_and_ignore_masks_must_lie_on_the_instances(
    image_folder: Any, tmp_path: Path
) -> None:
    for kind in ("classes", "ignore"):
        save_masks(image_folder, instances=two_cells(), **{kind: np.ones((39, 48), np.uint8)})
        describe_masks(image_folder, "instances", kind, classes=["background", "x"])
        assert f"a.{kind}.npz is (39, 48), but" in refused(image_folder, tmp_path)


def test_float_labels_are_integers_after_all(image_folder: Any) -> None:
    save_masks(image_folder, instances=two_cells().astype(np.float32))
    describe_masks(image_folder, "instances", classes=None)
    np.testing.assert_array_equal(first(image_folder).instances, two_cells())


def test_npz_with_other_names_is_refused(image_folder: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.savez(image_folder.path / f"{name}.m.npz", x=two_cells(), y=two_cells())
    image_folder.describe(masks={"instances": "{id}.m.npz"}, classes=None)
    assert "holds the arrays ['x', 'y']: name one 'instances'" in refused(image_folder, tmp_path)


# --- tables of types --------------------------------------------------------------------------------


def describe_types(folder: Any, text: str, **changes: Any) -> None:
    save_masks(folder, instances=two_cells())
    for name in ("a", "b"):
        (folder.path / f"{name}.csv").write_text(text, encoding="utf-8-sig")
    table = {"file": "{id}.csv", "id": "cell", "type": "kind", "untyped": ["unclear"]}
    classes = ["background", {"name": "tumor", "types": ["T1", "T2"]}, "immune"]
    masks = {"instances": "{id}.instances.npz", "types": table}
    folder.describe(**{"masks": masks, "classes": classes} | changes)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_types_are_painted(delimiter: str, image_folder: Any) -> None:
    text = "x,cell,kind\n0,4,immune\n0,9.0,T2\n0,77,1\n".replace(",", delimiter)
    describe_types(image_folder, text)
    source = FolderSource(image_folder.path)
    tissue = next(iter(source))[1]
    assert (tissue.classes[two_cells() == 4] == 2).all()
    assert (tissue.classes[two_cells() == 9] == 1).all()
    assert (tissue.classes[two_cells() == 0] == 0).all()
    assert "1 rows of types without an instance (tissue a)" in source.notices


@pytest.mark.parametrize("row", ["", "9,\n", "9,NA\n", "9,unclear\n", "9,0\n"])
def test_instances_without_type(row: str, image_folder: Any, tmp_path: Path) -> None:
    describe_types(image_folder, "cell,kind\n4,tumor\n" + row)
    assert "tissue a: 1 instances without class, such as [9]" in refused(image_folder, tmp_path)
    describe_types(image_folder, "cell,kind\n4,tumor\n" + row, untyped="ignore")
    assert (first(image_folder).classes[two_cells() == 9] == IGNORE).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cell,type\n4,tumor\n", "wants ['kind']"),
        ("", "has columns []"),
        ("cell,kind\n4,tumour\n", "line 2: type 'tumour' is none of"),
        ("cell,kind\n4,tumour\n", "did you mean tumor?"),
        ("cell,kind\n4,7\n", "type '7' is none of"),
        ("cell,kind\n4,tumor\n4,immune\n", "line 3: instance id '4' is given twice"),
        ("cell,kind\nx,tumor\n", "line 2: instance id 'x' is no integer"),
    ],
)
def test_tables_that_cannot_be_used(
    text: str, said: str, image_folder: Any, tmp_path: Path
) -> None:
    describe_types(image_folder, text)
    message = refused(image_folder, tmp_path)
    assert said in message
    assert "a.csv" in message


# --- real images ------------------------------------------------------------------------------------


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
    ((_, tissue),) = FolderSource(tmp_path)
    assert tissue.sp is not None
    assert tissue.sp.shape == (19, 256, 256)


@given(
    hnp.arrays(np.int64, (6, 7), elements=st.sampled_from([0, 1, 2, 5, 90, 10**6])),
    hnp.arrays(np.bool_, (6, 7)),
)
def test_instances_are_never_cut(instances: np.ndarray, ignored: np.ndarray) -> None:
    cleared = clear_ignored(instances, ignored)
    for instance in np.unique(instances[instances > 0]):
        pixels = instances == instance
        inside = ignored[pixels].mean()
        assert (cleared.instances[pixels] == (instance if inside < 0.5 else 0)).all()
        assert (cleared.ignored[pixels] == (inside >= 0.5)).all()
    np.testing.assert_array_equal(cleared.ignored[instances == 0], ignored[instances == 0])


@given(
    hnp.arrays(np.int64, (6, 7), elements=st.sampled_from([0, 1, 2, 5, 10**6])),
    hnp.arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, IGNORE])),
)
def test_every_instance_gets_the_class_most_of_it_has(
    instances: np.ndarray, classes: np.ndarray
) -> None:
    painted = type_by_image(instances, classes, 3).classes
    np.testing.assert_array_equal(painted[instances == 0], classes[instances == 0])
    for instance in np.unique(instances[instances > 0]):
        found = classes[(instances == instance) & (classes > 0)]
        winner = Counter(sorted(found.tolist())).most_common(1)[0][0] if found.size else 0
        assert (painted[instances == instance] == winner).all()
