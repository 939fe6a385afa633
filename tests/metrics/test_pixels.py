import torch

from tissueseg.contracts import IGNORE, Batch
from tissueseg.heads import NUCLEUS, scored_classes
from tissueseg.metrics.pixels import pixel_ids, predicted_ids


def batch(classes, labels):
    nothing = torch.zeros(1)
    return Batch(nothing, nothing, classes, labels, {}, nothing, nothing, nothing)


def test_classes_win_over_foreground():
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 2, 0, 1] = 1
    outputs = {"classes": logits, "foreground": torch.full((1, 1, 1, 2), 9.0)}
    assert predicted_ids(outputs).tolist() == [[[0, 2]]]
    classes = torch.tensor([[[1, IGNORE]]])
    assert pixel_ids(outputs, batch(classes, classes)).truth is classes


def test_without_classes_a_pixel_is_nucleus_or_not():
    """A cell of unknown type is a nucleus; what is neither typed nor labelled is not known."""
    classes = torch.tensor([[[0, 2, IGNORE, IGNORE]]])
    labels = torch.tensor([[[0, 7, 8, 0]]], dtype=torch.int32)
    outputs = {"foreground": torch.tensor([[[[-1.0, 1.0, 0.0, -0.1]]]])}
    found = pixel_ids(outputs, batch(classes, labels))
    assert found.truth.tolist() == [[[0, 1, 1, IGNORE]]]
    assert found.predicted.tolist() == [[[0, 1, 1, 0]]]


def test_the_scored_classes_follow_the_heads(classes):
    assert scored_classes(["classes", "foreground"], classes) == classes
    assert scored_classes(["foreground", "hv"], classes) == (classes[0], NUCLEUS)
