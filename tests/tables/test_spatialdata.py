"""SpatialData views and exports, where the library is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from stores import CLASSES, random_tissue, whole, write_store

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter
from tissueseg.tables.spatialdata import spatial_view, write_spatialdata

sd = pytest.importorskip("spatialdata")

pytestmark = pytest.mark.filterwarnings("ignore")  # its libraries warn one another


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    """Tissue a has cells of unknown class, c has none at all."""
    a, b = random_tissue(64, 72), random_tissue(40, 48, seed=1)
    a = a._replace(classes=np.where(np.isin(a.instances, [2, 3]), IGNORE, a.classes))
    nothing = np.zeros((40, 48), np.int32)
    c = random_tissue(40, 48, seed=2, instances=nothing, classes=nothing)
    path = tmp_path_factory.mktemp("spatial") / "cohort.zarr"
    return write_store(path, {"a": a, "b": b, "c": c})


@pytest.fixture(scope="module")
def written(store: TissueStore, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = write_spatialdata(store, tmp_path_factory.mktemp("out"))
    assert path.name == "cohort.spatialdata.zarr"
    return sd.read_zarr(path)


@pytest.fixture(params=["view", "written"])
def data(request: pytest.FixtureRequest, store: TissueStore) -> Any:
    return spatial_view(store) if request.param == "view" else request.getfixturevalue("written")


def test_images_and_labels_are_the_store_s(store: TissueStore, data: Any) -> None:
    kinds = ("he", "sp", "instances", "classes")
    assert set(data.images) | set(data.labels) == {f"{t}_{kind}" for t in "abc" for kind in kinds}
    for tissue in "abc":
        for kind in kinds:
            found = np.asarray(data[f"{tissue}_{kind}"])
            np.testing.assert_array_equal(found, whole(store, tissue, kind))
    assert data["a_sp"].coords["c"].values.tolist() == ["DAPI", "CD3"]
    assert data["a_he"].coords["c"].values.tolist() == ["red", "green", "blue"]


def test_each_tissue_has_a_coordinate_system_in_um(data: Any) -> None:
    assert sorted(data.coordinate_systems) == ["a", "b", "c"]
    for name in ("a_he", "a_sp", "a_instances", "a_classes"):
        place = sd.transformations.get_transformation(data[name], get_all=True)
        assert list(place) == ["a"]
        matrix = place["a"].to_affine_matrix(("y", "x"), ("y", "x"))
        np.testing.assert_array_equal(matrix, np.diag([0.5, 0.5, 1]))


def test_table_has_a_row_per_cell_that_annotates_its_label(store: TissueStore, data: Any) -> None:
    instances, classes = whole(store, "a", "instances"), whole(store, "a", "classes")
    table = data["a_cells"]
    assert table.obs["instance_id"].tolist() == np.unique(instances[instances > 0]).tolist()
    for i, (_, row) in enumerate(table.obs.iterrows()):
        inside = instances == row["instance_id"]
        found = classes[inside][0]
        assert row["class"] == CLASSES[found].name if found != IGNORE else row.isna()["class"]
        assert row["area_um2"] == inside.sum() * 0.25
        y, x = (np.argwhere(inside).mean(axis=0) + 0.5) * 0.5
        np.testing.assert_allclose(table.obsm["spatial"][i], [x, y])
    assert table.obs["class"].isna().sum() == np.isin([2, 3], instances).sum()
    assert table.uns["spatialdata_attrs"]["region"] == "a_instances"
    assert list(table.uns["class_colors"]) == ["#ff0000", "#00ff00"]
    matched, _ = sd.match_element_to_table(data, "a_instances", "a_cells")
    assert list(matched) == ["a_instances"]


def test_centroids_are_spatialdata_s_own(data: Any) -> None:
    own = sd.get_centroids(data["b_instances"], coordinate_system="b").compute()
    own = own.loc[data["b_cells"].obs["instance_id"], ["x", "y"]]
    np.testing.assert_allclose(data["b_cells"].obsm["spatial"], own.to_numpy())


def test_tissue_without_cells_has_no_table(data: Any) -> None:
    assert sorted(data.tables) == ["a_cells", "b_cells"]


def test_view_reads_no_image(store: TissueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = zarr.Array.__getitem__

    def traced(self: zarr.Array, selection: Any) -> Any:
        found = plain(self, selection)
        if np.size(found):  # dask asks for nothing of an array to see of which kind it is
            read.append(str(self.store_path))
        return found

    monkeypatch.setattr(zarr.Array, "__getitem__", traced)
    view = spatial_view(store, ["b"])
    assert {path.rsplit("/", 2)[-2] for path in read} == {"instances", "classes"}
    read.clear()
    assert np.asarray(view["b_he"]).shape == (3, 40, 48)
    assert {path.rsplit("/", 2)[-2] for path in read} == {"he"}


def test_some_tissues_of_unknown_scale_are_in_pixels(tmp_path: Path) -> None:
    with TissueWriter(tmp_path / "s.zarr", mpp=None, classes=CLASSES, images=("he",)) as writer:
        for name in ("a", "b"):
            writer.add(name, random_tissue(40, 48, sp=None))
    view = spatial_view(TissueStore(tmp_path / "s.zarr"), ["b"])
    assert sorted(view.images) == ["b_he"]
    matrix = sd.transformations.get_transformation(view["b_he"], "b").to_affine_matrix(
        ("x",), ("x",)
    )
    assert matrix.tolist() == [[1, 0], [0, 1]]
    assert view["b_cells"].obs["area_px"].tolist() == [36] * 15


def test_names_that_spatialdata_cannot_hold_are_refused(tmp_path: Path) -> None:
    for number, names in enumerate((("core 1",), ("A", "a"))):
        tissues = {name: random_tissue(40, 48) for name in names}
        store = write_store(tmp_path / f"{number}.zarr", tissues)
        with pytest.raises(TissueDataError, match=rf"tissue '{names[0]}': spatialdata takes names"):
            spatial_view(store)


def test_unknown_tissue_is_refused(store: TissueStore) -> None:
    with pytest.raises(ConfigError, match=r"tissues=\['x'\]"):
        spatial_view(store, ["x"])


def test_only_spatialdata_is_overwritten(store: TissueStore, tmp_path: Path) -> None:
    path = write_spatialdata(store, tmp_path, ["a"])
    with pytest.raises(TissueDataError, match="exists already"):
        write_spatialdata(store, tmp_path, ["b"])
    assert write_spatialdata(store, tmp_path, ["b"], overwrite=True) == path
    assert sorted(sd.read_zarr(path).tables) == ["b_cells"]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    foreign = tmp_path / "other" / path.name
    foreign.mkdir(parents=True)
    with pytest.raises(TissueDataError, match="not made by this export"):
        write_spatialdata(store, foreign.parent, overwrite=True)
