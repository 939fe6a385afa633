"""The published folds of PanNuke as a source: its images, its classes, what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from layouts import PanNuke, pannuke_refusal

from tissueseg.errors import TissuesegError
from tissueseg.store.notices import gather
from tissueseg.store.planes import Window, whole
from tissueseg.store.sources.pannuke import PanNukeSource


@pytest.fixture
def pannuke(tmp_path: Path) -> PanNuke:
    return PanNuke(tmp_path / "data")


def test_every_image_of_both_layouts_is_a_tissue(pannuke: PanNuke) -> None:
    source = PanNukeSource(pannuke.path)
    assert source.tissues == (
        "fold1_0000_Breast",
        "fold1_0001_Adrenal_gland",
        "fold2_0000_Bile-duct",
    )
    assert (source.images, source.panel, source.moments) == (("he",), (), {})
    assert source.scale("fold1_0000_Breast") == 0.25
    tissue = source.open("fold1_0000_Breast")
    assert (tissue.patient, tissue.split, tissue.shape) == (None, "fold1", (32, 32))
    assert source.open("fold2_0000_Bile-duct").split == "fold2"
    files = source.files("fold2_0000_Bile-duct")
    assert list(files) == ["fold2/images.npy", "fold2/masks.npy", "fold2/types.npy"]
    assert all(path.is_file() for path in files.values())
    (notice,) = source.notices
    assert "names no patients" in notice


def test_pixels_come_out_by_window(pannuke: PanNuke) -> None:
    for tissue in ("fold1_0000_Breast", "fold2_0000_Bile-duct"):
        planes = PanNukeSource(pannuke.path).open(tissue).read(Window(3, 5, 20, 22))
        expected = np.moveaxis(pannuke.images[0], -1, 0).astype(np.uint8)[:, 3:23, 5:27]
        np.testing.assert_array_equal(planes.he, expected, strict=True)


def test_the_later_channel_wins_and_ids_are_unique(pannuke: PanNuke) -> None:
    source = PanNukeSource(pannuke.path)
    assert [c.name for c in source.classes] == [
        *("background", "neoplastic", "inflammatory", "connective", "dead", "epithelial"),
    ]
    tissue = source.open("fold1_0000_Breast")
    planes = tissue.read(whole((32, 32)))
    expected = np.zeros((32, 32), int)
    expected[2:6, 2:8], expected[10:16, 10:16] = 1, 2
    expected[6:12, 2:8], expected[20:26, 20:26] = 3, 4
    np.testing.assert_array_equal(planes.instances, expected)
    np.testing.assert_array_equal(planes.classes, np.array([0, 1, 1, 3, 5])[expected])
    assert gather({"x": tissue.notices}) == (
        "12 pixels of two classes took the later one (tissue x)",
    )


def test_an_image_without_nuclei_is_said(pannuke: PanNuke) -> None:
    tissue = PanNukeSource(pannuke.path).open("fold1_0001_Adrenal_gland")
    assert tissue.notices == {"no instance at all": 1}
    assert not tissue.read(whole((32, 32))).classes.any()


def test_a_fold_may_be_given_itself(pannuke: PanNuke) -> None:
    assert len(PanNukeSource(pannuke.path / "data/fold1").tissues) == 2
    assert len(PanNukeSource(pannuke.path / "Fold 2").tissues) == 1


def test_fractions_are_rounded_and_said(pannuke: PanNuke) -> None:
    pannuke.images = pannuke.images.round() * 0.5
    pannuke.fold()
    tissue = PanNukeSource(pannuke.path).open("fold1_0000_Breast")
    half = pannuke.images[0]
    assert tissue.notices["{n} values of H&E rounded to whole numbers"] == int((half % 1 > 0).sum())
    assert tissue.he is not None
    np.testing.assert_array_equal(np.moveaxis(tissue.he, 0, -1), np.rint(half))


def scaled(pannuke: PanNuke) -> None:
    pannuke.images = pannuke.images / 255


def too_bright(pannuke: PanNuke) -> None:
    pannuke.images[0, 0, 0, 0] = 256


def negative(pannuke: PanNuke) -> None:
    pannuke.images[0, 0, 0, 0] = -1


def no_number(pannuke: PanNuke) -> None:
    pannuke.images[0, 0, 0, 0] = np.nan


def fractional_ids(pannuke: PanNuke) -> None:
    pannuke.masks[0, 0, 0, 0] = 0.5


def negative_ids(pannuke: PanNuke) -> None:
    pannuke.masks[0, 0, 0, 0] = -1


def fewer_channels(pannuke: PanNuke) -> None:
    pannuke.masks = pannuke.masks[..., :5]


def fewer_images(pannuke: PanNuke) -> None:
    pannuke.images = pannuke.images[:1]
    pannuke.masks = pannuke.masks[:1]


def words(pannuke: PanNuke) -> None:
    pannuke.images = pannuke.images.astype(str)


def without_masks(pannuke: PanNuke) -> None:
    (pannuke.path / "Fold 2/masks/fold2/masks.npy").unlink()


def without_types(pannuke: PanNuke) -> None:
    (pannuke.path / "Fold 2/images/fold2/types.npy").unlink()


def twice(pannuke: PanNuke) -> None:
    shutil.copytree(pannuke.path / "data/fold1", pannuke.path / "copy/Fold_1")


def other_name(pannuke: PanNuke) -> None:
    shutil.copytree(pannuke.path / "data/fold1", pannuke.path / "copy/first")


def pickled(pannuke: PanNuke) -> None:
    path = pannuke.path / "Fold 2/images/fold2/images.npy"
    np.save(path, np.array([{}], object), allow_pickle=True)


REFUSALS: dict[Callable[[PanNuke], None], str] = {
    scaled: "holds fractions up to 1, wanted 0 … 255: multiply it by 255",
    too_bright: "holds values 0 … 256, wanted 0 … 255",
    negative: "holds values -1 … 255, wanted 0 … 255",
    no_number: "holds values nan … nan, wanted 0 … 255",
    fractional_ids: "holds ids that are no whole numbers ≥ 0",
    negative_ids: "holds ids that are no whole numbers ≥ 0",
    fewer_channels: "(2, 32, 32, 5), wanted (N, 256, 256, 3) and (N, 256, 256, 6)",
    fewer_images: "types.npy names 2 images, but",
    words: "values, wanted numbers",
    without_masks: "fold2/masks.npy is missing",
    without_types: "types.npy is missing",
    twice: "holds a fold twice",
    other_name: "is in no folder named like fold1",
    pickled: "images.npy cannot be read",
}


@pytest.mark.parametrize(
    ("change", "said"), REFUSALS.items(), ids=lambda c: getattr(c, "__name__", "")
)
def test_data_that_cannot_be_used_are_refused(
    change: Callable[[PanNuke], None], said: str, pannuke: PanNuke
) -> None:
    change(pannuke)
    assert said in pannuke_refusal(pannuke)


def test_a_folder_without_folds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TissuesegError, match="holds no fold"):
        PanNukeSource(tmp_path)
    with pytest.raises(TissuesegError, match=r"source\.mpp=None, wanted µm per pixel"):
        PanNukeSource(tmp_path, mpp=None)  # pyright: ignore[reportArgumentType]
