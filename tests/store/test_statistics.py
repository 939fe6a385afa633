"""Channel statistics: what pooling needs, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tissueseg.store.statistics import QUANTILES, IntensityCounts, clip_statistics

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, max_side=12)
CHANNELS = st.one_of(
    hnp.arrays(np.uint16, SHAPES),
    hnp.arrays(np.float32, SHAPES, elements=st.floats(0, 1e6, width=32)),
)


def channel_statistics(channel: np.ndarray) -> dict[str, Any]:
    """Of one channel (H, W), counted in one window."""
    counts = IntensityCounts(1, channel.dtype)
    counts.add(channel[None])
    return counts.statistics(lambda: [channel[None]])[0]


@given(CHANNELS)
def test_statistics_are_those_of_the_clipped_logarithm(channel: np.ndarray) -> None:
    stored = channel_statistics(channel)
    for quantile in QUANTILES:
        found = clip_statistics(stored, quantile)
        wanted = np.log1p(np.minimum(channel, found.clip).astype(np.float64))
        assert found.clip == pytest.approx(np.quantile(channel, quantile), rel=1e-6)
        assert found.log_mean == pytest.approx(wanted.mean(), rel=1e-6, abs=1e-6)
        assert found.log_square == pytest.approx(np.square(wanted).mean(), rel=1e-6, abs=1e-6)
    assert stored["max"] == channel.max()


@pytest.mark.parametrize("value", [0, 7])
def test_constant_channel_is_not_usable(value: int) -> None:
    stored = channel_statistics(np.full((9, 9), value, np.uint8))
    assert not clip_statistics(stored, 0.99).usable


def test_sparse_channel_is_usable_only_at_a_high_quantile() -> None:
    channel = np.zeros((100, 100), np.uint16)
    channel[0, :50] = 900
    stored = channel_statistics(channel)
    assert not clip_statistics(stored, 0.99).usable
    assert clip_statistics(stored, 0.999).usable


def test_unknown_quantile_is_refused() -> None:
    with pytest.raises(KeyError):
        clip_statistics(channel_statistics(np.eye(3, dtype=np.float32)), 0.5)


def test_only_the_highest_level_of_a_float_channel_is_saturated() -> None:
    """Half of the pixels lie within 1 % of the highest, but one of them alone is at it."""
    channel = np.zeros((100, 100), np.float32)
    channel[:50] = np.linspace(1.0, 1.005, 5000, dtype=np.float32).reshape(50, 100)
    assert channel_statistics(channel)["saturated"] == pytest.approx(
        (channel == channel.max()).mean()
    )
    assert channel_statistics(channel)["zeros"] == 0.5
    clipped = np.minimum(channel, np.float32(1.002))
    assert channel_statistics(clipped)["saturated"] == pytest.approx(0.3, abs=0.001)


@given(CHANNELS)
def test_saturated_pixels_are_those_at_the_maximum(channel: np.ndarray) -> None:
    assert channel_statistics(channel)["saturated"] == (channel == channel.max()).mean()
