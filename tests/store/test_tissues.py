"""The tissue store: what goes in comes out, in any process, whole or not at all."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ome_zarr_models.v05 import Image, ImageLabel, Labels

from tissueseg.contracts import Channel, Modality, TissueClass
from tissueseg.errors import SpecMismatchError, StoreNotFoundError, TissueDataError
from tissueseg.store.planes import Tissue, Window
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter

HEIGHT, WIDTH = 300, 270  # more than a chunk each way


@pytest.fixture
def write(
    tmp_path: Path, classes: Sequence[TissueClass], panel: Sequence[Channel]
) -> Callable[..., TissueStore]:
    def store(tissues: dict[str, Tissue], **changes: Any) -> TissueStore:
        given = {"mpp": 0.5, "classes": classes, "panel": panel} | changes
        with TissueWriter(tmp_path / "s.zarr", **given) as writer:
            for name, tissue in tissues.items():
                writer.add(name, tissue)
        return TissueStore(tmp_path / "s.zarr")

    return store


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[TissueStore, Tissue]:
    rng = np.random.default_rng(0)
    tissue = Tissue(
        instances=rng.integers(0, 2**31 - 1, (HEIGHT, WIDTH), np.int64),
        classes=np.ones((HEIGHT, WIDTH), np.uint8),
        he=rng.integers(0, 256, (3, HEIGHT, WIDTH), np.uint8),
        sp=rng.random((2, HEIGHT, WIDTH), np.float32),
    )
    table = (TissueClass(0, "background", "#000000"), TissueClass(1, "cell", "#ff0000"))
    path = tmp_path_factory.mktemp("large") / "s.zarr"
    channels = (Channel("DAPI"), Channel("CD3"))
    with TissueWriter(path, mpp=0.5, classes=table, panel=channels) as writer:
        writer.add("t", tissue)
    return TissueStore(path), tissue


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_windows_are_what_went_in(large: tuple[TissueStore, Tissue], data: st.DataObject) -> None:
    store, tissue = large
    y, x = data.draw(st.integers(0, HEIGHT - 1)), data.draw(st.integers(0, WIDTH - 1))
    window = Window(
        y, x, data.draw(st.integers(1, HEIGHT - y)), data.draw(st.integers(1, WIDTH - x))
    )
    inside = np.s_[..., y : y + window.height, x : x + window.width]
    parts = {"he": tissue.he, "sp": tissue.sp, "labels/instances": tissue.instances}
    for array, whole in (parts | {"labels/classes": tissue.classes}).items():
        assert whole is not None
        np.testing.assert_array_equal(store.read("t", array, window), whole[inside])


def test_index_says_what_is_there(
    write: Callable[..., TissueStore], make_tissue: Callable[..., Tissue]
) -> None:
    tissue = make_tissue(patient="p1", split="fold2")
    store = write({"b": tissue, "a": make_tissue(32, 24)})
    assert store.tissues == ("a", "b")
    assert store.entry("b")[:4] == ("b", "p1", 40, 48)
    assert store.digests(["b"]) == {"b": store.entry("b").digest}
    assert store.entry("a").patient == "a"
    assert (store.mpp, store.images) == (0.5, ("he", "sp"))
    assert [c.name for c in store.classes] == ["background", "tumor", "immune"]
    assert store.panel == (Channel("DAPI", "P68431", True), Channel("CD3", "P07766"))
    assert [store.image_channels(m) for m in Modality] == [3, 2, 5]
    assert (store.entry("a").split, store.entry("b").split) == (None, "fold2")
    np.testing.assert_array_equal(store.class_pixels(["b"]), np.bincount(tissue.classes.ravel()))


def test_store_without_a_modality_refuses_it(
    write: Callable[..., TissueStore], make_tissue: Callable[..., Tissue]
) -> None:
    store = write({"a": make_tissue(sp=None)}, images=("he",), panel=())
    store.require(Modality.HE)
    with pytest.raises(SpecMismatchError, match=r"modality=he_sp needs \['sp'\]"):
        store.require(Modality.HE_SP)


def _sum(store: TissueStore) -> int:
    return int(store.read("t", "he", Window(0, 0, 50, 50)).sum())


@pytest.mark.parametrize("start", ["forkserver", "spawn"])
def test_pickled_store_reads_in_another_process(
    large: tuple[TissueStore, Tissue], start: str
) -> None:
    store = large[0]
    wanted = _sum(store)  # handles are open now
    assert _sum(pickle.loads(pickle.dumps(store))) == wanted
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(_sum, store).result(timeout=60) == wanted


def test_store_notices_that_it_was_forked(
    large: tuple[TissueStore, Tissue], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = large[0]
    _sum(store)
    before = store._handle("t", "he")
    monkeypatch.setattr("os.getpid", lambda: -1)  # as in a child
    assert store._handle("t", "he") is not before


def test_metadata_is_valid_ngff(
    write: Callable[..., TissueStore], make_tissue: Callable[..., Tissue]
) -> None:
    group = zarr.open_group(write({"a": make_tissue()}).path / "a", mode="r")
    for kind, channels in (("he", 3), ("sp", 2)):
        image = Image.from_zarr(group[kind])  # pyright: ignore[reportArgumentType]
        assert [axis.name for axis in image.ome_attributes.multiscales[0].axes] == ["c", "y", "x"]
        assert len(group[kind].attrs["ome"]["omero"]["channels"]) == channels  # type: ignore[index]
    labels = Labels.from_zarr(group["labels"])  # pyright: ignore[reportArgumentType]
    assert sorted(labels.ome_attributes.labels) == ["classes", "instances"]
    for kind in labels.ome_attributes.labels:
        ImageLabel.from_zarr(group[f"labels/{kind}"])  # pyright: ignore[reportArgumentType]


def test_missing_path_and_foreign_folders_are_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    zarr.open_group(tmp_path / "foreign.zarr", mode="w")
    with pytest.raises(StoreNotFoundError, match="does not exist"):
        TissueStore(tmp_path / "none.zarr")
    for name in ("file", "folder", "foreign.zarr"):
        with pytest.raises(StoreNotFoundError, match=f"{name} is not a tissue store"):
            TissueStore(tmp_path / name)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_interrupted_writer_leaves_nothing(
    error: type[BaseException],
    write: Callable[..., TissueStore],
    make_tissue: Callable[..., Tissue],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add = TissueWriter.add

    def fail(self: TissueWriter, name: str, tissue: Tissue) -> None:
        add(self, name, tissue)
        raise error

    monkeypatch.setattr(TissueWriter, "add", fail)
    with pytest.raises(error):
        write({"a": make_tissue()})
    assert list(tmp_path.iterdir()) == []


def test_existing_store_is_kept_unless_told(
    write: Callable[..., TissueStore], make_tissue: Callable[..., Tissue], tmp_path: Path
) -> None:
    write({"old": make_tissue()})
    with pytest.raises(TissueDataError, match="exists already"):
        write({"new": make_tissue()})
    with pytest.raises(TissueDataError, match="class mask"):
        write(
            {"new": make_tissue(), "bad": make_tissue(classes=np.full((40, 48), 9))}, overwrite=True
        )
    assert TissueStore(tmp_path / "s.zarr").tissues == ("old",)
    assert write({"new": make_tissue()}, overwrite=True).tissues == ("new",)
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


def test_only_stores_are_overwritten(
    write: Callable[..., TissueStore], make_tissue: Callable[..., Tissue], tmp_path: Path
) -> None:
    precious = tmp_path / "s.zarr" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years")
    with pytest.raises(TissueDataError, match="not a tissue store, so it is not overwritten"):
        write({"a": make_tissue()}, overwrite=True)
    assert precious.read_text() == "years"


def test_writer_refuses_names_and_emptiness(
    write: Callable[..., TissueStore], make_tissue: Callable[..., Tissue], tmp_path: Path
) -> None:
    for name in ("", "a/b", ".a", "_a"):
        with pytest.raises(TissueDataError, match="rename it"):
            write({name: make_tissue()})
    with pytest.raises(TissueDataError, match="the source is empty"):
        write({})
    assert list(tmp_path.iterdir()) == []


def test_tissue_name_cannot_come_twice(
    tmp_path: Path,
    classes: Sequence[TissueClass],
    panel: Sequence[Channel],
    make_tissue: Callable[..., Tissue],
) -> None:
    with TissueWriter(tmp_path / "s.zarr", mpp=1.0, classes=classes, panel=panel) as writer:
        writer.add("a", make_tissue())
        with pytest.raises(TissueDataError, match="'a' is taken"):
            writer.add("a", make_tissue())
    assert TissueStore(tmp_path / "s.zarr").tissues == ("a",)


def test_parent_that_is_a_file_is_one_line(tmp_path: Path, classes: Sequence[TissueClass]) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(TissueDataError, match=r"cannot write a store at .*file") as caught,
        TissueWriter(tmp_path / "file" / "s.zarr", mpp=1.0, classes=classes),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": None},
        {"tissues": 3},
        {"tissues": []},
        {"tissues": [["a", "p"]]},
        {"tissues": [["../up", "p", 40, 48, "0"]]},
        {"classes": [{"id": 0}]},
        {"panel": 7},
        {"mpp": ...},
    ],
)
def test_a_damaged_index_is_one_line(
    change: dict[str, Any], write: Callable[..., TissueStore], make_tissue: Callable[..., Tissue]
) -> None:
    path = write({"a": make_tissue()}).path
    root = zarr.open_group(path, mode="r+")
    stored: Any = dict(root.attrs["tissueseg"])  # type: ignore[arg-type]
    stored |= change
    root.attrs["tissueseg"] = {key: value for key, value in stored.items() if value is not ...}
    with pytest.raises(StoreNotFoundError, match=r"is damaged|has schema None") as caught:
        TissueStore(path)
    assert "\n" not in str(caught.value)


def test_a_store_replaced_under_its_reader_is_told(
    write: Callable[..., TissueStore], make_tissue: Callable[..., Tissue]
) -> None:
    reader = write({"a": make_tissue()})
    reader.read("a", "he", Window(0, 0, 4, 4))
    write({"a": make_tissue(seed=1)}, overwrite=True)
    with pytest.raises(StoreNotFoundError, match="was replaced or removed while it was being read"):
        reader.read("a", "he", Window(0, 0, 4, 4))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"attributes": {}}', '{"attributes": []}'])
def test_damaged_attributes_are_one_line(
    content: str, write: Callable[..., TissueStore], make_tissue: Callable[..., Tissue]
) -> None:
    store = write({"a": make_tissue(), "b": make_tissue()})
    (store.path / "a/zarr.json").write_text(content)
    with pytest.raises(StoreNotFoundError, match="tissue a has no attributes") as caught:
        store.attributes("a")
    assert "\n" not in str(caught.value)
    assert store.attributes("b")["class_pixels"]


def test_a_store_knows_the_names_it_holds(
    write: Callable[..., TissueStore], make_tissue: Callable[..., Tissue]
) -> None:
    store = write({"a": make_tissue(), "b": make_tissue()})
    assert [name in store for name in ("a", "b", "c", "")] == [True, True, False, False]
