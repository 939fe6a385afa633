"""Maps and instances: times against the loop over nuclei and the literal recipe, and what comes back.

`pytest -m benchmark tests/benchmarks/test_instances.py -s` prints the tables. Rows take turns, medians
of the clock's time are shown, and every row runs on one thread of this process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest
from nuclei_made import DENSITIES, made_nuclei, noisy_maps, recovery
from published_recipe import literal_recipe
from scipy import ndimage

from tissueseg.instances import watershed as floods
from tissueseg.instances.boundary import instance_boundary
from tissueseg.instances.boundary_decoder import BoundaryDecoder
from tissueseg.instances.hv import decode_hv, encode_hv
from tissueseg.instances.maps import Maps

pytestmark = pytest.mark.benchmark

MAGNIFICATION = {0.25: "published_40x", 0.5: "published_20x", 1.0: "published_20x"}


@pytest.fixture(autouse=True)
def one_cv2_thread() -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(before)


def medians(rows: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of each row; they take turns, so that whatever else runs falls on all."""
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, run in rows.items():
            start = time.perf_counter()
            run()
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(times) for name, times in taken.items()}


def loop_over_nuclei(labels: np.ndarray) -> np.ndarray:
    """The target by HoVer-Net's steps, a nucleus at a time, but in boxes that are found all at once.

    Published code searches the whole image for each nucleus, which would take hours here.
    """
    maps = np.zeros((2, *labels.shape), np.float32)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        nucleus = (labels[box] == label).astype(np.uint8)
        row, column = (int(mean + 0.5) for mean in ndimage.center_of_mass(nucleus))
        across, down = np.meshgrid(
            np.arange(nucleus.shape[1]) - column, np.arange(nucleus.shape[0]) - row
        )
        for channel, offset in enumerate((across.astype(np.float32), down.astype(np.float32))):
            offset[nucleus == 0] = 0
            if offset.min() < 0:
                offset[offset < 0] /= -np.amin(offset[offset < 0])
            if offset.max() > 0:
                offset[offset > 0] /= np.amax(offset[offset > 0])
            maps[channel][box][nucleus > 0] = offset[nucleus > 0]
    return maps


def test_encoding_against_a_loop_over_nuclei() -> None:
    """3000 × 3000 pixels with some 45 000 nuclei: a made-up tissue of 0.5 µm/px repeated."""
    part = made_nuclei(1300, 0.5, "packed", seed=1)[:480, :480]
    places = np.stack(np.mgrid[:7, :7], -1).reshape(-1, 2)
    labels = np.zeros((480 * 7, 480 * 7), np.int32)
    for number, (down, across) in enumerate(places * 480):
        window = np.s_[down : down + 480, across : across + 480]
        labels[window] = np.where(part > 0, part + number * int(part.max()), 0)
    labels = np.unique(labels[:3000, :3000], return_inverse=True)[1].astype(np.int32)
    np.testing.assert_array_equal(encode_hv(labels), loop_over_nuclei(labels))
    rows = {"loop": lambda: loop_over_nuclei(labels), "ours": lambda: encode_hv(labels)}
    taken = medians(rows, 3)
    ratio = taken["loop"] / taken["ours"]
    print(
        f"\nencode_hv, 3000 × 3000 px, {labels.max():,} nuclei: loop {taken['loop']:,.0f} ms, "
        f"ours {taken['ours']:,.0f} ms = {ratio:.1f} ×, identical"
    )
    assert ratio >= 15


@pytest.mark.parametrize("maps", ["perfect", "noisy"])
def test_decoding_against_the_literal_recipe(maps: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """1024 × 1024 pixels of 0.25 µm/px with some 1 500 nuclei that touch."""
    pytest.importorskip("numba")
    labels = made_nuclei(1700, 0.25, "packed", seed=3)[:1024, :1024]
    hv = encode_hv(labels)
    foreground = (labels > 0).astype(np.float32)
    if maps == "noisy":
        foreground, hv = noisy_maps(labels, hv, blur_px=1.0)

    def without_numba() -> np.ndarray:
        with monkeypatch.context() as patch:
            patch.setattr(floods, "_walk", lambda: None)
            return decode_hv(foreground, hv, 0.25, "published_40x")

    rows: dict[str, Callable[[], np.ndarray]] = {
        "literal recipe": lambda: literal_recipe(foreground, hv, 21, 10),
        "published, numba": lambda: decode_hv(foreground, hv, 0.25, "published_40x"),
        "published, numpy": without_numba,
        "scaled": lambda: decode_hv(foreground, hv, 0.25),
    }
    found = {name: run() for name, run in rows.items()}
    taken = medians(rows, 7)
    literal = taken["literal recipe"]
    print(f"\n1024 × 1024 px, {len(np.unique(labels)) - 1:,} nuclei, {maps} maps")
    print(f"{'':<18}{'ms':>6}{'×':>6}{'PQ to literal':>15}{'recovered':>11}{'PQ to truth':>13}")
    same = {}
    for name, one in found.items():
        same[name] = recovery(found["literal recipe"], one).pq
        truth = recovery(labels, one)
        print(
            f"{name:<18}{taken[name]:6.0f}{literal / taken[name]:6.1f}{same[name]:15.5f}"
            f"{truth.share:11.4f}{truth.pq:13.4f}"
        )
    assert same["published, numba"] >= 0.999
    assert recovery(found["published, numba"], found["published, numpy"]).pq >= 0.99
    assert literal / taken["published, numba"] >= 3
    assert taken["published, numpy"] <= literal
    assert taken["scaled"] <= literal


def test_what_comes_back_at_three_scales_and_densities() -> None:
    """On perfect maps, then on maps with noise of σ 0.2 blurred by 0.7 px (recovered / PQ)."""
    print(f"\n{'µm/px':<6}{'density':<8}{'nuclei':>7}{'maps':>9}", end="")
    print("".join(f"{name:>17}" for name in ("scaled", "published", "boundary")))
    total = 0
    for mpp in MAGNIFICATION:
        for density in DENSITIES:
            labels = made_nuclei(625, mpp, density, seed=7)
            total += len(np.unique(labels)) - 1
            for maps in ("perfect", "noisy"):
                row = came_back(labels, mpp, noisy=maps == "noisy")
                cells = "".join(f"{f'{one.share:.4f} / {one.pq:.4f}':>17}" for one in row)
                print(f"{mpp:<6}{density:<8}{row[0].truth:>7}{maps:>9}{cells}")
                if maps == "perfect":
                    assert row[0].share >= 0.99
                    assert row[0].pq >= 0.97
    assert total >= 5000


def came_back(labels: np.ndarray, mpp: float, noisy: bool) -> list:
    """Of `scaled`, the published recipe and the decoder of boundaries."""
    hv, rim = encode_hv(labels), instance_boundary(labels).astype(np.float32)
    foreground = (labels > 0).astype(np.float32)
    if noisy:
        foreground, (*offsets, rim) = noisy_maps(labels, np.concatenate([hv, rim[None]]))
        hv = np.stack(offsets)
    found = (
        decode_hv(foreground, hv, mpp),
        decode_hv(foreground, hv, mpp, MAGNIFICATION[mpp]),
        BoundaryDecoder()(Maps(foreground, boundary=rim), mpp),
    )
    return [recovery(labels, one) for one in found]
