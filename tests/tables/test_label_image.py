"""Label images: what is painted is found again, at every level, by our readers and by NGFF's rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05 import ImageLabel, Labels
from stores import CLASSES

from tissueseg.errors import StoreNotFoundError, StoreWriteError, TissueDataError
from tissueseg.tables import label_image
from tissueseg.tables.label_image import LabelImage, read_labels

SHAPE = (1030, 777)  # odd on the way: 515 × 389, 258 × 195
MANY = 70_000


def squares(shape: tuple[int, int], first: int = 1) -> np.ndarray:
    """Cells of 6 px on a grid of 8 px, with ids from `first`."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    ids = rows // 8 * -(-shape[1] // 8) + columns // 8 + first
    return np.where((rows % 8 < 6) & (columns % 8 < 6), ids, 0).astype(np.uint32)


def types_of(labels: np.ndarray) -> np.ndarray:
    types = 1 + np.arange(int(labels.max()) + 1) % 2
    types[0] = 0
    return types


@pytest.fixture(scope="module")
def painted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """A folder with ids beyond 65 535, painted in blocks that no chunk is aligned to."""
    folder, labels = tmp_path_factory.mktemp("labels"), squares(SHAPE, MANY)
    made = LabelImage.create(folder, SHAPE, 0.5, CLASSES)
    for y in range(0, SHAPE[0], 300):
        for x in range(0, SHAPE[1], 300):
            window = np.s_[max(y - 20, 0) : y + 320, max(x - 20, 0) : x + 320]
            made.canvas[window] = np.maximum(np.asarray(made.canvas[window]), labels[window])
    made.finish(types_of(labels))
    return folder, labels


def test_every_level_is_every_second_pixel_of_what_was_painted(painted: Any) -> None:
    folder, labels = painted
    found = read_labels(folder)
    assert (found.mpp, len(found.instances), len(found.classes)) == (0.5, 3, 3)
    classes = types_of(labels)[labels]
    for level in range(3):
        wanted = np.s_[:: 2**level, :: 2**level]
        np.testing.assert_array_equal(found.instances[level][...], labels[wanted])
        np.testing.assert_array_equal(found.classes[level][...], classes[wanted])
    assert found.instances[0].dtype == np.uint32
    assert found.classes[0].dtype == np.uint8


def test_metadata_is_valid_ngff_with_scale_names_and_colours(painted: Any) -> None:
    root: Any = zarr.open_group(painted[0] / "labels.ome.zarr", mode="r")
    assert Labels.from_zarr(root).ome_attributes.labels == ["instances", "classes"]
    for name in ("instances", "classes"):
        datasets = ImageLabel.from_zarr(root[name]).ome_attributes.multiscales[0].datasets
        scales: list[Any] = [d.coordinateTransformations[0] for d in datasets]
        assert [s.scale for s in scales] == [[0.5, 0.5], [1.0, 1.0], [2.0, 2.0]]
        assert root[name].attrs["ome"]["multiscales"][0]["axes"][0]["unit"] == "micrometer"
    label = root["classes"].attrs["ome"]["image-label"]
    assert [c["class"] for c in label["properties"]] == [c.name for c in CLASSES]
    assert label["colors"][1] == {"label-value": 1, "rgba": [255, 0, 0, 255]}
    assert "source" not in label


@settings(deadline=None, max_examples=8)
@given(
    shape=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    window=st.integers(1, 40).map(lambda half: 2 * half),
)
def test_windows_leave_no_trace(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int], window: int
) -> None:
    folder, labels = tmp_path_factory.mktemp("any"), squares(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_image, "WINDOW_PX", window)
        made = LabelImage.create(folder, shape, None, CLASSES)
        made.canvas[...] = labels
        made.finish(types_of(labels))
    found = read_labels(folder)
    np.testing.assert_array_equal(found.classes[0][...], types_of(labels)[labels])
    assert found.mpp is None


def test_no_read_is_larger_than_a_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = zarr.Array.__getitem__

    def traced(self: zarr.Array, selection: Any) -> Any:
        found = plain(self, selection)
        sizes.append(np.asarray(found).size)
        return found

    made = LabelImage.create(tmp_path, SHAPE, 0.5, CLASSES)
    made.canvas[:8, :8] = 1
    monkeypatch.setattr(label_image, "WINDOW_PX", 256)
    monkeypatch.setattr(label_image, "SHARD_PX", 128)
    monkeypatch.setattr(zarr.Array, "__getitem__", traced)
    made.finish(np.array([0, 1]))
    assert max(sizes) == 256 * 256
    assert sum(sizes) < 4 * SHAPE[0] * SHAPE[1]  # once for types, 4/3 for each pyramid


def test_a_tissue_without_cells_has_empty_labels(tmp_path: Path) -> None:
    LabelImage.create(tmp_path, (600, 40), 0.5, CLASSES).finish(np.zeros(1, np.int64))
    found = read_labels(tmp_path)
    assert len(found.instances) == 2
    assert not np.asarray(found.instances[1]).any()
    assert not np.asarray(found.classes[0]).any()


def test_unfinished_labels_are_not_read_but_painted_anew(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFoundError, match="no label image at"):
        read_labels(tmp_path)
    LabelImage.create(tmp_path, (40, 40), 0.5, CLASSES).canvas[:5, :5] = 9
    with pytest.raises(TissueDataError, match="unfinished"):
        read_labels(tmp_path)
    made = LabelImage.create(tmp_path, (40, 40), 0.5, CLASSES)
    assert not np.asarray(made.canvas).any()
    made.finish(np.zeros(1, np.uint8))
    with pytest.raises(TissueDataError, match="exists already"):
        LabelImage.create(tmp_path, (40, 40), 0.5, CLASSES)


def test_what_is_no_label_image_is_never_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "labels.ome.zarr" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years")
    with pytest.raises(TissueDataError, match="exists already"):
        LabelImage.create(tmp_path, (40, 40), 0.5, CLASSES)
    assert precious.read_text() == "years"


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreWriteError, match=r"cannot write .*labels\.ome\.zarr") as caught:
        LabelImage.create(tmp_path / "file", (40, 40), 0.5, CLASSES)
    assert "\n" not in str(caught.value)
