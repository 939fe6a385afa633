import pytest
import torch

from tissueseg.contracts import IGNORE, Batch


@pytest.fixture
def make_batch():
    """Builds a Batch around a class image; instances are its foreground, boundaries its rim."""

    def make(classes, boundary=None, labels=None):
        classes = torch.as_tensor(classes)
        known = (classes != IGNORE) & (classes > 0)
        labels = known.int() if labels is None else torch.as_tensor(labels)
        edges = labels.float().unsqueeze(1) if boundary is None else torch.as_tensor(boundary)
        b = len(classes)
        return Batch(
            image=torch.zeros(b, 1, *classes.shape[1:]),
            present=torch.ones(b, 1, dtype=torch.bool),
            classes=classes,
            labels=labels,
            targets={"boundary": edges},
            tissue=torch.zeros(b, dtype=torch.int64),
            origin=torch.zeros(b, 2, dtype=torch.int64),
            view=torch.zeros(b, dtype=torch.int64),
        )

    return make


@pytest.fixture
def random_batch(make_batch):
    """Two tiles of 3 classes, 8 × 8, the right quarter IGNORE."""
    classes = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    classes[..., 6:] = IGNORE
    return make_batch(classes)


@pytest.fixture
def random_outputs():
    """Logits for `random_batch`."""
    generator = torch.Generator().manual_seed(1)
    return {
        "classes": torch.randn(2, 3, 8, 8, generator=generator, requires_grad=True),
        "boundary": torch.randn(2, 1, 8, 8, generator=generator, requires_grad=True),
    }
