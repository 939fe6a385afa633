import pytest
import torch
from torch.nn import functional as F

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError
from tissueseg.losses.cross_entropy import CrossEntropy


def test_two_pixels_by_hand(make_batch):
    # p = (3/4, 1/4) at both pixels; truth 0 and 1
    logits = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1).expand(1, 2, 1, 2)
    batch = make_batch([[[0, 1]]])
    plain = CrossEntropy()({"classes": logits}, batch)
    weighted = CrossEntropy([1.0, 3.0])({"classes": logits}, batch)
    first, second = -torch.tensor([0.75, 0.25]).log()
    torch.testing.assert_close(plain, (first + second) / 2)
    torch.testing.assert_close(weighted, (first + 3 * second) / 4)


def test_equals_torch_where_something_is_counted(random_batch, random_outputs):
    weights = [1.0, 0.5, 9.0]
    expected = F.cross_entropy(
        random_outputs["classes"],
        random_batch.classes,
        torch.tensor(weights),
        ignore_index=IGNORE,
    )
    torch.testing.assert_close(CrossEntropy(weights)(random_outputs, random_batch), expected)


def test_classes_of_weight_zero_cost_nothing(make_batch, random_outputs):
    batch = make_batch(torch.ones(2, 8, 8, dtype=torch.int64))
    assert CrossEntropy([1.0, 0.0, 1.0])(random_outputs, batch) == 0


def test_wrong_number_of_weights(random_batch, random_outputs):
    with pytest.raises(ConfigError, match="2 numbers, but there are 3 classes"):
        CrossEntropy([1.0, 2.0])(random_outputs, random_batch)


def test_weights_stay_out_of_checkpoints():
    assert not CrossEntropy([1.0, 2.0]).state_dict()
