"""Every score is explained, and by its own sentence."""

import pytest

from tissueseg.metrics.definitions import METRIC_DEFINITIONS, definition_of
from tissueseg.metrics.detection import detection_scores
from tissueseg.metrics.panoptic import panoptic_scores


@pytest.mark.parametrize("pattern", METRIC_DEFINITIONS)
def test_no_definition_hides_behind_one_before_it(pattern):
    assert definition_of(pattern.replace("*", "of")) == METRIC_DEFINITIONS[pattern]


def test_means_over_classes_say_whether_the_background_counts():
    assert "background included" in definition_of("val/dice/macro")
    assert "but the background" in definition_of("test/iou/macro_foreground")
    assert "mean" not in definition_of("val/dice/macrophage")


def test_scores_of_cells_are_defined():
    counts = [[[1, 0, 0, 0.75]] * 3]
    scores = panoptic_scores(counts, ("a", "b"), ("group",))
    scores |= detection_scores([[[1] * 4] * 4], ("a", "b"))
    assert {name for name in scores if definition_of(f"test/{name}") is None} == set()


def test_what_nobody_defined_is_not_made_up():
    assert definition_of("val/score") is None
