"""Tissues that nobody labelled, beside those that somebody did."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from sources import MemorySource
from stores import CLASSES, PANEL, random_tissue, whole, write_store

from tissueseg.contracts import IGNORE, Modality
from tissueseg.errors import TissueDataError
from tissueseg.store import layout
from tissueseg.store.conversion import convert
from tissueseg.store.planes import Planes, Tissue, Window
from tissueseg.store.shaping.class_map import ClassMap, MappedSource
from tissueseg.store.shaping.resampling import ResampledSource
from tissueseg.store.tile_counts import TileCounts, TileRaster
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter


def bare(height: int = 64, width: int = 64, seed: int = 0) -> Tissue:
    return random_tissue(height, width, seed, instances=None, classes=None)


@pytest.fixture
def mixed(tmp_path: Path) -> TissueStore:
    tissues = {"bare": bare(300, 280), "known": random_tissue(300, 280, 1)}
    return write_store(tmp_path / "s.zarr", tissues)


def test_the_index_tells_which_tissues_have_labels(mixed: TissueStore) -> None:
    assert mixed.unlabelled == ("bare",)
    assert (mixed.labelled("bare"), mixed.labelled("known")) == (False, True)


def test_masks_that_nobody_made_read_as_unknown_and_take_no_space(mixed: TissueStore) -> None:
    assert not whole(mixed, "bare", "instances").any()
    assert (whole(mixed, "bare", "classes") == IGNORE).all()
    np.testing.assert_array_equal(whole(mixed, "bare", "he"), bare(300, 280).he)
    files = [p for p in (mixed.path / "bare/labels").rglob("*") if p.is_file()]
    assert {p.name for p in files} == {"zarr.json"}
    for array in (layout.INSTANCES, layout.CLASSES):
        assert mixed.array_type("bare", array) == mixed.array_type("known", array)
    mixed.check_arrays(mixed.tissues, Modality.HE_SP)


def test_nothing_is_counted_of_labels_that_are_not_there(mixed: TissueStore) -> None:
    known = mixed.attributes("bare")
    assert set(known["digests"]) == {"he", "sp"}
    assert known["class_pixels"] == [0] * len(CLASSES)
    assert known["instances_per_class"] == [0] * (len(CLASSES) + 1)
    assert [s["quantiles"] for s in known["statistics"]]
    counts = TileCounts(mixed).of("bare", TileRaster([0, 100], [0], 128))
    assert not counts.any()


def test_labelled_tissues_are_indexed_as_before(mixed: TissueStore) -> None:
    """So that readers of earlier stores and versions meet nothing new in them."""
    index = zarr.open_group(mixed.path, mode="r").attrs[layout.ATTRIBUTE]["tissues"]  # pyright: ignore
    assert [len(entry) for entry in index] == [7, 6]
    assert TissueStore(mixed.path).entry("known").labelled


def test_labels_are_part_of_the_digest(tmp_path: Path) -> None:
    nothing = np.zeros((64, 64), np.uint8)
    empty = random_tissue(instances=nothing, classes=nothing + IGNORE)
    store = write_store(tmp_path / "s.zarr", {"bare": bare(), "empty": empty})
    digests = store.digests()
    assert digests["bare"] != digests["empty"]
    assert store.labelled("empty")


def test_windows_of_one_tissue_agree_on_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "SHARD_PX", 256)

    tissue = random_tissue(64, 300)

    class Forgetful(Tissue):
        def read(self, window: Window) -> Planes:
            planes = super().read(window)
            return planes if window.x == 0 else planes._replace(instances=None, classes=None)

    lazy = Forgetful(*tissue)
    with pytest.raises(TissueDataError, match=r"t: some windows have labels and others have none"):
        write_store(tmp_path / "s.zarr", {"t": lazy})


@pytest.mark.parametrize("lacking", ["instances", "classes"])
def test_one_mask_alone_is_refused(tmp_path: Path, lacking: str) -> None:
    with pytest.raises(TissueDataError, match=f"but no {lacking[:5]}"):
        write_store(tmp_path / "s.zarr", {"t": random_tissue(**{lacking: None})})


def test_an_interrupted_writer_remembers_what_has_no_labels(tmp_path: Path) -> None:
    class Broken(MemorySource):
        def open(self, tissue: str) -> Tissue:
            if tissue == "b":
                raise TissueDataError("gone")
            return super().open(tissue)

    made = {"a": bare(), "b": random_tissue()}
    with pytest.raises(TissueDataError, match="gone"):
        convert(Broken(made), tmp_path / "s.zarr")
    source = MemorySource({"a": random_tissue(), "b": random_tissue()})  # a is not read again
    assert convert(source, tmp_path / "s.zarr").unlabelled == ("a",)


def test_images_are_resampled_without_labels_as_with_them(tmp_path: Path) -> None:
    wanted = random_tissue(100, 90)
    source = MemorySource({"bare": bare(100, 90), "known": wanted}, {"bare": 0.5, "known": 0.5})
    store = convert(ResampledSource(source, 0.8), tmp_path / "s.zarr")
    assert store.unlabelled == ("bare",)
    for image in ("he", "sp"):
        np.testing.assert_array_equal(whole(store, "bare", image), whole(store, "known", image))
    assert store.attributes("bare")["notices"] == {"resampled from 0.5 to 0.8 µm/px": 1}


def test_blocks_of_a_resampled_window_are_joined_without_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = ResampledSource(MemorySource({"t": bare(900, 800)}, {"t": 0.5}), 0.6)
    lazy = source.open("t")
    at_once = lazy.read(Window(0, 0, *lazy.shape))
    monkeypatch.setattr("tissueseg.store.shaping.resampling._BLOCK_BYTES", 2**21)
    joined = source.open("t").read(Window(0, 0, *lazy.shape))
    assert joined.instances is None
    np.testing.assert_array_equal(joined.he, at_once.he)
    np.testing.assert_array_equal(joined.sp, at_once.sp)


def test_classes_are_mapped_where_there_are_any(tmp_path: Path) -> None:
    source = MemorySource({"bare": bare(), "known": random_tissue()}, classes=CLASSES, panel=PANEL)
    mapped = MappedSource(source, ClassMap.parse({"drop": ["immune"]}, "class_map"))
    store = convert(mapped, tmp_path / "s.zarr")
    assert [c.name for c in store.classes] == ["background", "tumor"]
    assert store.unlabelled == ("bare",)
    assert store.attributes("bare")["notices"] == {}


def test_a_store_without_any_label_has_classes_to_speak_of(tmp_path: Path) -> None:
    with TissueWriter(tmp_path / "s.zarr", mpp=None, classes=CLASSES, panel=PANEL) as writer:
        writer.add("bare", bare())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store = TissueStore(tmp_path / "s.zarr")
    assert store.class_pixels(store.tissues).tolist() == [0] * len(CLASSES)
