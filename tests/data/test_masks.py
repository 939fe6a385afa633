"""What moved tiles teach where they reach beyond what was read: nothing, and nothing of it elsewhere."""

from functools import partial

import numpy as np
from scipy import ndimage
from stores import random_tissue, write_store

from tissueseg.contracts import IGNORE, Modality, Normalisation
from tissueseg.data.augment import Augmentation
from tissueseg.data.dataset import Pick, TileDataset
from tissueseg.data.normalise import Normaliser
from tissueseg.data.targets import BoundaryTarget, Targets
from tissueseg.data.transforms import library_ready
from tissueseg.instances.boundary import instance_boundary
from tissueseg.instances.hv import encode_hv

library_ready()
import albumentations as A  # noqa: E402 - it asks a server for its newest version unless told not to


def one_tissue(folder, targets, **parts):
    """Tiles of 32 px, all inside a tissue, of heads that learn from more than classes."""
    store = write_store(folder / "s.zarr", {"a": random_tissue(64, 96, seed=3)})
    normaliser = Normaliser.fit(store, ("a",), Modality("he"), Normalisation())
    moving = Augmentation(("he",), 32, **parts)
    return TileDataset(store, ("a",), normaliser, targets, 32, "shift", augmentation=moving)


def pieces_of(labels):
    """Labels with an id of its own for every piece of a nucleus."""
    pieces = np.zeros_like(labels)
    for label in np.unique(labels[labels > 0]):
        found, _ = ndimage.label(labels == label, np.ones((3, 3)))
        pieces += np.where(found > 0, pieces.max() + found, 0)
    return pieces


def test_what_is_mirrored_from_beyond_the_margin_teaches_nothing(tmp_path):
    """Draws that reach far beyond what was read: no nucleus has a second piece, nor its offsets."""
    far = partial(A.Affine, rotate=40, scale=0.8, translate_percent=0.2, border_mode=4, p=1)
    targets = Targets(("foreground", "hv", "boundary"), BoundaryTarget())
    dataset, shares = one_tissue(tmp_path, targets, geometry={"far": far}), []
    for draw in range(24):
        item = dataset[Pick(draw % len(dataset), 0, draw)]
        labels, beyond = item.labels.numpy(), ~item.valid.numpy()
        pieces, made = pieces_of(labels), item.targets["hv"].numpy()
        assert pieces.max() == len(np.unique(labels[labels > 0]))
        assert beyond.any()
        assert (item.classes.numpy()[beyond] == IGNORE).all()
        assert not made[:, beyond].any()
        known = ~np.isnan(made)
        np.testing.assert_array_equal(made[known], encode_hv(pieces)[known])
        assert (item.targets["foreground"][0].numpy() == (labels > 0)).all()
        near = ndimage.binary_dilation(beyond, np.ones((3, 3)))
        cut = np.isin(labels, labels[near & (labels > 0)])
        assert known[:, ~cut].all()  # also beside the edge, if they do not touch it
        shares.append((np.isnan(made).any(0).sum(), (labels > 0).sum()))
    unknown, nuclear = np.sum(shares, axis=0)
    assert 0 < unknown < 0.5 * nuclear


def test_boundaries_are_not_known_where_what_was_read_ends(tmp_path):
    turned = {"turn": partial(A.Affine, rotate=(30, 30), border_mode=4, p=1)}
    dataset = one_tissue(tmp_path, Targets(("boundary",), BoundaryTarget()), geometry=turned)
    item = dataset[Pick(1, 0, 5)]
    labels, beyond = item.labels.numpy(), ~item.valid.numpy()
    rim = (labels > 0) & ndimage.binary_dilation(beyond)
    made, others = item.targets["boundary"][0].numpy(), (labels > 0) & ~rim
    assert rim.sum() > 3
    assert (
        np.isnan(made[rim]).mean() > 0.5
    )  # the rest are edges of two nuclei, or of background, too
    assert not np.isnan(made[others]).any()
    np.testing.assert_array_equal(made[others], instance_boundary(labels)[others])
