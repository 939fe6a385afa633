"""Views of items: image, classes, labels and targets of one tile are always in the same view."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tissueseg.contracts import IGNORE, Modality, Normalisation
from tissueseg.data.dataset import Pick, TileDataset, collate
from tissueseg.data.images import TileImages
from tissueseg.data.normalise import Normaliser
from tissueseg.data.targets import BoundaryTarget, Targets
from tissueseg.data.tiles import EDGES
from tissueseg.data.views import Views

DIHEDRAL = [
    lambda p: p,
    lambda p: np.swapaxes(p, -1, -2)[..., ::-1, :],  # a quarter turn, counter-clockwise
    lambda p: p[..., ::-1, ::-1],
    lambda p: np.swapaxes(p, -1, -2)[..., ::-1],
    lambda p: p[..., ::-1],  # left is right; then the same turns of that
    lambda p: np.swapaxes(p, -1, -2),
    lambda p: p[..., ::-1, :],
    lambda p: np.swapaxes(p, -1, -2)[..., ::-1, ::-1],
]
# Offsets to a nucleus' centre turn like vectors: (horizontal, vertical) after, from those before.
TURNS = ["+h +v", "+v -h", "-h -v", "-v +h", "-h +v", "+v +h", "+h -v", "-v -h"]
SOME = (0, 4, 9, 11, 13)
"""Of 14: one inside; at the lower edge, at the right one (1 px wide), in a corner, lower than a tile."""
EIGHT = Views(8)
EXTRA = Views(8, extra=3, he_jitter=0.3, sp_dropout=0.5)


def numpy_of(item):
    return {name: np.asarray(part) for name, part in item._asdict().items() if name != "targets"}


def assert_same(one, other):
    for name, part in numpy_of(one._replace(features=torch.empty(0))).items():
        np.testing.assert_array_equal(part, getattr(other, name) if name != "features" else [])
    assert one.targets.keys() == other.targets.keys()
    assert all(torch.equal(one.targets[head], other.targets[head]) for head in one.targets)


@pytest.mark.parametrize("element", range(8))
@pytest.mark.parametrize("options", [{"edge": "pad"}, {"edge": "shift", "halo_px": 8}], ids=str)
def test_image_classes_and_labels_turn_together(make_dataset, element, options):
    dataset = make_dataset(views=EIGHT, **options)
    beyond = 0
    for i in SOME:
        plain, item = dataset[i], dataset[Pick(i, element)]
        for name in ("image", "classes", "labels"):
            turned = DIHEDRAL[element](getattr(plain, name).numpy())
            np.testing.assert_array_equal(getattr(item, name), turned)
        assert torch.equal(item.present, plain.present)
        assert (item.tissue, item.view) == (plain.tissue, element)
        assert torch.equal(item.origin, plain.origin)
        beyond += int((item.classes == IGNORE).sum())
    assert beyond > 0  # even shifted tiles reach beyond the smallest tissue


@pytest.mark.parametrize("element", range(8))
@pytest.mark.parametrize("edges_of", ["instances", "classes"])
def test_targets_are_those_of_the_turned_labels(make_dataset, element, edges_of):
    """Of the part inside the tissue, which lies at another side now; beyond they are 0."""
    dataset, target = make_dataset(views=EIGHT, edges_of=edges_of), BoundaryTarget(edges_of)
    for i in SOME:
        item = dataset[Pick(i, element)]
        inside = (item.classes != IGNORE).numpy()  # every pixel of these tissues is typed
        part = np.ix_(inside.any(1), inside.any(0))
        expected = np.zeros((1, 32, 32), np.float32)
        expected[:, inside] = target(item.labels.numpy()[part], item.classes.numpy()[part]).ravel()
        np.testing.assert_array_equal(item.targets["boundary"], expected)


def offsets(labels, classes):
    """Horizontal and vertical distance of every nucleus' pixels to their mean."""
    maps = np.zeros((2, *labels.shape), np.float32)
    for label in np.unique(labels[labels > 0]):
        rows, columns = np.nonzero(labels == label)
        maps[:, rows, columns] = columns - columns.mean(), rows - rows.mean()
    return {"hv": maps}


@pytest.fixture
def make(uneven):
    """A dataset on `uneven` with targets of the test's own."""

    def make_one(targets, **options):
        normaliser = Normaliser.fit(uneven, ("a",), Modality.HE_SP, Normalisation())
        return TileDataset(uneven, uneven.tissues, normaliser, targets, 32, "pad", **options)

    return make_one


@pytest.mark.parametrize("element", range(8))
def test_directions_in_targets_follow_with_signs_and_axes(make, element):
    dataset, largest = make(offsets, views=EIGHT), 0
    for i in SOME:
        plain, item = (dataset[Pick(i, view)].targets["hv"].numpy() for view in (0, element))
        before = dict(zip("hv", DIHEDRAL[element](plain), strict=True))
        signs = [(float(f"{sign}1"), axis) for sign, axis in TURNS[element].split()]
        np.testing.assert_allclose(item, [s * before[axis] for s, axis in signs], atol=1e-5)
        largest = max(largest, np.abs(item).max())
    assert largest == 2.5  # of six pixels


def test_targets_see_what_other_tiles_own(make):
    """An edge is no edge of a nucleus because a neighbour owns the rest of it."""
    seen = []

    def record(labels, classes):
        seen.append((labels, classes))
        return {}

    dataset = make(record, views=EIGHT, owned_only=True)
    whole = make(lambda labels, classes: {}, views=EIGHT)
    for i, view in ((0, 3), (13, 5)):
        item, plain = dataset[Pick(i, view)], whole[Pick(i, view)]
        labels, classes = seen.pop()
        inside = (plain.classes != IGNORE).numpy()
        np.testing.assert_array_equal(labels.ravel(), plain.labels.numpy()[inside])
        np.testing.assert_array_equal(classes.ravel(), plain.classes.numpy()[inside])
        assert torch.equal(item.valid, item.classes != IGNORE)


@pytest.mark.parametrize("view", range(8, 11))
@pytest.mark.parametrize("halo_px", [0, 8])
def test_extra_views_show_what_is_encoded_for_the_store(make, uneven, view, halo_px):
    """Byte for byte what embedding reads; classes and labels turn as the image does."""
    dataset = make(lambda labels, classes: {}, views=EXTRA, halo_px=halo_px)
    normaliser = Normaliser.fit(uneven, ("a",), Modality.HE_SP, Normalisation())
    images = TileImages(uneven, uneven.tissues, normaliser, 32, halo_px)
    dropped = 0
    for i in SOME:
        plain, item = dataset[i], dataset[Pick(i, view)]
        tissue, origin = dataset.tissues[int(item.tissue)], tuple(item.origin.tolist())
        drawn = EXTRA.view(view, tissue, origin)
        image, present = images.read(tissue, origin, drawn)
        assert item.image.numpy().tobytes() == image.tobytes()
        assert item.present.tolist() == present.tolist()
        assert not item.image[~item.present].any()
        for name in ("classes", "labels"):
            turned = DIHEDRAL[drawn.element](getattr(plain, name).numpy())
            np.testing.assert_array_equal(getattr(item, name), turned)
        dropped += int((~item.present).sum())
    assert dropped > 0


def test_view_0_is_the_item_as_it_stands(make_dataset):
    plain, many = make_dataset(), make_dataset(views=EXTRA)
    for i in range(len(plain)):
        assert_same(many[i], plain[i])
        assert_same(many[Pick(i, 0)], plain[i])
    assert int(plain[0].view) == 0


@pytest.mark.parametrize("view", [-1, 11])
def test_there_is_no_view_beyond_the_last(make_dataset, view):
    with pytest.raises(IndexError, match=f"view {view} of 11"):
        make_dataset(views=EXTRA)[Pick(0, view)]


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("tile_px", [16, 24, 33])
def test_places_are_those_of_the_items(make_dataset, edge, tile_px):
    dataset = make_dataset(tile_px, edge, tissues=("c", "a", "b"))
    tissues, origins = dataset.places()
    found = [dataset.tile(i) for i in range(len(dataset))]
    assert tissues.tolist() == [tissue for tissue, _ in found]
    assert origins.tolist() == [[tile.rows.start, tile.columns.start] for _, tile in found]
    assert [dataset[i].origin.tolist() for i in range(len(dataset))] == origins.tolist()


def test_worker_processes_and_copies_give_the_views_that_were_picked(make_dataset):
    dataset = make_dataset(views=EXTRA)
    picks = [Pick(i, (3 * i) % 11) for i in range(12)]
    here = collate([dataset[pick] for pick in picks])
    assert here.view.tolist() == [pick.view for pick in picks]
    (there,) = DataLoader(dataset, 12, sampler=picks, collate_fn=collate, num_workers=1)
    copied = pickle.loads(pickle.dumps(dataset))
    for other in (there, collate([copied[pick] for pick in picks])):
        assert_same(here, other)


def test_heads_without_targets_need_none(make):
    dataset = make(Targets.for_heads(["classes"], BoundaryTarget()), views=EIGHT)
    assert dataset[Pick(13, 5)].targets == {}
