import pytest
import torch

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError
from tissueseg.losses.hv_gradient import HVGradient

SIDE = 9
COLUMN = torch.arange(SIDE, dtype=torch.float32).expand(SIDE, SIDE)
ROW = COLUMN.T
NONE = torch.zeros(SIDE, SIDE)


def maps(h, v):
    return torch.stack([h, v]).unsqueeze(0)


@pytest.fixture
def in_the_middle(make_batch):
    """One nucleus of 3 × 3 in the middle, target 0 everywhere."""
    labels = torch.zeros(1, SIDE, SIDE, dtype=torch.int32)
    labels[:, 3:6, 3:6] = 1
    return make_batch(labels.long(), labels=labels, hv=maps(NONE, NONE))


def cost(said, batch, kernel="hovernet"):
    return HVGradient(kernel)({"hv": said}, batch).item()


def test_ramps_cost_along_their_own_axis_only(in_the_middle):
    # Σ x²/(x² + y²) over the window is 12; half of the slopes in focus are those of the other map
    assert cost(maps(COLUMN, NONE), in_the_middle) == pytest.approx(12**2 / 2)
    assert cost(maps(NONE, ROW), in_the_middle) == pytest.approx(12**2 / 2)
    assert cost(maps(COLUMN, 2 * ROW), in_the_middle) == pytest.approx((12**2 + 24**2) / 2)
    assert cost(maps(ROW, COLUMN), in_the_middle) == pytest.approx(0, abs=1e-9)


def test_differences_are_to_the_next_pixel(in_the_middle):
    assert cost(maps(COLUMN, NONE), in_the_middle, "difference") == pytest.approx(1 / 2)
    assert cost(maps(COLUMN, 3 * ROW), in_the_middle, "difference") == pytest.approx((1 + 9) / 2)
    assert cost(maps(ROW, COLUMN), in_the_middle, "difference") == 0
    step = (COLUMN > 3).float()  # between columns 3 and 4: one slope of three
    assert cost(maps(step, NONE), in_the_middle, "difference") == pytest.approx(1 / 6)


def test_a_single_wrong_pixel_by_hand(in_the_middle):
    wrong = NONE.clone()
    wrong[4, 5] = 1.0  # seen from the nine pixels of the nucleus at x = 0, 1, 2 and y = −1, 0, 1
    seen = [0, 1, 1 / 2, 0, 1 / 2, 2 / 5, 0, 1 / 2, 2 / 5]
    assert cost(maps(wrong, NONE), in_the_middle) == pytest.approx(sum(k * k for k in seen) / 18)


@pytest.mark.parametrize("kernel", ["hovernet", "difference"])
def test_the_direction_of_a_slope_counts(in_the_middle, kernel):
    batch = in_the_middle._replace(targets={"hv": maps(COLUMN, ROW)})
    assert cost(maps(COLUMN + 5, ROW - 5), batch, kernel) == pytest.approx(0, abs=1e-9)
    along = {"hovernet": 12, "difference": 1}[kernel]
    assert cost(maps(-COLUMN, ROW), batch, kernel) == pytest.approx((2 * along) ** 2 / 2)


@pytest.mark.parametrize("unknown", ["target", "class"])
def test_slopes_that_read_an_unknown_pixel_do_not_count(in_the_middle, unknown):
    """The pixel right of the nucleus' middle line."""
    batch, said = in_the_middle, maps(COLUMN, NONE).requires_grad_()
    if unknown == "target":
        batch.targets["hv"][:, :, 4, 6] = float("nan")
    else:
        batch.classes[:, 4, 6] = IGNORE
    value = HVGradient()({"hv": said}, batch)
    value.backward()
    # 8 slopes are left: on the first column all three of h and of v, for they reach two columns, and
    # those of v on the middle line, where their kernel is 0
    assert value.item() == pytest.approx(3 * 12**2 / 8)
    assert not said.grad[..., 4, 6].any()


def test_beyond_the_tile_maps_read_0_or_slopes_do_not_count(make_batch):
    batch = make_batch(torch.ones(1, 1, 2, dtype=torch.int64), hv=torch.zeros(1, 2, 1, 2))
    said = torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]]])
    assert cost(said, batch) == pytest.approx(1 / 4)
    assert cost(said, batch, "difference") == pytest.approx(1)


def test_background_costs_nothing(make_batch):
    batch = make_batch(torch.zeros(1, SIDE, SIDE, dtype=torch.int64))
    assert cost(maps(COLUMN, ROW), batch) == 0


def test_kernels_follow_the_device_and_stay_out_of_checkpoints():
    assert not HVGradient().state_dict()
    assert {name for name, _ in HVGradient().named_buffers()} == {"slopes", "reads"}


@pytest.mark.parametrize(
    ("options", "said"),
    [({"kernel": "sobel"}, "choose from hovernet, difference"), ({"head": "boundary"}, "from hv")],
)
def test_impossible_options(options, said):
    with pytest.raises(ConfigError, match=said):
        HVGradient(**options)
