"""Blocks trust no more of a window than its decoder does, and measure rings as they say they do."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from nuclei_made import noisy_maps

from tissueseg.instances.hv_decoder import HvDecoder
from tissueseg.instances.maps import InstanceDecoder, Maps
from tissueseg.instances.stitch import stitch

from .conftest import LAYOUT, SCHEMA, Find, Found


class Wavers:
    """Draws the line at another foreground in every window, so that no two agree."""

    needs = ()

    def reach_px(self, mpp: float) -> int:
        return 3

    def __call__(self, maps: Maps, mpp: float) -> np.ndarray:
        line = (0.02, 0.3, 0.5, 0.7)[np.count_nonzero(maps.foreground > 0.5) % 4]
        return cv2.connectedComponents((maps.foreground > line).astype(np.uint8))[1]


@pytest.mark.parametrize("decoder", [HvDecoder(), Wavers()], ids=["hv", "wavers"])
@pytest.mark.parametrize("region", [64, 128, 512])
def test_a_pipeline_paints_what_stitching_paints(
    find: Find, planes: np.ndarray, truth: np.ndarray, region: int, decoder: InstanceDecoder
) -> None:
    foreground, hv = noisy_maps(truth, planes[1:3])
    noisy = np.concatenate([foreground[None], hv, planes[3:]])
    found = find(region, decoder=decoder, planes=noisy)
    stored = noisy.astype(np.float16).astype(np.float32)
    labels = np.zeros(truth.shape, np.uint32)
    counts = stitch(
        found.labels.shape,
        lambda box: decoder(LAYOUT.maps(stored[(..., *box.slices)]), 0.5),
        labels,
        region,
        found.work.margin_px,
        most_px=region,
        rim_px=decoder.reach_px(0.5) + 1,
    )
    np.testing.assert_array_equal(found.labels, labels)
    assert found.counts == counts
    if isinstance(decoder, Wavers) and region == 64:
        assert min(counts) > 0  # windows that agree would show nothing


class Blind:
    """Reads ids off the map hv, but none within its reach of where its window ends."""

    needs = ()

    def reach_px(self, mpp: float) -> int:
        return 9

    def __call__(self, maps: Maps, mpp: float) -> np.ndarray:
        assert maps.hv is not None
        labels = np.zeros(maps.foreground.shape, np.int32)
        labels[9:-9, 9:-9] = maps.hv[0, 9:-9, 9:-9]
        return labels


@pytest.mark.parametrize("region", [64, 128, 200])
def test_a_decoder_blind_near_its_window_s_end_finds_the_same_cells(
    find: Find, planes: np.ndarray, truth: np.ndarray, region: int
) -> None:
    named = planes.copy()
    named[1] = truth
    found = find(region, decoder=Blind(), planes=named, mpp=4.0)  # nuclei are wider than usual
    wanted = np.zeros_like(truth)
    wanted[9:-9, 9:-9] = truth[9:-9, 9:-9]
    pairs = np.unique(np.stack([found.labels.ravel(), wanted.ravel()], 1), axis=0)
    cells = len(np.unique(wanted)) - 1
    assert len(pairs) == cells + 1
    assert (found.counts.cells, found.counts.trimmed, found.counts.cut) == (cells, 0, 0)


class Far(HvDecoder):
    """Reaches further than maps are kept."""

    def reach_px(self, mpp: float) -> int:
        return 70


def test_blocks_see_no_further_than_maps_are_kept(find: Find, whole: Found) -> None:
    found = find(64, decoder=Far())
    assert found.work.margin_px == 64
    assert abs(found.counts.cells - whole.counts.cells) <= 0.01 * whole.counts.cells


@pytest.mark.parametrize(("ring_um", "mpp"), [(1.0, 0.5), (3.0, 0.5), (3.0, 0.8)])
def test_rings_reach_as_far_where_the_scale_is_assumed(
    find: Find, ring_um: float, mpp: float
) -> None:
    known, assumed = (
        find(512, mpp=mpp, ring_um=ring_um, schema=replace(SCHEMA, mpp=scale))
        for scale in (mpp, None)
    )
    assert "area_um2" not in assumed.parts[0].columns
    assert known.work.ring_px == assumed.work.ring_px
    rings = [name for name in known.parts[0].columns if name.startswith("ring_")]
    assert rings
    for name in rings:
        np.testing.assert_array_equal(assumed.column(name), known.column(name), err_msg=name)


def test_wider_rings_show_something_else(find: Find, whole: Found) -> None:
    wide = find(512, ring_um=3.0, schema=replace(SCHEMA, mpp=None))
    assert (wide.column("ring_mean_DAPI") != whole.column("ring_mean_DAPI")).mean() > 0.5
