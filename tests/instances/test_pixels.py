"""Numbers of cells, and their pixels cell after cell."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tissueseg.errors import TissueDataError
from tissueseg.instances.pixels import cut, number, spread

IMAGES = arrays.arrays(
    st.sampled_from([np.uint16, np.int64, np.uint64]),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    elements=st.sampled_from([0, 1, 2, 9, 65535]),
)


@settings(max_examples=100, deadline=None)
@given(IMAGES, st.data())
def test_cells_asked_for_have_all_their_pixels(labels, data):
    shown = np.unique(labels[labels > 0])
    chosen = data.draw(
        st.lists(st.sampled_from(shown.tolist()), unique=True) if len(shown) else st.just([])
    )
    found = number(labels, np.array(chosen, int))
    assert found.ids.tolist() == sorted(chosen)
    assert found.highest == len(shown)
    pixels = spread(cut(found.image, found.row), len(chosen))
    for i, id in enumerate(found.ids):
        assert (found.row[found.image[labels == id]] == i).all()
        own = pixels.index[pixels.starts[i] : pixels.starts[i + 1]]
        assert own.tolist() == np.flatnonzero(labels == id).tolist()
    assert ((found.image > 0) == (labels > 0)).all()
    assert np.unique(found.image[found.image > 0]).tolist() == list(range(1, len(shown) + 1))
    assert np.count_nonzero(found.row >= 0) == len(chosen)
    assert pixels.sums(np.ones(len(pixels.index), np.uint8)).tolist() == pixels.counts.tolist()


@pytest.mark.parametrize("own", [[3], [0], [-1], [2, 99]])
def test_ids_that_are_not_shown_are_refused(own):
    with pytest.raises(TissueDataError, match="1 cells to measure"):
        number(np.array([[0, 1, 2]]), np.array(own))


def test_cells_without_pixels_add_up_to_nothing():
    pixels = spread(cut(np.array([[2, 0, 2]]), np.arange(4) - 1), 3)
    assert pixels.counts.tolist() == [0, 2, 0]
    assert pixels.sums(np.array([1.5, 2.0])).tolist() == [0, 3.5, 0]


def test_labels_below_zero_are_refused():
    with pytest.raises(TissueDataError, match="labels go down to -4, wanted ids from 1"):
        number(np.array([[0, -4, 2]]), np.array([2]))
