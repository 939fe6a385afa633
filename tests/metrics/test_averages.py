import numpy as np

from tissueseg.metrics.averages import f1, mean_defined, mean_of_groups, ratio

NAN = float("nan")


def test_a_quotient_over_nothing_is_undefined():
    np.testing.assert_array_equal(ratio([1, 0, 3], [2, 0, 4]), [0.5, NAN, 0.75])
    assert np.isnan(ratio(0, 0))


def test_means_leave_out_what_is_undefined():
    values = [[1, NAN, 0], [NAN, NAN, 0.5]]
    np.testing.assert_array_equal(mean_defined(values), 0.5)
    np.testing.assert_array_equal(mean_defined(values, axis=0), [1, NAN, 0.25])
    assert np.isnan(mean_defined([]))
    assert np.isnan(mean_defined([NAN]))


def test_groups_count_alike_whatever_their_size():
    values, groups = [1, 0, 0, 0, NAN, NAN], ["a", "b", "b", "b", "b", "c"]
    assert mean_of_groups(values, groups) == 0.5


def test_f1_by_hand():
    np.testing.assert_array_equal(f1([2, 0, 0], [1, 3, 0], [1, 0, 0]), [4 / 6, 0, NAN])
