import pytest
import torch

from tissueseg.contracts import IGNORE, Batch

CHANNELS = {"classes": 3, "foreground": 1, "boundary": 1, "hv": 2}


@pytest.fixture
def make_batch():
    """Builds a Batch around a class image; instances are its foreground, boundaries its rim."""

    def make(classes, boundary=None, labels=None, **targets):
        classes = torch.as_tensor(classes)
        known = (classes != IGNORE) & (classes > 0)
        labels = known.int() if labels is None else torch.as_tensor(labels)
        inside = (labels > 0).float().unsqueeze(1)
        edges = labels.float().unsqueeze(1) if boundary is None else torch.as_tensor(boundary)
        made = {"boundary": edges, "foreground": inside, "hv": 0.5 * inside.expand(-1, 2, -1, -1)}
        b = len(classes)
        return Batch(
            image=torch.zeros(b, 1, *classes.shape[1:]),
            present=torch.ones(b, 1, dtype=torch.bool),
            classes=classes,
            labels=labels,
            targets=made | {head: torch.as_tensor(target) for head, target in targets.items()},
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
    """Logits for `random_batch`, of every head and of the coarse ones that slots have."""
    generator = torch.Generator().manual_seed(1)

    def draw(channels, side):
        return torch.randn(2, channels, side, side, generator=generator, requires_grad=True)

    coarse = {"boundary_stride4": 2, "boundary_stride2": 4}
    coarse |= {"foreground_stride4": 2, "foreground_stride1": 8}
    return {head: draw(channels, 8) for head, channels in CHANNELS.items()} | {
        head: draw(1, side) for head, side in coarse.items()
    }
