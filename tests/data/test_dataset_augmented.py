"""Items that are altered: image, labels, classes and targets of one draw, whoever reads them."""

import pickle
import threading
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tissueseg.contracts import IGNORE
from tissueseg.data.augment import Augmentation
from tissueseg.data.dataset import Pick, collate
from tissueseg.data.sp_noise import ChannelDropout, Gain, ShotNoise
from tissueseg.data.targets import BoundaryTarget
from tissueseg.data.transforms import library_ready
from tissueseg.data.views import Views

library_ready()
import albumentations as A  # noqa: E402 - it asks a server for its newest version unless told not to

SOME = (0, 4, 9, 11, 13)
"""Of 14: one inside; at the lower edge, at the right one (1 px wide), in a corner, lower than a tile."""
EIGHT = Views(8)
STILL = {"turn": partial(A.Affine, rotate=0, p=0.0)}
SHEARED = {"affine": partial(A.Affine, rotate=45, scale=(0.8, 1.2), shear=8, border_mode=4, p=1)}
SHIFTED = {"shift": partial(A.Affine, translate_px={"x": (5, 5), "y": (-3, -3)}, p=1)}
HE = {"jitter": partial(A.ColorJitter, p=1)}
SP = {"shot": ShotNoise(), "gain": Gain(0.2), "dropout": ChannelDropout(0.5)}


def augmented(tile_px=32, halo_px=0, images=("he", "sp"), **parts):
    return Augmentation(images, tile_px, halo_px, **parts)


def assert_same(one, other):
    for name in ("image", "present", "classes", "labels", "tissue", "origin", "view"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
    for head, target in one.targets.items():
        np.testing.assert_array_equal(target.numpy(), other.targets[head].numpy())


@pytest.mark.parametrize("halo_px", [0, 8])
@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_parts_that_are_not_drawn_leave_tiles_bit_for_bit(make_dataset, halo_px, margin):
    """Through margin, mirrored masks and cropping, at every edge of the tissue and in every view."""
    plain = make_dataset(views=EIGHT, halo_px=halo_px)
    still = augmented(halo_px=halo_px, geometry=STILL, margin=margin)
    dataset = make_dataset(views=EIGHT, halo_px=halo_px, augmentation=still)
    for i in range(len(plain)):
        for view in (0, 5):
            assert_same(dataset[Pick(i, view, 7)], plain[Pick(i, view)])


def test_an_item_asked_for_by_its_number_is_as_it_stands(make_dataset):
    dataset = make_dataset(augmentation=augmented(geometry=SHEARED, he=HE, sp=SP))
    assert_same(dataset[4], make_dataset()[4])


def test_tiles_move_into_real_tissue(make_dataset):
    """A shift by whole pixels shows what a tile that lies there shows."""
    wide = make_dataset(48, "shift", tissues=("a",))
    moved = make_dataset(
        32, "shift", tissues=("a",), augmentation=augmented(geometry=SHIFTED, margin=0.25)
    )
    i = [tuple(origin) for origin in moved.places()[1].tolist()].index((16, 32))
    item = moved[Pick(i, 0, 1)]  # to the right by 5 and up by 3: rows 19 …, columns 27 …
    around = wide[[tuple(o) for o in wide.places()[1].tolist()].index((0, 0))]
    y, x = 19, 27
    known = slice(None), slice(y, 48), slice(x, 48)  # of a tile of 48 px
    np.testing.assert_allclose(item.image[:, : 48 - y, : 48 - x], around.image[known], atol=1e-5)
    np.testing.assert_array_equal(item.labels[: 48 - y, : 48 - x], around.labels[known[1:]])
    np.testing.assert_array_equal(item.classes[: 48 - y, : 48 - x], around.classes[known[1:]])
    assert (item.classes[: 48 - y] != IGNORE).all()
    assert (item.classes[48 - y :] == IGNORE).all()  # `a` is 48 px high
    assert not item.labels[48 - y :].any()


@pytest.mark.parametrize("halo_px", [0, 8])
def test_labels_keep_ids_and_classes_wherever_they_go(make_dataset, halo_px):
    plain = make_dataset(views=EIGHT)
    class_of, beyond = {}, 0
    for i in range(len(plain)):
        item = plain[i]
        for label in item.labels.unique().tolist():
            classes = item.classes[item.labels == label].unique()
            class_of.setdefault((int(item.tissue), label), classes[classes != IGNORE].tolist())
    augmentation = augmented(halo_px=halo_px, geometry=SHEARED, margin=0.25)
    dataset = make_dataset(views=EIGHT, halo_px=halo_px, augmentation=augmentation)
    for draw in range(40):
        item = dataset[Pick(SOME[draw % 5], draw % 8, draw)]
        assert item.image.shape == (5, 32 + 2 * halo_px, 32 + 2 * halo_px)
        assert (item.labels.dtype, item.classes.dtype) == (torch.int32, torch.int64)
        for label in item.labels.unique().tolist():
            found = item.classes[item.labels == label].unique().tolist()
            assert set(found) <= {*class_of[int(item.tissue), label], *([] if label else [IGNORE])}
        beyond += int((item.classes == IGNORE).sum())
        assert not item.labels[item.classes == IGNORE].any()
    assert beyond > 0


@pytest.mark.parametrize("edges_of", ["instances", "classes"])
def test_targets_are_made_of_the_moved_labels(make_dataset, edges_of):
    augmentation = augmented(16, geometry=SHEARED, margin=0.35)
    dataset = make_dataset(16, views=EIGHT, edges_of=edges_of, augmentation=augmentation)
    target, unknown, whole = BoundaryTarget(edges_of), 0, 0
    for draw in range(60):
        item = dataset[Pick(draw % len(dataset), draw % 8, draw)]
        made = item.targets["boundary"][0].numpy()
        inside = (item.classes != IGNORE).numpy()
        wanted = target(item.labels.numpy(), item.classes.numpy())[0]
        assert not made[~inside].any()
        near = np.pad(~inside, 1, constant_values=False)
        rim = near[:-2, 1:-1] | near[2:, 1:-1] | near[1:-1, :-2] | near[1:-1, 2:]
        np.testing.assert_array_equal(made[inside & ~rim], wanted[inside & ~rim])
        assert not (np.isnan(made) & ~rim).any()  # pixels with a neighbour beyond the tissue
        unknown += int(np.isnan(made).sum())
        whole += bool(inside.all())
    assert unknown > 0
    assert whole > 5


def test_images_are_altered_by_modality(make_dataset):
    parts = {"he": HE, "sp": SP}
    plain, dataset = make_dataset(), make_dataset(augmentation=augmented(**parts))
    before, after = plain[0], dataset[Pick(0, 0, 3)]
    for name in ("labels", "classes"):
        assert torch.equal(getattr(before, name), getattr(after, name))
    assert not torch.equal(before.image[:3], after.image[:3])
    assert not torch.equal(before.image[3:], after.image[3:])
    dropped = 0
    for draw in range(20):
        item = dataset[Pick(0, 0, draw)]
        assert not item.image[~item.present].any()
        assert item.present[:3].all()
        assert item.present[3:].any()
        dropped += int((~item.present).sum())
    assert dropped > 0
    only = make_dataset(modality="he", augmentation=augmented(images=("he",), **parts))
    assert torch.equal(only[Pick(0, 0, 3)].image, after.image[:3])


def test_a_colour_reaches_into_the_halo(make_dataset):
    """One draw for all an encoder sees: the tile in the halo's image is the tile in its own."""
    shade = {"shade": partial(A.ColorJitter, contrast=0, saturation=0, hue=0, p=1)}
    images = [
        make_dataset(halo_px=h, augmentation=augmented(halo_px=h, he=shade))[Pick(4, 0, 9)].image
        for h in (0, 8)
    ]
    assert torch.equal(images[0], images[1][:, 8:-8, 8:-8])


ALL = {"geometry": SHEARED, "he": HE, "sp": SP, "margin": 0.25}


def test_the_draw_decides_whatever_thread_worker_copy_or_order(make_dataset):
    dataset = make_dataset(views=EIGHT, augmentation=augmented(**ALL))
    picks = [Pick(i, i % 8, 1000 + i) for i in range(8)]
    here = [dataset[pick] for pick in picks]
    backwards = [dataset[pick] for pick in reversed(picks)][::-1]
    threaded = []
    thread = threading.Thread(target=lambda: threaded.extend(dataset[pick] for pick in picks))
    thread.start()
    thread.join()
    copied = pickle.loads(pickle.dumps(dataset))
    for other in (backwards, threaded, [copied[pick] for pick in picks]):
        for one, two in zip(here, other, strict=True):
            assert_same(one, two)
    (there,) = DataLoader(dataset, 8, sampler=picks, collate_fn=collate, num_workers=1)
    assert_same(collate(here), there)
    again = dataset[picks[0]._replace(draw=5)]
    assert not torch.equal(again.image, here[0].image)


def test_threads_that_read_at_once_do_not_disturb_each_other(make_dataset):
    dataset = make_dataset(views=EIGHT, augmentation=augmented(**ALL))
    picks = [Pick(i % 14, i % 8, i) for i in range(24)]
    alone, found = [dataset[pick] for pick in picks], {}

    def read(start):
        found.update({i: dataset[picks[i]] for i in range(start, 24, 3)})

    threads = [threading.Thread(target=read, args=(start,)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, one in enumerate(alone):
        assert_same(one, found[i])


def test_tiles_that_are_scored_are_never_altered(make_dataset):
    with pytest.raises(ValueError, match="owned_only is for scoring"):
        make_dataset(owned_only=True, augmentation=augmented(he=HE))
