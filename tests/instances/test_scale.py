import pytest

from tissueseg.errors import ConfigError
from tissueseg.instances.scale import Scale


@pytest.mark.parametrize(
    ("mpp", "nucleus_px", "blur_px", "average_px", "inwards_px", "min_area_px", "reach_px"),
    [
        (0.25, 28, 1.0, 71, 2, 62, 85),
        (0.5, 14, 0.5, 37, 1, 15, 43),
        (1.0, 7, 0, 19, 1, 4, 22),
        (2.0, 3.5, 0, 9, 1, 1, 12),
    ],
)
def test_sizes_follow_from_the_scale(
    mpp, nucleus_px, blur_px, average_px, inwards_px, min_area_px, reach_px
):
    scale = Scale(mpp)
    assert scale.nucleus_px == nucleus_px
    assert scale.blur_px == pytest.approx(blur_px)
    assert (scale.average_px, scale.inwards_px) == (average_px, inwards_px)
    assert scale.min_area_px == min_area_px
    assert scale.reach_px == reach_px


def test_only_nuclei_per_pixel_count():
    twice = Scale(0.5, 14.0)
    once = Scale(0.25, 7.0)
    assert (twice.blur_px, twice.min_area_px, twice.min_marker_px, twice.reach_px) == (
        once.blur_px,
        once.min_area_px,
        once.min_marker_px,
        once.reach_px,
    )


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), None, True, "0.5"])
def test_no_scale(mpp):
    with pytest.raises(ConfigError, match="mpp="):
        Scale(mpp)


def test_no_nucleus():
    with pytest.raises(ConfigError, match="nucleus_um=0"):
        Scale(0.5, 0)
