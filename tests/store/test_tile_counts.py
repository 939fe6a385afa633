"""Counts of tiles: what a plain count of every tile gives, kept once, and never believed blindly."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import zarr
from file_server import serving
from stores import CLASSES, random_tissue, whole, write_store

from tissueseg.contracts import IGNORE
from tissueseg.store import tile_counts
from tissueseg.store.planes import Window
from tissueseg.store.tile_counts import FOLDER, TileCounts, TileRaster
from tissueseg.store.tissues import TissueStore

RASTERS = {
    "pad": TileRaster([0, 32, 64], [0, 32, 64], 32),
    "shift": TileRaster([0, 32, 38], [0, 32, 55], 32),
    "overlapping": TileRaster([0, 7, 8, 40], [0, 1, 2, 80], 24),
    "wider than the tissue": TileRaster([0], [0], 128),
    "one pixel": TileRaster([0, 5], [69, 0], 1),
    "none": TileRaster([], [], 128),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tissue = random_tissue(70, 87, 3)
    classes = tissue.classes.copy()
    classes[10:30, 20:60] = IGNORE  # cells among them have no type
    path = tmp_path_factory.mktemp("counts") / "s.zarr"
    return write_store(path, {"a": tissue._replace(classes=classes)}).path


@pytest.fixture
def store(made: Path, tmp_path: Path) -> TissueStore:
    return TissueStore(shutil.copytree(made, tmp_path / "s.zarr"))


def plainly(store: TissueStore, raster: TileRaster, tissue: str = "a") -> np.ndarray:
    """The same, tile by tile."""
    classes, instances = (whole(store, tissue, array) for array in ("classes", "instances"))
    rows = []
    for y in raster.rows:
        for x in raster.columns:
            tile = slice(y, y + raster.tile_px), slice(x, x + raster.tile_px)
            of_classes = [(classes[tile] == c.id).sum() for c in store.classes]
            rows.append([*of_classes, (instances[tile] > 0).sum()])
    return np.array(rows, np.int32).reshape(-1, len(store.classes) + 1)


def as_npy(array: np.ndarray) -> bytes:
    file = BytesIO()
    np.save(file, array)
    return file.getvalue()


def kept(store: TissueStore) -> list[Path]:
    return sorted((store.path / FOLDER).glob("*.npz"))


@pytest.fixture
def no_masks(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, whoever reads a mask fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("a mask is read")

    return lambda: monkeypatch.setattr(TissueStore, "read", refuse)


@pytest.mark.parametrize("raster", RASTERS.values(), ids=RASTERS)
@pytest.mark.parametrize("shard", [(256, 256), (16, 32), (7, 5)])
def test_counts_are_those_of_every_tile_by_itself_whatever_the_windows(
    store: TissueStore,
    raster: TileRaster,
    shard: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TissueStore, "shard_px", lambda *_: shard)
    counts = TileCounts(store).of("a", raster)
    assert counts.dtype == np.int32
    np.testing.assert_array_equal(counts, plainly(store, raster))


def test_every_pixel_is_read_once(store: TissueStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TissueStore, "shard_px", lambda *_: (32, 32))
    read, seen = TissueStore.read, []

    def remember(store: TissueStore, tissue: str, array: str, window: Window) -> np.ndarray:
        seen.append((array, window))
        return read(store, tissue, array, window)

    monkeypatch.setattr(TissueStore, "read", remember)
    TileCounts(store).of("a", RASTERS["overlapping"])
    assert len(set(seen)) == len(seen) == 2 * 9
    assert sum(window.height * window.width for _, window in seen) == 2 * 70 * 87


def test_what_was_counted_once_is_kept(store: TissueStore, no_masks: Callable[[], None]) -> None:
    counts = TileCounts(store)
    first = {name: counts.of("a", raster) for name, raster in RASTERS.items()}
    assert counts.notes == ()
    assert len(kept(store)) == len(RASTERS)
    no_masks()
    again = TileCounts(TissueStore(store.path))
    for name, raster in RASTERS.items():
        np.testing.assert_array_equal(again.of("a", raster), first[name])


def test_a_folder_of_counts_is_no_tissue_and_no_stranger_to_zarr(store: TissueStore) -> None:
    TileCounts(store).of("a", RASTERS["pad"])
    assert TissueStore(store.path).tissues == ("a",)
    names = [name for name, _ in zarr.open_group(store.path, mode="r").members()]
    assert sorted(names) == [FOLDER, "a"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(path.read_bytes().replace(b"\x01", b"\x02")),
        lambda path: np.savez(path, counts=np.zeros((9, 4), np.int32), made_of=np.array("else")),
        lambda path: np.savez(path, counts=np.zeros((9, 4), np.int32)),
        lambda path: np.savez(path, counts=np.array([object()]), made_of=np.array([None])),
        lambda path: path.write_bytes(as_npy(np.zeros((9, 4), np.int32))),
    ],
    ids=["empty", "cut", "changed", "of other masks", "of who knows what", "pickled", "no archive"],
)
def test_what_is_damaged_is_counted_anew(store: TissueStore, spoil: Callable[[Path], None]) -> None:
    raster = RASTERS["pad"]
    first = TileCounts(store).of("a", raster)
    (path,) = kept(store)
    before = path.read_bytes()
    spoil(path)
    assert path.read_bytes() != before
    np.testing.assert_array_equal(TileCounts(store).of("a", raster), first)
    assert path.read_bytes() == before


def test_other_masks_are_other_counts(store: TissueStore, tmp_path: Path) -> None:
    raster = RASTERS["shift"]
    TileCounts(store).of("a", raster)
    other = write_store(tmp_path / "other.zarr", {"a": random_tissue(70, 87, 4)}, CLASSES)
    shutil.copytree(store.path / FOLDER, other.path / FOLDER)
    counts = TileCounts(other).of("a", raster)
    np.testing.assert_array_equal(counts, plainly(other, raster))
    assert len(kept(other)) == 2


def test_runs_that_count_at_once_all_get_the_counts(store: TissueStore) -> None:
    raster = RASTERS["pad"]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: TileCounts(store).of("a", raster), range(24)))
    for counts in found:
        np.testing.assert_array_equal(counts, plainly(store, raster))
    assert len(kept(store)) == 1
    assert sorted(p.name for p in (store.path / FOLDER).iterdir())[1:] == ["zarr.json"]


def test_a_store_that_cannot_be_written_to_is_counted_and_says_so_once(
    store: TissueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    counts = TileCounts(store)
    for raster in RASTERS.values():
        np.testing.assert_array_equal(counts.of("a", raster), plainly(store, raster))
    (note,) = counts.notes
    assert note == (
        f"classes are counted tile by tile anew in every run, since {store.path} cannot be written to "
        "(Permission denied)"
    )
    assert not (store.path / FOLDER).exists()


def test_a_remote_store_is_counted_and_says_so(store: TissueStore) -> None:
    with serving(store.path.parent) as server:
        remote = TissueStore(f"{server.url}/{store.path.name}")
        counts = TileCounts(remote)
        found = counts.of("a", RASTERS["shift"])
    np.testing.assert_array_equal(found, plainly(store, RASTERS["shift"]))
    assert counts.notes == (
        f"classes are counted tile by tile anew in every run, since {remote.address} is remote",
    )
    assert not (store.path / FOLDER).exists()


def test_a_disk_that_fills_up_leaves_nothing_half_written(
    store: TissueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(file: object, **_: object) -> None:
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tile_counts.np, "savez", fill)
    counts = TileCounts(store)
    np.testing.assert_array_equal(counts.of("a", RASTERS["pad"]), plainly(store, RASTERS["pad"]))
    assert "No space left on device" in counts.notes[0]
    assert [path.name for path in (store.path / FOLDER).iterdir()] == ["zarr.json"]
