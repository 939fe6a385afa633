"""A folder of images as a source: its description, its tissues, what the user is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from folders import SIZE, convert, first, refused

from tissueseg.contracts import Channel
from tissueseg.errors import TissuesegError
from tissueseg.store.notices import gather
from tissueseg.store.planes import Tissue, Window
from tissueseg.store.sources.folder import FolderSource


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


def test_every_file_is_recorded(image_folder: Any, tmp_path: Path) -> None:
    store = convert(FolderSource(image_folder.path), tmp_path / "out.zarr")
    source = store.attributes("a")["source"]
    files = ["a.classes.png", "a.he.png", "a.nuclei.tif", "a.sp.tif"]
    assert sorted(source) == [*files, "description"]
    content = (image_folder.path / "a.sp.tif").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert source["a.sp.tif"] == {"bytes": len(content), "sha256": digest}


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
    monkeypatch.setattr(FolderSource, "open", lambda *_: pytest.fail("an image was read"))
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
    files = FolderSource(image_folder.path).files("a")
    assert list(files) == ["a/a.he.png", "a/a.nuclei.tif", "description"]


def test_tissues_may_be_chosen_and_have_patients(image_folder: Any) -> None:
    image_folder.describe(tissues=["b"], patient="^(.)")
    source = FolderSource(image_folder.path)
    ((name, tissue),) = [(n, source.open(n)) for n in source.tissues]
    assert (name, tissue.patient) == ("b", "b")
    image_folder.describe()
    assert first(image_folder).patient is None


def save_ome(folder: Any, name: str, channels: list[str], mpp: float = 0.25) -> None:
    image = np.ones((len(channels), *SIZE), np.uint8)
    metadata = {"axes": "CYX", "Channel": {"Name": channels}, "PhysicalSizeX": mpp}
    tifffile.imwrite(folder.path / f"{name}.ome.tif", image, ome=True, metadata=metadata)


def test_channel_names_come_from_the_file(image_folder: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_ome(image_folder, name, ["DNA1", "CD8", "x"])
    sp = {"sp": "{id}.ome.tif"}
    image_folder.describe(images=sp, channels={"CD8": "P01732"})
    source = FolderSource(image_folder.path)
    assert source.panel == (Channel("DNA1", "P68431", True), Channel("CD8", "P01732"), Channel("x"))
    image_folder.describe(images=sp, channels={"CD88": "P01732"})
    assert "has ['CD88'], but" in refused(image_folder, tmp_path)
    image_folder.describe(images=sp, channels=["CD8", "DNA1", "x"])
    assert "another order than" in refused(image_folder, tmp_path)
    image_folder.describe(images=sp, channels=["DNA1", None, "y"])
    tissue = first(image_folder)
    assert tissue.sp is not None
    assert tissue.sp.shape == (2, *SIZE)


def test_every_image_that_claims_another_scale_is_named(image_folder: Any) -> None:
    nuclei = (image_folder.path / "a.nuclei.tif").read_bytes()
    for name, sp, he in (("a", 0.5, 0.5), ("b", 0.25, 1.0), ("c", 0.5, 0.25), ("d", 0.507, 0.493)):
        save_ome(image_folder, name, ["DAPI", "CD3"], sp)
        pixels = np.ones((*SIZE, 3), np.uint8)
        sides = {"PhysicalSizeX": he, "PhysicalSizeY": he}
        path = image_folder.path / f"{name}.he.ome.tif"
        tifffile.imwrite(path, pixels, photometric="rgb", ome=True, metadata=sides)
        (image_folder.path / f"{name}.tif").write_bytes(nuclei)
    images = {"he": "{id}.he.ome.tif", "sp": "{id}.ome.tif"}
    described = {"images": images, "masks": {"instances": "{id}.tif"}, "classes": None}
    image_folder.describe(**described)
    source = FolderSource(image_folder.path)
    assert gather({t: source.open(t).notices for t in source.tissues}) == (
        "H&E claims 1 µm/px, mpp=0.5 is used (tissue b)",
        "SP claims 0.25 µm/px, mpp=0.5 is used (tissue b)",
        "H&E claims 0.25 µm/px, mpp=0.5 is used (tissue c)",
        "claims of µm/px differ (H&E 0.493 and SP 0.507), mpp=0.5 is used (tissue d)",
    )
    image_folder.describe(mpp="unknown", tissues=["a"], **described)
    assert list(first(image_folder).notices) == [
        "H&E claims 0.5 µm/px, mpp=unknown is used",
        "SP claims 0.5 µm/px, mpp=unknown is used",
    ]


def test_stains_of_dna_are_said_unless_their_protein_is_stated(image_folder: Any) -> None:
    message = "nuclear channels DAPI stand for histone H3 (P68431)"
    assert message in FolderSource(image_folder.path).notices
    stated = {"name": "DAPI", "uniprot": "P68431", "nuclear": True}
    image_folder.describe(channels=[stated, "CD3"])
    assert FolderSource(image_folder.path).notices == []


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
