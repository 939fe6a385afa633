import pytest
import torch

from tissueseg.errors import TissueDataError
from tissueseg.metrics.by_image import CountsByImage


def test_windows_of_an_image_add_up_and_images_stay_apart():
    metric = CountsByImage(3, 2)
    for image, counts in [(0, [1, 2]), (2, [3, 4]), (0, [5, 6])]:
        metric.update(image, counts)
    assert metric.compute().tolist() == [[6, 8], [0, 0], [3, 4]]


def test_what_was_computed_does_not_change_later():
    metric = CountsByImage(1, 2)
    metric.update(0, [1, 2])
    before = metric.compute()
    metric.update(0, [1, 2])
    assert before.tolist() == [[1, 2]]


def test_forward_counts_each_window_once_and_reset_empties():
    metric = CountsByImage(1, 2, dtype=torch.float64)
    assert metric(0, [0.5, 1]).tolist() == [[0.5, 1]]
    assert metric(0, [0.5, 1]).tolist() == [[0.5, 1]]
    assert metric.compute().tolist() == [[1, 2]]
    metric.reset()
    assert not metric.counts.any()


def test_processes_merge_by_summing():
    one, two = CountsByImage(2, 1), CountsByImage(2, 1)
    one.update(0, [1])
    two.update(0, [2])
    two.update(1, [4])
    one.merge_state(two)
    assert one.compute().tolist() == [[3], [4]]


@pytest.mark.parametrize("image", [-1, 2])
def test_an_image_that_was_not_announced_is_refused(image):
    with pytest.raises(TissueDataError, match=f"image={image}, wanted 0 to 1"):
        CountsByImage(2, 1).update(image, [1])


def test_counts_of_another_shape_are_refused():
    with pytest.raises(TissueDataError, match=r"counts of shape \(1,\) for image 0, wanted \(2,\)"):
        CountsByImage(2, 2).update(0, [1])
