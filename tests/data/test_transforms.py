"""The library's transforms: what is refused, how labels move, how draws repeat."""

import pickle
import threading
from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from tissueseg.data.transforms import Transforms, library_ready, random_zoom, superpixels
from tissueseg.errors import ConfigError

library_ready()
import albumentations as A  # noqa: E402 - it asks a server for its newest version unless told not to

SIDE = 48
GEOMETRY = {
    "affine": partial(A.Affine, scale=(0.8, 1.2), rotate=45, shear=8, p=1),
    "reflected": partial(A.Affine, rotate=30, translate_percent=0.2, border_mode=4, p=1),
    "elastic": partial(A.ElasticTransform, alpha=60, sigma=6, border_mode=4, p=1),
    "zoom": partial(random_zoom, largest=2.0, p=1),
    "grid": partial(A.GridDistortion, p=1),
    "mirror": partial(A.HorizontalFlip, p=1),
    "turn": partial(A.RandomRotate90, p=1),
}
COLOUR = {
    "jitter": partial(A.ColorJitter, hue=0.05, p=1),
    "stain": partial(A.HEStain, p=1),
    "noise": partial(A.GaussNoise, std_range=(0.01, 0.1), p=1),
    "blur": partial(A.Blur, p=1),
    "zoom_blur": partial(A.ZoomBlur, p=1),
    "superpixels": partial(superpixels, p=1),
}


def picture(channels=5, seed=0):
    return np.random.default_rng(seed).random((SIDE, SIDE, channels), np.float32)


def nuclei(seed=0):
    """Labels of blocks of 6 px with ids of any size, classes of theirs, and ones."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 2**31, (8, 8)).astype(np.int32)
    ids[rng.random((8, 8)) < 0.4] = 0
    labels = np.kron(ids, np.ones((6, 6), np.int32))
    return np.stack([labels, np.where(labels > 0, labels % 4 + 1, 0), np.ones_like(labels)], -1)


def move(transforms, image, planes, seeds):
    """Images and planes with their channels last."""
    parts = transforms.move(*(np.moveaxis(part, -1, 0) for part in (image, planes)), seeds)
    return tuple(np.moveaxis(part, 0, -1) for part in parts)


@pytest.mark.parametrize("name", GEOMETRY)
def test_no_id_is_made_up_and_each_keeps_its_class(name):
    transforms, moved_at_all = Transforms("geometry", {name: GEOMETRY[name]}, SIDE), False
    for seed in range(12):
        planes = nuclei(seed)
        image, moved = move(transforms, picture(), planes, {name: seed})
        assert (image.shape, image.dtype) == ((SIDE, SIDE, 5), np.float32)
        assert (moved.shape, moved.dtype) == (planes.shape, np.int32)
        assert set(np.unique(moved[..., 0])) <= set(np.unique(planes[..., 0])) | {0}
        labels, classes, inside = np.moveaxis(moved, -1, 0)
        np.testing.assert_array_equal(classes, np.where(labels > 0, labels % 4 + 1, 0))
        assert set(np.unique(inside)) <= {0, 1}
        moved_at_all |= not np.array_equal(moved, planes)
    assert moved_at_all


@pytest.mark.parametrize("name", GEOMETRY)
def test_images_and_labels_move_alike(name):
    """A picture of the labels themselves stays theirs, but for the rim that interpolation mixes."""
    transforms = Transforms("geometry", {name: GEOMETRY[name]}, SIDE)
    for seed in range(6):
        planes = nuclei(seed)
        shown = (planes[..., :1] > 0).astype(np.float32)
        image, moved = move(transforms, np.repeat(shown, 4, axis=2), planes, {name: seed})
        inside = moved[..., 2] > 0
        assert inside.mean() > 0.4
        assert ((image[..., 0] > 0.5) == (moved[..., 0] > 0))[inside].mean() > 0.97


FAR = {
    "affine": partial(A.Affine, rotate=30, scale=0.7, translate_percent=0.2),
    "shift_scale_rotate": partial(A.ShiftScaleRotate, 0.2, (-0.3, 0.0), 30),
    "rotate": partial(A.Rotate, 60),
    "safe_rotate": partial(A.SafeRotate, 60),
    "perspective": partial(A.Perspective, 0.2, fit_output=True),
    "elastic": partial(A.ElasticTransform, alpha=60, sigma=6),
    "grid": partial(A.GridDistortion, distort_limit=0.5, normalized=False),
    "optical": partial(A.OpticalDistortion, distort_limit=(0.2, 0.3)),
    "crop_and_pad": partial(A.CropAndPad, percent=0.2),
    "pad_and_crop": partial(A.RandomCrop, SIDE + 16, SIDE + 16, pad_if_needed=True),
}


@pytest.mark.filterwarnings("ignore:ShiftScaleRotate")
@pytest.mark.parametrize("border_mode", [1, 4], ids=["stretched", "mirrored"])
@pytest.mark.parametrize("name", FAR)
def test_labels_end_where_images_are_carried_on(name, border_mode):
    """No block has another piece; those beyond what was given are 0 in all planes, not in images."""
    recipe = partial(FAR[name], border_mode=border_mode, fill_mask=3, p=1)
    transforms, beyond = Transforms("geometry", {name: recipe}, SIDE), 0
    side = np.arange(SIDE) // 12
    block = (side[:, None] * 4 + side + 1).astype(np.int32)
    planes = np.stack([block, block, np.ones_like(block)], -1)
    for seed in range(4):
        image, moved = move(transforms, 1 + picture(2), planes, {name: seed})
        labels, classes, inside = np.moveaxis(moved, -1, 0)
        np.testing.assert_array_equal(labels > 0, inside > 0)
        np.testing.assert_array_equal(labels, classes)
        for label in np.unique(labels[labels > 0]):
            _, pieces = ndimage.label(labels == label, np.ones((3, 3)))
            assert pieces == 1, (seed, label)
        assert image.min() >= 1
        beyond += int((inside == 0).sum())
    assert beyond > 0


@pytest.mark.parametrize("channels", [1, 4, 5, 43, 128, 129, 300])
@pytest.mark.parametrize("name", ["affine", "elastic", "zoom", "mirror"])
def test_any_number_of_channels_moves_as_one(name, channels):
    transforms = Transforms("geometry", {name: GEOMETRY[name]}, SIDE)
    one, planes = picture(1), nuclei()
    many = np.repeat(one, channels, axis=2)
    alone, _ = move(transforms, one, planes, {name: 3})
    image, _ = move(transforms, many, planes, {name: 3})
    assert image.shape == many.shape
    np.testing.assert_allclose(
        image, np.repeat(alone.reshape(SIDE, SIDE, 1), channels, 2), atol=2e-3
    )


def in_a_thread(job):
    found = []
    thread = threading.Thread(target=lambda: found.append(job()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.parametrize(
    ("group", "recipes"), [("geometry", GEOMETRY), ("he", COLOUR)], ids=["geometry", "he"]
)
def test_a_seed_gives_the_same_bits_in_any_order_thread_or_copy(group, recipes):
    transforms = Transforms(group, recipes, SIDE)
    rgb = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)

    def draw(seed, using=transforms):
        seeds = {name: seed * 100 + i for i, name in enumerate(recipes)}
        if group == "he":
            return using.colour(rgb, seeds).tobytes()
        return b"".join(part.tobytes() for part in move(using, picture(), nuclei(), seeds))

    first = [draw(seed) for seed in range(5)]
    assert [draw(seed) for seed in reversed(range(5))] == first[::-1]
    assert in_a_thread(lambda: draw(3)) == first[3]
    assert draw(2, pickle.loads(pickle.dumps(transforms))) == first[2]
    assert len(set(first)) == 5


@pytest.mark.parametrize(
    ("group", "recipes"), [("geometry", GEOMETRY), ("he", COLOUR)], ids=["geometry", "he"]
)
def test_all_that_are_usable_pass_their_trial(group, recipes, monkeypatch):
    tried, judge = [], Transforms._wrong_with

    def listen(self, name, seed, side_px):
        tried.append((name, seed))
        return judge(self, name, seed, side_px)

    monkeypatch.setattr(Transforms, "_wrong_with", listen)
    Transforms(group, recipes, SIDE).try_out()
    assert set(tried) == {(name, seed) for name in recipes for seed in range(3)}


REFUSED = {
    "an unknown argument": (
        "he",
        partial(A.Blur, blur=3),
        "cannot be built: blur unknown, choose from blur_limit",
    ),
    "a chance": ("he", partial(A.Blur, p=1.5), "cannot be built: p=1.5: Input should be less"),
    "a chance below": ("geometry", partial(A.Affine, p=-0.1), "cannot be built: p=-0.1: Input"),
    "a value": ("he", partial(A.Blur, blur_limit="x"), "cannot be built: blur_limit"),
    "movement among colours": ("he", partial(A.Affine), "is Affine, wanted one that leaves pixels"),
    "colour among movements": (
        "geometry",
        partial(A.Blur),
        "is Blur, wanted one that moves images",
    ),
    "a group of them": ("he", partial(A.OneOf, [A.Blur()]), "cannot be built|is OneOf"),
    "no transform": ("he", partial(dict, a=1), "cannot be built"),
    "no recipe": ("geometry", 3, "wanted a _target_"),
}


@pytest.mark.parametrize(("group", "recipe", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_built_is_refused_in_one_line(group, recipe, says):
    with pytest.raises(ConfigError, match=rf"^augmentation\.{group}\.part.*{says}") as refused:
        Transforms(group, {"part": recipe}, SIDE)
    assert "\n" not in str(refused.value)


TRIED = {
    "labels between ids": (
        "geometry",
        partial(A.Affine, rotate=(20, 20), mask_interpolation=1),
        "mixes ids|fails on tiles",
    ),
    "labels averaged": (
        "geometry",
        partial(A.RandomSizedCrop, (47, 48), (48, 48), mask_interpolation=1),
        "mixes ids|fails on tiles",
    ),
    "another size": ("geometry", partial(A.RandomCrop, 32, 32), "makes .*tiles must keep"),
    "another type": ("he", partial(A.Normalize), "makes float32"),
    "what needs more": ("geometry", partial(A.Mosaic), "fails on tiles"),
    "an old name": ("geometry", partial(A.ShiftScaleRotate), "special case of Affine"),
}


@pytest.mark.filterwarnings("ignore:ShiftScaleRotate")
@pytest.mark.parametrize(("group", "recipe", "says"), TRIED.values(), ids=TRIED)
def test_what_would_spoil_tiles_is_refused_when_tried_out(group, recipe, says):
    with pytest.raises(ConfigError, match=rf"^augmentation\.{group}\.part .*({says})") as refused:
        Transforms(group, {"part": recipe}, SIDE).try_out()
    assert "\n" not in str(refused.value)
