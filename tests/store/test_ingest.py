"""One tissue through the writer, by windows: what is stored does not depend on them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from stores import CLASSES, PANEL, random_tissue, whole, write_store

from tissueseg.contracts import IGNORE, Channel
from tissueseg.errors import TissueDataError
from tissueseg.store import layout
from tissueseg.store.layout import windows
from tissueseg.store.planes import Planes, Tissue, Window

SHAPE = (700, 530)  # more than a chunk, not a multiple of one


class Watched:
    """A lazy tissue over one in memory, which notes what it is asked for."""

    def __init__(self, tissue: Tissue) -> None:
        self._tissue = tissue
        self.shape, self.images = tissue.shape, tissue.images
        self.patient, self.split, self.clips = tissue.patient, tissue.split, tissue.clips
        self.asked: list[Window] = []

    @property
    def notices(self) -> dict[str, int]:
        return {"{n} windows read": len(self.asked)}

    def read(self, window: Window) -> Planes:
        self.asked.append(window)
        return self._tissue.read(window)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SHARD_PX", 256)


def attributes(path: Path, tissue: Any, **options: Any) -> dict[str, Any]:
    store = write_store(path, {"t": tissue}, **options)
    return store.attributes("t") | {"digest": store.entry("t").digest}


@pytest.mark.usefixtures("small_shards")
def test_every_window_is_read_once_and_in_order(tmp_path: Path) -> None:
    tissue = random_tissue(*SHAPE)
    lazy = Watched(tissue)
    store = write_store(tmp_path / "s.zarr", {"t": lazy})  # pyright: ignore[reportArgumentType]
    assert lazy.asked == list(windows(SHAPE, (256, 256)))
    assert len(lazy.asked) == 9
    for array in ("he", "sp", "instances", "classes"):
        np.testing.assert_array_equal(whole(store, "t", array), getattr(tissue, array))
    assert store.attributes("t")["notices"] == {"{n} windows read": 9}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_nothing_depends_on_the_windows(
    dtype: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    sp = rng.gamma(2, 40, (2, *SHAPE)).clip(0, 255).astype(dtype)
    sp[1, :650] = 0
    tissue = random_tissue(*SHAPE, sp=sp)
    at_once = attributes(tmp_path / "at_once.zarr", tissue)
    monkeypatch.setattr(layout, "SHARD_PX", 256)
    by_window = attributes(tmp_path / "by_window.zarr", tissue)
    for stored in (at_once, by_window):
        stored["statistics"] = [
            (s["max"], s["zeros"], s["saturated"], *map(str, flat(s["quantiles"])))
            for s in stored["statistics"]
        ]
    assert by_window == at_once


def flat(quantiles: dict[str, dict[str, float]]) -> list[str]:
    """Sums in another order may differ in the last bits."""
    return [f"{value:.12g}" for found in quantiles.values() for value in found.values()]


@pytest.mark.usefixtures("small_shards")
def test_an_instance_in_several_windows_counts_once(tmp_path: Path) -> None:
    instances, classes = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.uint8)
    instances[200:300, 200:300], classes[200:300, 200:300] = 7, 2  # in four windows
    instances[10:20, 10:20], classes[10:20, 10:20] = 9, 1
    instances[400:410, 10:20], classes[400:410, 10:20] = 3, IGNORE
    found = attributes(
        tmp_path / "s.zarr", random_tissue(*SHAPE, instances=instances, classes=classes)
    )
    assert found["instances_per_class"] == [0, 1, 1, 1]
    assert found["class_pixels"] == [np.prod(SHAPE) - 10_200, 100, 10_000]


def test_statistics_tell_zeros_and_saturation(tmp_path: Path) -> None:
    sp = np.zeros((2, 64, 64), np.uint8)
    sp[0, :32] = 255
    sp[0, 32:, :32] = 9
    found = attributes(tmp_path / "s.zarr", random_tissue(sp=sp))["statistics"]
    assert (found[0]["max"], found[0]["zeros"], found[0]["saturated"]) == (255, 0.25, 0.5)
    assert (found[1]["max"], found[1]["zeros"]) == (0, 1)


def test_stated_clips_replace_computed_ones(tmp_path: Path) -> None:
    tissue = random_tissue(clips={"0.99": [123.5, float("nan")]})
    found = attributes(tmp_path / "s.zarr", tissue)["statistics"]
    logs = np.log1p(np.minimum(tissue.sp[0], 123.5).astype(float))  # type: ignore[index]
    assert found[0]["quantiles"]["0.99"]["clip"] == 123.5
    assert found[0]["quantiles"]["0.99"]["log_mean"] == pytest.approx(logs.mean())
    assert found[1]["quantiles"]["0.99"]["clip"] == 0
    assert found[1]["quantiles"]["0.995"]["clip"] > 0


def test_digest_tells_pixels_types_and_shapes_apart(tmp_path: Path) -> None:
    tissue = random_tissue()
    assert tissue.sp is not None
    dim = tissue.sp.copy()
    dim[1, 63, 63] ^= 1
    variants = [
        tissue,
        tissue._replace(sp=dim),
        tissue._replace(sp=tissue.sp.astype(np.float32)),
        tissue._replace(classes=np.where(tissue.classes == 1, 2, tissue.classes)),
        random_tissue(64, 128),
    ]
    found = [attributes(tmp_path / f"{i}.zarr", v) for i, v in enumerate(variants)]
    assert len({f["digest"] for f in found}) == len(variants)
    assert found[0]["digests"]["he"] == found[1]["digests"]["he"]
    same = attributes(tmp_path / "same.zarr", tissue._replace(patient="p", notices={"x": 1}))
    assert same["digest"] == found[0]["digest"]


def test_digest_of_a_plane_is_that_of_its_chunks(tmp_path: Path) -> None:
    he = random_tissue(300, 256).he
    assert he is not None
    chunks = b"".join(
        hashlib.sha256(np.ascontiguousarray(part).data).digest()
        for part in (he[:, :256], he[:, 256:])
    )
    wanted = hashlib.sha256(b"(3, 300, 256)uint8" + chunks).hexdigest()
    assert attributes(tmp_path / "s.zarr", random_tissue(300, 256))["digests"]["he"] == wanted


@pytest.mark.usefixtures("small_shards")
def test_a_fault_in_a_late_window_is_told(tmp_path: Path) -> None:
    classes = random_tissue(*SHAPE).classes.copy()
    classes[699, 529] = 9
    with pytest.raises(TissueDataError, match=r"tissue t: class mask holds id \[9\]"):
        write_store(tmp_path / "s.zarr", {"t": random_tissue(*SHAPE, classes=classes)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("channels", "shape", "shard"),
    [
        (16, (20_000, 20_000), (2048, 2048)),
        (40, (20_000, 20_000), (1024, 1024)),
        (3, (100, 3000), (256, 2048)),
        (0, (1, 1), (256, 256)),
    ],
)
def test_shards_fit_in_memory(channels: int, shape: Any, shard: Any) -> None:
    assert layout.shard_px(channels, shape) == shard


def test_shards_are_those_windows_are_read_by(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s.zarr", {"t": random_tissue(*SHAPE)}, CLASSES, PANEL)
    for array in ("he/0", "sp/0", "labels/instances/0", "labels/classes/0"):
        stored = zarr.open_array(store.path / "t" / array, mode="r")
        assert stored.shards is not None
        assert (stored.shards[-2:], stored.chunks[-2:]) == ((768, 768), (256, 256))


def test_panel_of_another_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TissueDataError, match="the panel names 1 channels"):
        write_store(tmp_path / "s.zarr", {"t": random_tissue()}, panel=(Channel("DAPI"),))
