"""Single image files as a store: what a network wants of them, and one line for what does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from folders import shown
from PIL import Image
from slide_folders import CHANNELS, SlideImages, draw_slide, physical_size, write_pyramid
from stores import CLASSES, whole

from tissueseg.contracts import Channel, DataSpec, Modality
from tissueseg.errors import TissueDataError, TissuesegError
from tissueseg.store import image_store as module
from tissueseg.store import layout
from tissueseg.store.image_store import image_store
from tissueseg.store.notices import gather
from tissueseg.store.reading.tiff import TiffImage
from tissueseg.store.sources.channels import complete
from tissueseg.store.tissues import TissueStore


class Folder:
    """A user's folder with images of one slide."""

    def __init__(self, path: Path) -> None:
        self.path, self.images = path, draw_slide(140, 170)
        path.mkdir()
        self.he(), self.sp()

    def he(self, mpp: float | None = 0.5, image: np.ndarray | None = None) -> Path:
        metadata = {"axes": "YXS"} | physical_size(mpp)
        path, drawn = self.path / "s.ome.tif", self.images.he if image is None else image
        write_pyramid(path, drawn, metadata, photometric="rgb", tile=(64, 64))
        return path

    def sp(
        self,
        mpp: float | None = 0.5,
        names: Sequence[str] | None = CHANNELS,
        image: np.ndarray | None = None,
    ) -> Path:
        metadata = {"axes": "CYX"} | physical_size(mpp)
        metadata |= {"Channel": {"Name": list(names)}} if names else {}
        path, drawn = self.path / "s.sp.tif", self.images.sp if image is None else image
        write_pyramid(path, drawn, metadata, photometric="minisblack", tile=(64, 64))
        return path

    def save(self, name: str, image: np.ndarray) -> Path:
        path = self.path / name
        np.save(path, image) if path.suffix == ".npy" else Image.fromarray(image).save(path)
        return path


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "images")


def spec(
    modality: str = "he", names: Sequence[str] = ("CD20", "DNA"), mpp: float | None = 0.5
) -> DataSpec:
    """Of a network's data."""
    panel = tuple(complete(name) for name in names) if "sp" in modality else ()
    channels = len(panel) + 3 * ("he" in modality)
    return DataSpec(Modality(modality), channels, CLASSES, panel, mpp, 64)


def make(
    folder: Folder,
    wanted: DataSpec,
    he: Path | None = None,
    sp: Path | None = None,
    mpp: float | None = None,
    channels: Sequence[Any] | None = None,
) -> TissueStore:
    return image_store(he, sp, wanted, mpp, channels, folder.path.parent / "out.zarr")


def refused(folder: Folder, wanted: DataSpec, **given: Any) -> str:
    """The one line a user gets; nothing may be left where the store should be."""
    with pytest.raises(TissuesegError) as caught:
        make(folder, wanted, **given)
    assert shown(folder.path.parent) == ["images"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(store: TissueStore, images: SlideImages, channels: Sequence[int]) -> None:
    np.testing.assert_array_equal(whole(store, "s", "he"), np.moveaxis(images.he, -1, 0))
    np.testing.assert_array_equal(whole(store, "s", "sp"), images.sp[list(channels)])


def test_a_pair_becomes_what_the_network_knows(folder: Folder) -> None:
    wanted = spec("he_sp")
    store = make(folder, wanted, folder.he(), folder.sp())
    assert store.tissues == store.unlabelled == ("s",)
    assert (store.mpp, store.classes, store.panel) == (0.5, wanted.classes, wanted.panel)
    check(store, folder.images, [3, 0])
    assert store.attributes("s")["notices"] == {
        "channels no. 4, 1 of the 5 in the SP image are taken": 1
    }
    assert set(store.attributes("s")["source"]) == {"he", "sp"}


def test_files_are_read_by_window(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SHARD_PX", 256)
    folder.images = draw_slide(300, 420)
    asked = []
    read = TiffImage.read
    monkeypatch.setattr(TiffImage, "read", lambda s, w, c=None: (asked.append(w), read(s, w, c))[1])
    store = make(folder, spec(), folder.he())
    assert [(w.y, w.x) for w in asked] == [(0, 0), (0, 256), (256, 0), (256, 256)]
    np.testing.assert_array_equal(whole(store, "s", "he"), np.moveaxis(folder.images.he, -1, 0))


@pytest.mark.parametrize("name", ["s.png", "s.npy", "s.tif"])
def test_plain_pictures_need_nothing_but_their_scale(folder: Folder, name: str) -> None:
    path = folder.path / name
    if path.suffix == ".tif":
        tifffile.imwrite(path, folder.images.he, photometric="rgb")
    else:
        folder.save(name, folder.images.he)
    store = make(folder, spec(), path, mpp=0.5)
    np.testing.assert_array_equal(whole(store, "s", "he"), np.moveaxis(folder.images.he, -1, 0))
    assert store.mpp == 0.5


def test_alpha_is_dropped_and_said(folder: Folder) -> None:
    image = np.dstack([folder.images.he, folder.images.he[..., :1]])
    store = make(folder, spec(), folder.save("s.png", image), mpp=0.5)
    assert whole(store, "s", "he").shape == (3, 140, 170)
    assert store.attributes("s")["notices"] == {"alpha channel of H&E dropped": 1}


def test_arrays_of_wide_types_are_narrowed(folder: Folder) -> None:
    path = folder.save("s.npy", folder.images.sp.astype(np.float64))
    store = make(folder, spec("sp"), sp=path, mpp=0.5, channels=CHANNELS)
    np.testing.assert_array_equal(whole(store, "s", "sp"), folder.images.sp[[3, 0]])
    said = "SP intensities converted from float64 to float32"
    assert said in store.attributes("s")["notices"]


def test_listed_channels_replace_those_of_the_file(folder: Folder) -> None:
    names = ["x", None, {"name": "CD20", "uniprot": "P11836"}, None, "DAPI"]
    store = make(folder, spec("sp"), sp=folder.sp(), channels=names)
    np.testing.assert_array_equal(whole(store, "s.sp", "sp"), folder.images.sp[[2, 4]])
    assert "channel DAPI is taken for DNA" in store.attributes("s.sp")["notices"]


def test_another_scale_is_resampled_and_nearly_the_same_is_not(folder: Folder) -> None:
    store = make(folder, spec(mpp=0.5), folder.he(mpp=0.25))
    assert (store.mpp, store.entry("s")[2:4]) == (0.5, (70, 85))
    out = folder.path.parent / "near.zarr"
    near = image_store(folder.he(mpp=0.497), None, spec(), None, None, out)
    assert (near.mpp, near.entry("s")[2:4]) == (0.5, (140, 170))
    assert near.attributes("s")["notices"] == {"0.497 µm/px is taken for 0.5": 1}


def test_a_stated_scale_goes_before_the_files(folder: Folder) -> None:
    store = make(folder, spec(), folder.he(mpp=0.25), mpp=0.5)
    assert store.entry("s")[2:4] == (140, 170)
    assert "H&E claims 0.25 µm/px, mpp=0.5 is used" in store.attributes("s")["notices"]


def test_a_network_of_no_scale_takes_pixels_as_they_are(folder: Folder) -> None:
    store = make(folder, spec(mpp=None), folder.he(mpp=0.25))
    assert (store.mpp, store.entry("s")[2:4]) == (None, (140, 170))


def test_what_was_made_before_is_opened(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = make(folder, spec("sp"), sp=folder.sp())
    monkeypatch.setattr(module, "convert", None)
    again = make(folder, spec("sp"), sp=folder.path / "s.sp.tif")
    assert again.digests() == first.digests()


@pytest.mark.parametrize("change", ["pixels", "scale", "channels", "panel"])
def test_what_was_made_of_something_else_is_not_opened(folder: Folder, change: str) -> None:
    make(folder, spec("sp"), sp=folder.sp())
    given: dict[str, Any] = {"sp": folder.path / "s.sp.tif"}
    if change == "pixels":
        folder.sp(image=folder.images.sp[:, ::-1])
    given |= {"mpp": 0.4} if change == "scale" else {}
    given |= {"channels": ["a", "CD20", "DNA", "b", "c"]} if change == "channels" else {}
    wanted = spec("sp", ("DNA", "CD20")) if change == "panel" else spec("sp")
    with pytest.raises(TissueDataError, match=r"out\.zarr exists already"):
        make(folder, wanted, **given)
    out = folder.path.parent / "out.zarr"
    store = image_store(
        None, given.pop("sp"), wanted, given.get("mpp"), given.get("channels"), out, True
    )
    assert store.panel == wanted.panel


def test_an_interrupted_conversion_leaves_no_store(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise TissueDataError("the disk is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(TiffImage, "read", fail)
        assert refused(folder, spec(), he=folder.he()) == "the disk is gone."
    check_he = make(folder, spec(), folder.path / "s.ome.tif")
    np.testing.assert_array_equal(whole(check_he, "s", "he")[0], folder.images.he[..., 0])


def test_images_of_another_kind_than_the_network_saw(folder: Folder) -> None:
    he, sp = folder.he(), folder.sp()
    assert "is given as H&E, but the network was trained on SP" in refused(
        folder, spec("sp"), he=he
    )
    assert "is given as SP, but the network was trained on H&E" in refused(folder, spec(), sp=sp)
    said = refused(folder, spec("he_sp"), he=he)
    assert "trained on H&E and SP, but no SP image is given: add image.sp=FILE" in said
    assert "no H&E image is given" in refused(folder, spec())


def test_images_that_are_mixed_up(folder: Folder) -> None:
    he, sp = folder.he(), folder.sp()
    assert "H&E has uint16 pixels, wanted 8-bit RGB" in refused(folder, spec(), he=sp)
    said = refused(folder, spec("sp"), sp=he)
    assert "carries no names for its 3 channels" in said
    assert "Is it the H&E image?" in said
    picture = folder.save("p.png", folder.images.he)
    assert "Is it the H&E image?" in refused(folder, spec("sp"), sp=picture, mpp=0.5)
    eight = folder.sp(image=folder.images.sp.astype(np.uint8))
    assert "H&E has 5 channels, wanted 3 (RGB). Is it the SP image?" in refused(
        folder, spec(), he=eight
    )


def test_files_that_are_no_images(folder: Folder) -> None:
    gone = folder.path / "gone.tif"
    assert f"{gone} is missing" in refused(folder, spec(), he=gone)
    text = folder.path / "a.txt"
    text.write_text("not an image")
    assert "a.txt is no image that can be read: wanted .jpg" in refused(folder, spec(), he=text)
    for name in ("broken.tif", "broken.png", "broken.npy"):
        (folder.path / name).write_bytes(b"II*\0 broken")
        said = refused(folder, spec(), he=folder.path / name, mpp=0.5)
        assert f"{name} cannot be read" in said
    assert "is missing or no file" in refused(folder, spec(), he=folder.path)


def test_bit_depths_that_are_none_of_h_and_e(folder: Folder) -> None:
    wide = folder.save("s.npy", folder.images.he.astype(np.uint16))
    assert "H&E has uint16 pixels" in refused(folder, spec(), he=wide, mpp=0.5)
    grey = folder.save("s.png", folder.images.he[..., 0])
    assert "H&E has 1 channels, wanted 3" in refused(folder, spec(), he=grey, mpp=0.5)


def test_scales_that_are_missing_or_impossible(folder: Folder) -> None:
    he = folder.he(mpp=None)
    said = refused(folder, spec(), he=he)
    assert "does not say its µm/px, and the network was trained at 0.5: give image.mpp=…" in said
    for mpp in (0.0, -1.0, 500.0, float("nan"), True):
        assert f"image.mpp={'true' if mpp is True else mpp}, wanted" in refused(
            folder, spec(), he=he, mpp=mpp
        )
    pair = {"he": folder.he(mpp=0.25), "sp": folder.sp(mpp=0.5)}
    said = refused(folder, spec("he_sp"), **pair)
    assert "contradict each other on µm/px (H&E 0.25, but SP 0.5)" in said
    assert "0.01 … 20" in refused(folder, spec(mpp=20.0), he=folder.he(mpp=0.02))


def test_channels_that_are_missing_or_unnamed(folder: Folder) -> None:
    said = refused(folder, spec("sp", ("DNA", "CD45")), sp=folder.sp())
    assert "s.sp.tif lacks the channels CD45" in said
    assert "holds DNA, CD3, CD8, CD20, panCK" in said
    nameless = folder.sp(names=None)
    assert "carries no names for its 5 channels" in refused(folder, spec("sp"), sp=nameless)
    said = refused(folder, spec("sp"), sp=nameless, channels=["DNA", "CD20"])
    assert "holds 5 channels, but image.channels lists 2" in said
    said = refused(folder, spec("sp"), sp=folder.sp(), channels=["DNA", "CD3", "CD8", "CD20", 5])
    assert "image.channels[4] is 5, wanted a name" in said
    assert "image.channels names no channel" in refused(
        folder, spec("sp"), sp=folder.sp(), channels=[]
    )
    array = folder.save("a.npy", folder.images.sp)
    assert "carries no names for its channels" in refused(folder, spec("sp"), sp=array, mpp=0.5)


def test_a_pair_of_two_sizes(folder: Folder) -> None:
    he = folder.he(image=folder.images.he[:70])
    said = refused(folder, spec("he_sp"), he=he, sp=folder.sp())
    assert "the SP image is 140 × 170 px, but the H&E image is 70 × 170" in said


def test_a_file_whose_name_can_be_no_tissue(folder: Folder) -> None:
    path = folder.he().rename(folder.path / ".hidden.tif")
    assert "no plain tissue id: rename it" in refused(folder, spec(), he=path)


def test_braces_in_a_channels_name_are_shown(folder: Folder) -> None:
    names = ["DNA", "{n}", "c", "d", "Hoechst{}"]
    wanted = DataSpec(Modality.SP, 1, CLASSES, (Channel("marker", "P11836"),), 0.5, 64)
    channels = [None, None, {"name": "{n}", "uniprot": "P11836"}, None, None]
    store = make(folder, wanted, sp=folder.sp(names=names), channels=channels)
    assert "channel {n} is taken for marker (tissue s.sp)" in gather(
        {"s.sp": store.attributes("s.sp")["notices"]}
    )
