import pytest

from tissueseg.errors import ConfigError
from tissueseg.losses.weights import positive
from tissueseg.numbers import shown


def test_zeros_are_left_out_and_numbers_become_floats():
    assert positive({"a": 2, "b": 0, "c": 0.5}, "sum") == {"a": 2.0, "c": 0.5}


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf"), "much", None, True])
def test_a_weight_that_makes_no_sense_is_named(weight):
    with pytest.raises(
        ConfigError, match=rf"sum\.a\.weight={shown(weight)}, wanted a finite number"
    ):
        positive({"b": 1.0, "a": weight}, "sum", "weight")


@pytest.mark.parametrize("weights", [{}, {"a": 0}])
def test_one_must_be_left(weights):
    with pytest.raises(ConfigError, match="sum has no entry of positive weight"):
        positive(weights, "sum")
