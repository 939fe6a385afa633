"""OME-Zarr exports: pyramids pixel by pixel, what viewers read of them, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05 import Image, ImageLabel, Labels
from stores import CLASSES, random_tissue, whole, write_store

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store import layout
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter
from tissueseg.tables import ngff
from tissueseg.tables.ngff import area_mean, every_second, write_ngff

HEIGHT, WIDTH = 1030, 777  # odd on the way: 515 × 389, 258 × 195


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    """One tissue of many small shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SHARD_PX", layout.CHUNK_PX)
        path = tmp_path_factory.mktemp("ngff") / "cohort.zarr"
        return write_store(path, {"t1": random_tissue(HEIGHT, WIDTH, patient="p1")})


@pytest.fixture(scope="module")
def exported(store: TissueStore, tmp_path_factory: pytest.TempPathFactory) -> zarr.Group:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SHARD_PX", layout.CHUNK_PX)
        path = write_ngff(store, "t1", tmp_path_factory.mktemp("out"))
    assert path.name == "t1.ome.zarr"
    return zarr.open_group(path, mode="r")


def pixels(group: zarr.Group, path: str) -> np.ndarray:
    return np.asarray(zarr.open_array(group.store, path=path, mode="r")[...])


def group_at(group: zarr.Group, path: str) -> Any:
    return group[path]


def mean_of_what_there_is(image: np.ndarray) -> np.ndarray:
    """2 × 2 means from sums and counts, written apart from the code they check."""
    rows, columns = (np.arange(0, length, 2) for length in image.shape[-2:])
    sums, counts = (
        np.add.reduceat(np.add.reduceat(array, rows, axis=-2), columns, axis=-1)
        for array in (image.astype(np.float64), np.ones(image.shape))
    )
    return np.rint(sums / counts).astype(image.dtype)


def test_mean_of_four_pixels_by_hand() -> None:
    image = np.array([[1, 2, 3], [4, 6, 8], [10, 21, 31]], np.uint8)
    np.testing.assert_array_equal(area_mean(image), [[3, 6], [16, 31]])  # 3.25, 5.5, 15.5, 31
    assert area_mean(np.full((2, 2), 65535, np.uint16)).tolist() == [[65535]]
    halves = area_mean(np.array([[0.5, 1.0], [0.0, 1.0]], np.float32))
    assert (halves.dtype, halves.tolist()) == (np.float32, [[0.625]])


def test_labels_are_never_mixed() -> None:
    labels = np.array([[7, 0, 9], [7, 7, 9], [0, 0, 5]], np.int32)
    assert every_second(labels).tolist() == [[7, 9], [0, 5]]


@pytest.mark.parametrize("kind", ["he", "sp"])
def test_every_image_level_is_the_mean_of_the_one_before(
    kind: str, store: TissueStore, exported: zarr.Group
) -> None:
    level = whole(store, "t1", kind)
    for path, size in (("0", (1030, 777)), ("1", (515, 389)), ("2", (258, 195))):
        found = pixels(exported, f"{kind}/{path}")
        assert found.shape[1:] == size
        np.testing.assert_array_equal(found, level)
        level = mean_of_what_there_is(level)
    assert sorted(group_at(exported, kind).keys()) == ["0", "1", "2", "labels"]


@pytest.mark.parametrize("image", ["he", "sp"])
@pytest.mark.parametrize("kind", ["instances", "classes"])
def test_labels_stand_below_both_images_at_every_level(
    image: str, kind: str, store: TissueStore, exported: zarr.Group
) -> None:
    full = whole(store, "t1", kind)
    for level in range(3):
        found = pixels(exported, f"{image}/labels/{kind}/{level}")
        np.testing.assert_array_equal(found, full[:: 2**level, :: 2**level])
        assert found.dtype == full.dtype


def test_metadata_is_valid_ngff_and_says_scale_names_and_colours(exported: zarr.Group) -> None:
    for kind, names, ends in (
        ("he", ["red", "green", "blue"], 255.0),
        ("sp", ["DAPI", "CD3"], None),
    ):
        image = Image.from_zarr(group_at(exported, kind)).ome_attributes
        datasets = image.multiscales[0].datasets
        scales = [d.coordinateTransformations[0].scale for d in datasets]  # type: ignore[union-attr]
        assert scales == [[1, 0.5, 0.5], [1, 1.0, 1.0], [1, 2.0, 2.0]]
        assert [len(d.coordinateTransformations) for d in datasets] == [1, 1, 1]
        assert image.multiscales[0].axes[1].unit == "micrometer"
        shown: Any = group_at(exported, kind).attrs["ome"]["omero"]["channels"]
        assert [c["label"] for c in shown] == names
        assert all(c["window"]["end"] == (ends or pytest.approx(3995, abs=5)) for c in shown)
        labels = Labels.from_zarr(group_at(exported, f"{kind}/labels"))
        assert sorted(labels.ome_attributes.labels) == ["classes", "instances"]
        for name in labels.ome_attributes.labels:
            ImageLabel.from_zarr(group_at(exported, f"{kind}/labels/{name}"))
        label = group_at(exported, f"{kind}/labels/classes").attrs["ome"]["image-label"]
        assert label["source"] == {"image": "../../"}
        assert [c["class"] for c in label["properties"]] == [c.name for c in CLASSES]
        assert label["colors"][1] == {"label-value": 1, "rgba": [255, 0, 0, 255]}


def test_export_says_where_it_comes_from(store: TissueStore, exported: zarr.Group) -> None:
    digest = store.entry("t1").digest
    known = {"export": "ngff", "tissue": "t1", "patient": "p1", "digest": digest}
    assert exported.attrs[layout.ATTRIBUTE] == known


def test_chunks_hold_one_channel(exported: zarr.Group) -> None:
    array = group_at(exported, "sp/0")
    assert (array.chunks, array.shards) == ((1, 256, 256), (1, 256, 256))


def test_no_read_is_larger_than_a_window(
    store: TissueStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, int]] = []
    plain = zarr.Array.__getitem__

    def traced(self: zarr.Array, selection: Any) -> Any:
        found = plain(self, selection)
        read.append((str(self.store_path), np.asarray(found).size))
        return found

    monkeypatch.setattr(layout, "SHARD_PX", layout.CHUNK_PX)
    monkeypatch.setattr(zarr.Array, "__getitem__", traced)
    write_ngff(store, "t1", tmp_path)
    assert max(size for _, size in read) == 4 * 256 * 256  # of one channel; an image has 2 and 3
    from_store = [size for path, size in read if "cohort.zarr" in path]
    assert max(from_store) == 3 * 256 * 256
    assert sum(from_store) == (3 + 2 + 1 + 1) * HEIGHT * WIDTH  # each pixel once


@pytest.mark.parametrize(
    ("size", "levels"), [((512, 40), 1), ((513, 40), 2), ((40, 1024), 2), ((40, 1025), 3)]
)
def test_pyramids_end_at_512_px(size: tuple[int, int], levels: int, tmp_path: Path) -> None:
    store = write_store(tmp_path / "s.zarr", {"a": random_tissue(*size)})
    group = zarr.open_group(write_ngff(store, "a", tmp_path), mode="r")
    assert sorted(group_at(group, "he").array_keys()) == [str(i) for i in range(levels)]
    assert len(group_at(group, "he").attrs["ome"]["multiscales"][0]["datasets"]) == levels


def test_one_image_without_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngff, "LARGEST_PX", 30)
    with TissueWriter(tmp_path / "s.zarr", mpp=None, classes=CLASSES, images=("he",)) as writer:
        writer.add("a", random_tissue(60, 50, sp=None))
    path = write_ngff(TissueStore(tmp_path / "s.zarr"), "a", tmp_path / "out")
    group = zarr.open_group(path, mode="r")
    assert sorted(group.keys()) == ["he"]
    multiscale = group_at(group, "he").attrs["ome"]["multiscales"][0]
    assert multiscale["axes"][2] == {"name": "x", "type": "space"}
    assert multiscale["datasets"][1]["coordinateTransformations"][0]["scale"] == [1, 2, 2]


def test_a_tissue_that_is_not_there_is_refused(store: TissueStore, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tissues=\['t9'\]: .* holds tissue t1"):
        write_ngff(store, "t9", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small(tmp_path: Path) -> TissueStore:
    return write_store(tmp_path / "s.zarr", {"a": random_tissue(40, 48)})


def test_existing_export_is_replaced_only_when_told(
    small: TissueStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_ngff(small, "a", tmp_path / "out")
    with pytest.raises(TissueDataError, match=r"a\.ome\.zarr exists already: .*overwrite=true"):
        write_ngff(small, "a", tmp_path / "out")
    monkeypatch.setattr(ngff, "LARGEST_PX", 30)
    assert write_ngff(small, "a", tmp_path / "out", overwrite=True) == path
    assert (path / "he/1/zarr.json").is_file()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.ome.zarr"]


def test_what_is_no_export_is_never_replaced(small: TissueStore, tmp_path: Path) -> None:
    precious = tmp_path / "a.ome.zarr" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years")
    with pytest.raises(TissueDataError, match="not made by this export"):
        write_ngff(small, "a", tmp_path, overwrite=True)
    assert precious.read_text() == "years"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk is full")])
def test_interrupted_export_leaves_what_was_there(
    error: Any, small: TissueStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ngff(small, "a", tmp_path / "out")

    def fail(*_: Any) -> Callable[..., None]:
        raise error

    monkeypatch.setattr(ngff, "_write_labels", fail)
    wanted = TissueDataError if isinstance(error, OSError) else error
    with pytest.raises(wanted):
        write_ngff(small, "a", tmp_path / "out", overwrite=True)
    with pytest.raises(wanted):
        write_ngff(small, "a", tmp_path / "new/folder")
    assert not (tmp_path / "new").exists()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.ome.zarr"]
    assert (tmp_path / "out/a.ome.zarr/he/labels/classes/0/zarr.json").is_file()


def test_folder_that_is_a_file_is_one_line(small: TissueStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(TissueDataError, match=r"cannot write .*a\.ome\.zarr") as caught:
        write_ngff(small, "a", tmp_path / "file")
    assert "\n" not in str(caught.value)
