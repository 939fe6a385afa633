"""Tissues at another scale: pixels by hand, windows against the whole, and instances that must stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sources import MemorySource, assert_same, ellipses

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.conversion import convert
from tissueseg.store.planes import Planes, Tissue, Window, whole
from tissueseg.store.shaping import resampling
from tissueseg.store.shaping.class_map import ClassMap, MappedSource
from tissueseg.store.shaping.resampling import ResampledSource, ResampledTissue

KEPT = "{n} thin instances kept by painting what they touch"


def image_at(image: np.ndarray, factor: float) -> np.ndarray:
    """One SP channel with `factor` as many pixels on each side."""
    empty = np.zeros(image.shape, np.uint8)
    tissue = ResampledTissue(Tissue(empty, empty, sp=image[None]), factor, 1.0, channels=1)
    made = tissue.read(whole(tissue.shape)).sp
    assert made is not None
    assert made.dtype == image.dtype
    return made[0]


def part(planes: Planes, window: Window) -> Planes:
    return Tissue(*planes).read(window)


def test_two_to_one_is_the_mean_of_four() -> None:
    image = np.array([[0, 4, 10, 10], [8, 12, 10, 13], [65535, 65535, 0, 0], [65535, 65535, 0, 2]])
    made = image_at(image.astype(np.uint16), 0.5)
    np.testing.assert_array_equal(made, [[6, 11], [65535, 0]])  # 10.75, and 0.5 to the even


def test_three_to_two_shares_the_pixel_between() -> None:
    image = np.array([[3, 6, 9]] * 3, np.float32)
    made = image_at(image, 2 / 3)
    np.testing.assert_allclose(made, [[4, 8]] * 2, rtol=1e-6)  # (3 + 6/2) / 1.5, (6/2 + 9) / 1.5


def test_twice_as_large_is_cubic_as_pillow_has_it() -> None:
    image = np.random.default_rng(0).random((12, 9)).astype(np.float32) + 1
    wanted = np.asarray(Image.fromarray(image).resize((18, 24), Image.Resampling.BICUBIC))
    made = image_at(image, 2.0)
    np.testing.assert_allclose(made[4:-4, 4:-4], wanted[4:-4, 4:-4], rtol=1e-5)


def test_a_ramp_enlarged_and_shrunk_is_the_ramp() -> None:
    rows, columns = np.mgrid[:20, :30]
    ramp = (3 * rows + 5 * columns).astype(np.float32)
    made = image_at(image_at(ramp, 2.0), 0.5)
    np.testing.assert_allclose(made[2:-2, 2:-2], ramp[2:-2, 2:-2], rtol=1e-5)


@pytest.mark.parametrize("factor", [0.07, 0.25, 0.4, 0.83, 1.3, 2.7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_constant_image_stays_so(factor: float, dtype: Any) -> None:
    highest = 7.3 if dtype == np.float32 else np.iinfo(dtype).max
    made = image_at(np.full((37, 53), highest, dtype), factor)
    assert made.shape == (round(37 * factor), round(53 * factor))
    np.testing.assert_array_equal(made, np.full(made.shape, highest, dtype))


def test_overshoot_of_the_cubic_is_clipped() -> None:
    for dtype, high in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        step = np.zeros((8, 12), dtype)
        step[:, 6:] = high
        made = image_at(step, 3.0)
        np.testing.assert_array_equal(made[:, :16], 0)
        if dtype != np.float32:
            np.testing.assert_array_equal(made[:, 20:], high)


def test_negative_intensities_stay_for_the_check_to_name() -> None:
    made = image_at(np.full((4, 4), -2, np.float32), 0.5)
    np.testing.assert_array_equal(made, np.full((2, 2), -2, np.float32))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.05, 0.99), st.integers(0, 99))
def test_shrinking_keeps_the_mean(height: int, width: int, factor: float, seed: int) -> None:
    image = np.random.default_rng(seed).random((height, width)).astype(np.float32)
    assert image_at(image, factor).mean() == pytest.approx(image.mean(), rel=1e-5)


def slide(height: int = 330, width: int = 290) -> Tissue:
    """All kinds of planes, with nuclei and slivers."""
    rng = np.random.default_rng(1)
    instances = ellipses(height, width, 16, (0.5, 5.0))
    return Tissue(
        instances,
        np.where(instances > 0, 1 + instances % 2, 0).astype(np.uint8),
        rng.integers(0, 256, (3, height, width), np.uint8),
        rng.integers(0, 65536, (2, height, width), np.uint16),
    )


SLIDE = slide()


@settings(max_examples=30, deadline=None)
@given(st.data(), st.floats(0.2, 3.0))
def test_a_window_is_that_part_of_the_whole(data: st.DataObject, scale: float) -> None:
    tissue = ResampledTissue(SLIDE, scale, 1.0, 2)
    height, width = tissue.shape
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    h, w = data.draw(st.integers(1, height - y)), data.draw(st.integers(1, width - x))
    window = Window(y, x, h, w)
    assert_same(tissue.read(window), part(tissue.read(whole(tissue.shape)), window))


@pytest.mark.parametrize("scale", [0.25, 0.8, 2.3])
def test_windows_and_blocks_see_and_count_the_same(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = ResampledTissue(SLIDE, scale, 1.0, 2)
    wanted = at_once.read(whole(at_once.shape))
    monkeypatch.setattr(resampling, "_BLOCK_BYTES", 2**10)  # blocks as small as can be
    in_blocks = ResampledTissue(SLIDE, scale, 1.0, 2)
    assert_same(in_blocks.read(whole(in_blocks.shape)), wanted)
    in_windows = ResampledTissue(SLIDE, scale, 1.0, 2)
    height, width = in_windows.shape
    for y in range(0, height, 50):
        for x in range(0, width, 50):
            window = Window(y, x, min(50, height - y), min(50, width - x))
            assert_same(in_windows.read(window), part(wanted, window))
    assert in_windows.notices == in_blocks.notices == at_once.notices
    assert (KEPT in at_once.notices) == (scale < 1)


def test_no_more_than_a_block_of_the_source_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    class Watched(Tissue):
        def read(self, window: Window) -> Planes:
            seen.append(window)
            return super().read(window)

    seen: list[Window] = []
    monkeypatch.setattr(resampling, "_BLOCK_BYTES", 24 * 600**2)  # two channels and labels
    zeros = np.zeros((1500, 1400), np.uint8)
    tissue = ResampledTissue(Watched(zeros, zeros, sp=np.stack([zeros, zeros])), 0.5, 1.0, 2)
    tissue.read(whole(tissue.shape))
    assert len(seen) > 4
    assert all(w.height <= 604 and w.width <= 604 for w in seen)  # two more for the kernel


def test_instances_without_any_room_are_lost_and_counted() -> None:
    instances = np.array([[1, 2, 0, 0], [3, 4, 0, 0]], np.int32)  # 4 lies under the centre
    tissue = ResampledTissue(Tissue(instances, np.minimum(instances, 1)), 1.0, 2.0)
    np.testing.assert_array_equal(tissue.read(whole(tissue.shape)).instances, [[4, 0]])
    assert tissue.notices["{n} instances lost in resampling to 2 µm/px"] == 3
    assert KEPT not in tissue.notices


def test_an_instance_that_neighbours_cut_is_said_to_be_in_pieces() -> None:
    instances = np.full((3, 9), 2)
    instances[:2, 3:6] = 1  # 2 goes on below it, where no centre lies
    tissue = ResampledTissue(Tissue(instances, np.ones_like(instances)), 1.0, 3.0)
    np.testing.assert_array_equal(tissue.read(whole(tissue.shape)).instances, [[2, 1, 2]])
    assert tissue.notices == {
        "resampled from 1 to 3 µm/px": 1,
        "{n} instances in pieces after resampling: neighbours lie between": 1,
    }


@pytest.mark.parametrize("factor", [0.03, 0.25, 0.9, 3.0])
def test_an_image_one_pixel_high_stays_one(factor: float) -> None:
    line = np.arange(40)[None]
    tissue = Tissue(line, np.minimum(line, 1), sp=line[None].astype(np.uint16))
    made = ResampledTissue(tissue, factor, 1.0, 1)
    assert made.shape == (max(1, round(factor)), max(1, round(40 * factor)))
    planes = made.read(whole(made.shape))
    assert planes.sp is not None
    assert planes.sp.shape == (1, *made.shape)
    assert np.diff(planes.sp[0, 0].astype(int)).min(initial=0) >= 0


def source_of(*tissues: Tissue, scales: tuple[float | None, ...], **parts: Any) -> MemorySource:
    names = "abc"[: len(tissues)]
    made = dict(zip(names, tissues, strict=True))
    return MemorySource(made, dict(zip(names, scales, strict=True)), **parts)


def test_tissues_of_two_scales_fill_one_store(
    make_tissue: Callable[..., Tissue], tmp_path: Path
) -> None:
    source = source_of(make_tissue(80, 96), make_tissue(seed=1), scales=(0.25, 0.5004))
    store = convert(ResampledSource(source, 0.5), tmp_path / "out.zarr")
    assert store.mpp == 0.5
    assert {store.entry(name)[2:4] for name in store.tissues} == {(40, 48)}
    found = store.read("a", "labels/instances", Window(0, 0, 40, 48))
    assert np.unique(found).size == np.unique(source.open("a").instances).size
    untouched = store.read("b", "he", Window(0, 0, 40, 48))
    np.testing.assert_array_equal(untouched, source.open("b").he)


def test_classes_may_be_mapped_before_or_after(make_tissue: Callable[..., Tissue]) -> None:
    source, classes = source_of(make_tissue(), scales=(0.25,)), ClassMap.parse({"drop": ["tumor"]})
    before = ResampledSource(MappedSource(source, classes), 0.5).open("a")
    after = MappedSource(ResampledSource(source, 0.5), classes).open("a")
    assert_same(before.read(whole(before.shape)), after.read(whole(after.shape)))
    assert before.notices == after.notices


def test_what_no_longer_holds_is_left_out_and_said(make_tissue: Callable[..., Tissue]) -> None:
    tissue = make_tissue(clips={"0.99": [1.0, 2.0]}, patient="p", split="val", notices={"odd": 3})
    moments = {"0.99": {"mean": [0.0, 0.0], "std": [1.0, 1.0]}}
    source = source_of(
        tissue, tissue, scales=(0.25, 0.5), moments=moments, notices=["of the cohort"]
    )
    resampled = ResampledSource(source, 0.5)
    assert resampled.moments == {}
    lost = "left out: they do not hold after resampling"
    assert resampled.notices == ("of the cohort", f"moments of the source {lost}")
    opened = resampled.open("a")
    assert (opened.patient, opened.split, dict(opened.clips)) == ("p", "val", {})
    assert opened.notices == {
        "odd": 3,
        "resampled from 0.25 to 0.5 µm/px": 1,
        f"clips of the source {lost}": 1,
    }
    assert resampled.open("b") is tissue
    same = ResampledSource(source_of(tissue, scales=(0.5,), moments=moments), 0.5)
    assert same.moments == moments
    assert same.notices == ()


@pytest.mark.parametrize("mpp", [0, 0.001, 21, float("nan"), True, "0.5"])
def test_a_scale_that_is_none_is_refused(mpp: Any) -> None:
    with pytest.raises(ConfigError, match=r"mpp=.*, wanted µm per pixel from 0.01 to 20\.$"):
        ResampledSource(source_of(SLIDE, scales=(0.5,)), mpp)


def test_a_tissue_of_unknown_or_absurd_scale_is_refused() -> None:
    with pytest.raises(TissueDataError, match="tissue b: its µm/px is not known"):
        ResampledSource(source_of(SLIDE, SLIDE, scales=(0.5, None)), 0.5)
    with pytest.raises(TissueDataError, match=r"tissue a has 250 µm/px, but 0\.5 is wanted"):
        ResampledSource(source_of(SLIDE, scales=(250,)), 0.5)
    with pytest.raises(TissueDataError, match=r"tissue a has 15 µm/px, but 0\.05 is wanted"):
        ResampledSource(source_of(SLIDE, scales=(15,)), 0.05)
