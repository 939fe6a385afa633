import torch

from tissueseg.contracts import IGNORE
from tissueseg.losses.boundary import BoundaryBCE


def test_two_pixels_by_hand(make_batch):
    logits = torch.tensor([3.0, 1 / 3]).log().view(1, 1, 1, 2)  # p = 3/4, 1/4
    batch = make_batch([[[1, 0]]], boundary=[[[[1.0, 0.0]]]])
    once = -torch.tensor(0.75).log()
    torch.testing.assert_close(BoundaryBCE()({"boundary": logits}, batch), once)
    torch.testing.assert_close(BoundaryBCE(3.0)({"boundary": logits}, batch), 2 * once)


def test_untyped_nuclei_count_and_unknown_ground_does_not(make_batch):
    # IGNORE with an instance: a nucleus without type; IGNORE without: unknown
    batch = make_batch([[[IGNORE, IGNORE]]], boundary=[[[[1.0, 1.0]]]], labels=[[[4, 0]]])
    logits = torch.zeros(1, 1, 1, 2, requires_grad=True)
    value = BoundaryBCE()({"boundary": logits}, batch)
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(2.0).log())
    assert logits.grad.flatten().tolist() == [-0.5, 0.0]
