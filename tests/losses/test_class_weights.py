import pytest

from tissueseg.errors import ConfigError
from tissueseg.losses.class_weights import inverse_frequency


def test_relative_to_the_background_and_clipped():
    assert inverse_frequency([800, 400, 1600, 10, 0]) == [1.0, 2.0, 0.5, 20.0, 20.0]
    assert inverse_frequency([800, 10], clip=100) == [1.0, 80.0]


@pytest.mark.parametrize("pixels", [[0, 5], [5, -1]])
def test_counts_that_make_no_sense(pixels):
    with pytest.raises(ConfigError, match="class_weights=null"):
        inverse_frequency(pixels)
