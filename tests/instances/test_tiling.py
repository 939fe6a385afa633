import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.errors import ConfigError
from tissueseg.instances.tiling import BLENDS, Tiling

quick = settings(deadline=None, max_examples=60)


@st.composite
def tilings(draw, blends=BLENDS):
    tile_px, blend = draw(st.integers(1, 24)), draw(st.sampled_from(blends))
    overlap_px = draw(st.integers(0, tile_px // 2 if blend == "linear" else tile_px - 1))
    shape = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    return Tiling(shape, tile_px, overlap_px, blend)


@quick
@given(tiling=tilings(), axis=st.sampled_from([0, 1]))
def test_weights_of_an_axis_add_up_to_exactly_one(tiling, axis):
    total = np.zeros(tiling.shape[axis], dtype=np.float32)
    for span in tiling.spans(axis):
        assert span.start <= span.first < span.stop <= span.start + tiling.tile_px
        assert (span.weights > 0).all()
        total[span.first : span.stop] += span.weights
    assert (total == 1).all()


@quick
@given(tiling=tilings(["core"]))
def test_with_core_blend_every_pixel_comes_from_one_tile_whose_middle_is_nearest(tiling):
    middles = np.array([s.start + (tiling.tile_px - 1) / 2 for s in tiling.spans(0)])
    for span, middle in zip(tiling.spans(0), middles, strict=True):
        assert (span.weights == 1).all()
        pixels = np.arange(span.first, span.stop)
        others = abs(pixels[:, None] - middles).min(axis=1)
        assert (abs(pixels - middle) <= others + 1).all()  # odd overlaps cannot be halved


def test_a_tissue_of_one_tile_is_one_tile():
    assert [(s.start, s.stop) for s in Tiling((16, 16), 16, 4).spans(0)] == [(0, 16)]


def test_with_core_blend_tiles_reach_half_an_overlap_beyond_the_tissue():
    spans = Tiling((24, 25), 16, 4, "core").spans(0)
    assert [(s.start, s.first, s.stop) for s in spans] == [(-2, 0, 12), (10, 12, 24)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (((8, 8), 0), "tile_px=0"),
        (((8, 8), 8, 5), "overlap_px=5.*at most 4"),
        (((8, 8), 8, 8, "core"), "overlap_px=8.*at most 7"),
        (((0, 8), 8), "height"),
        (((8, 8), 8, 2, "mean"), "blend=mean"),
    ],
)
def test_tilings_that_are_none_are_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        Tiling(*arguments)
