import pytest
import torch

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError
from tissueseg.losses.hv_mse import HVMSE

CLASSES = [[[0, 1, IGNORE, IGNORE]]]  # background, nucleus, nucleus without type, unknown
LABELS = [[[0, 3, 4, 0]]]
TARGET = [[[[0.0, 1.0, -1.0, 0.0]], [[0.0, 0.5, 0.0, 0.0]]]]
SAID = torch.tensor([[[[2.0, 0.0, -1.0, 9.0]], [[0.0, 0.5, 3.0, 9.0]]]])


def test_four_pixels_by_hand(make_batch):
    batch = make_batch(CLASSES, labels=LABELS, hv=TARGET)
    everywhere = HVMSE()({"hv": SAID}, batch)
    inside = HVMSE(focus=True)({"hv": SAID}, batch)
    assert everywhere.item() == pytest.approx((4 + 1 + 9) / 6)
    assert inside.item() == pytest.approx((1 + 9) / 4)


def test_pixels_whose_target_is_not_known_enter_nothing(make_batch):
    unknown = torch.tensor(TARGET)
    unknown[..., 0] = float("nan")
    value = HVMSE()({"hv": SAID}, make_batch(CLASSES, labels=LABELS, hv=unknown))
    assert value.item() == pytest.approx((1 + 9) / 4)


@pytest.mark.parametrize(
    ("options", "said"), [({"focus": "inside"}, "focus=inside"), ({"head": "classes"}, "from hv")]
)
def test_impossible_options(options, said):
    with pytest.raises(ConfigError, match=said):
        HVMSE(**options)
