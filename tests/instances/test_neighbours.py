import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tissueseg.instances.neighbours import contacts, joined, merged_borders

LABELS = arrays(np.int32, (6, 7), elements=st.integers(0, 4))


def pairs_by_definition(labels):
    pairs = []
    for (i, j), one in np.ndenumerate(labels):
        for other in labels[i : i + 1, j + 1 : j + 2].flat, labels[i + 1 : i + 2, j].flat:
            pairs += [tuple(sorted((one, n))) for n in other if n and one and n != one]
    return sorted(pairs)


@settings(deadline=None, max_examples=50)
@given(LABELS)
def test_every_pair_of_pixels_on_a_border_is_there_once(labels):
    found = contacts(labels)
    assert sorted(map(tuple, found.sides[found.border].tolist())) == pairs_by_definition(labels)
    flat, width = labels.reshape(-1), labels.shape[1]
    ids = np.sort(np.stack([flat[found.first], flat[found.second]], axis=1), axis=1)
    np.testing.assert_array_equal(ids, found.sides[found.border])
    step = np.where(found.downward, width, 1)
    np.testing.assert_array_equal(found.second - found.first, step)


def test_joining_goes_by_way_of_others_and_leaves_background_alone():
    ids = joined(6, np.array([[1, 3], [3, 5]]))
    assert ids[0] == 0
    assert ids[1] == ids[3] == ids[5] > 0
    assert len({ids[1], ids[2], ids[4], 0}) == 4


def test_nothing_to_join_changes_nothing():
    assert joined(4, np.zeros((0, 2), int)).tolist() == [0, 1, 2, 3]


def test_borders_add_up_once_instances_are_joined():
    sides = np.array([[1, 2], [2, 3], [3, 1]])
    ids = np.array([0, 1, 1, 2])
    pairs, (length,) = merged_borders(ids[sides], np.array([10, 20, 30]))
    assert pairs.tolist() == [[1, 2]]
    assert length.tolist() == [50]
