"""Tiles as a dataset: the right pixels of the right images, each counted once."""

import pickle

import numpy as np
import pytest
import torch
from stores import random_tissue, whole, write_store
from torch.utils.data import DataLoader

from tissueseg.contracts import IGNORE, Modality, Normalisation
from tissueseg.data.dataset import collate
from tissueseg.data.normalise import Normaliser
from tissueseg.errors import SplitError
from tissueseg.instances.boundary import class_boundary, instance_boundary


def assert_equal(one, other):
    assert one.targets.keys() == other.targets.keys()
    for name in (name for name in one._fields if name not in ("targets", "features")):
        a, b = getattr(one, name), getattr(other, name)
        assert a == b if isinstance(a, int) else torch.equal(a, b)
    assert all(torch.equal(one.targets[k], other.targets[k]) for k in one.targets)


def pasted(dataset, tissue, field, shape):
    """A whole tissue put together from the counted pixels of its tiles, and how often each counts."""
    picture, counts = np.full(shape, -1, np.int64), np.zeros(shape, int)
    for item in (dataset[i] for i in range(len(dataset))):
        if dataset.tissues[item.tissue] != tissue:
            continue
        rows, columns = np.nonzero((item.classes != IGNORE).numpy())
        y, x = rows + int(item.origin[0]), columns + int(item.origin[1])
        picture[y, x] = getattr(item, field).numpy()[rows, columns]
        np.add.at(counts, (y, x), 1)
    return picture, counts


def test_shapes_and_types(make_dataset):
    item = make_dataset(32)[0]
    assert (item.image.shape, item.image.dtype) == ((5, 32, 32), torch.float32)
    assert (item.classes.shape, item.classes.dtype) == ((32, 32), torch.int64)
    assert (item.labels.shape, item.labels.dtype) == ((32, 32), torch.int32)
    assert item.targets["boundary"].shape == (1, 32, 32)
    assert item.targets["boundary"].dtype == torch.float32
    assert (item.tissue.dtype, item.origin.dtype) == (torch.int64, torch.int64)
    assert item.origin.shape == (2,)


@pytest.mark.parametrize("edge", ["pad", "shift"])
@pytest.mark.parametrize("tile_px", [16, 32, 64])
def test_owned_pixels_put_every_tissue_back_together(make_dataset, uneven, edge, tile_px):
    dataset = make_dataset(tile_px, edge, owned_only=True)
    for tissue in dataset.tissues:
        for field in ("classes", "labels"):
            stored = whole(uneven, tissue, {"labels": "instances"}.get(field, field))
            picture, counts = pasted(dataset, tissue, field, stored.shape)
            assert (counts == 1).all()
            np.testing.assert_array_equal(picture, stored)


def test_drop_counts_the_whole_tiles_once(make_dataset, uneven):
    dataset = make_dataset(32, "drop", owned_only=True)
    stored = whole(uneven, "b", "classes")  # 70 × 33
    picture, counts = pasted(dataset, "b", "classes", stored.shape)
    np.testing.assert_array_equal(counts, np.pad(np.ones((64, 32), int), ((0, 6), (0, 1))))
    np.testing.assert_array_equal(picture[:64, :32], stored[:64, :32])
    assert len(dataset) == 2 + 2  # none in c, which is lower than a tile


def test_training_tiles_keep_what_overlaps(make_dataset):
    shifted = make_dataset(32, "shift")
    assert all((shifted[i].classes != IGNORE).all() for i in range(2 * 3 + 3 * 2))


def test_sp_alone_never_sees_he(make_dataset, uneven, tmp_path):
    """The study's fault 2: its "SP-only" arm got raw H&E through the image skip."""
    tissues = {
        t: random_tissue(
            *whole(uneven, t, "classes").shape,
            he=255 - whole(uneven, t, "he"),
            sp=whole(uneven, t, "sp"),
            instances=whole(uneven, t, "instances"),
            classes=whole(uneven, t, "classes"),
        )
        for t in uneven.tissues
    }
    other = write_store(tmp_path / "other.zarr", tissues)
    one, two = make_dataset(modality="sp"), make_dataset(modality="sp", store=other)
    assert one[0].image.shape[0] == len(uneven.panel)
    for i in range(len(one)):
        assert_equal(one[i], two[i])
    both, both_other = make_dataset(), make_dataset(store=other)
    assert not torch.equal(both[0].image, both_other[0].image)


def test_stacked_images_are_he_then_sp(make_dataset):
    he, sp, both = (make_dataset(modality=m)[3].image for m in ("he", "sp", "he_sp"))
    assert (len(he), len(sp)) == (3, 2)
    assert torch.equal(both, torch.cat([he, sp]))


def test_image_pixels_are_the_normalised_store_s(make_dataset, uneven):
    item = make_dataset(32, "shift")[5]  # last tile of a: rows 16 … 47, columns 48 … 79
    assert (int(item.tissue), item.origin.tolist()) == (0, [16, 48])
    raw = whole(uneven, "a", "he")[:, 16:48, 48:80]
    np.testing.assert_allclose(item.image[:3], raw / 127.5 - 1, atol=1e-6)
    normaliser = Normaliser.fit(uneven, ("a", "b"), Modality.HE_SP, Normalisation())
    sp = normaliser.sp(whole(uneven, "a", "sp")[:, 16:48, 48:80], normaliser.clips(uneven, "a"))
    np.testing.assert_array_equal(item.image[3:], sp)


def test_beyond_the_edge_images_are_mirrored_and_classes_ignored(make_dataset, uneven):
    dataset = make_dataset(64)
    item = dataset[len(dataset) - 1]  # c, 20 × 50: the padding is larger than the tissue
    assert int(item.tissue) == 2
    assert (item.classes[20:] == IGNORE).all()
    assert (item.classes[:, 50:] == IGNORE).all()
    assert not item.labels[20:].any()
    np.testing.assert_array_equal(item.classes[:20, :50], whole(uneven, "c", "classes"))
    image = item.image
    torch.testing.assert_close(image[:, 20:40], image[:, :20].flip(1))
    torch.testing.assert_close(image[:, 40:60], image[:, :20])
    torch.testing.assert_close(image[:, :, 50:], image[:, :, 36:50].flip(2))
    assert not item.valid[20:].any()


@pytest.mark.parametrize("edges_of", ["instances", "classes"])
def test_the_end_of_a_tissue_is_no_edge_of_a_nucleus(make_dataset, tmp_path, edges_of):
    """Nothing is known beyond: padded tiles have the targets that tiles inside the tissue have."""
    full = np.ones((20, 50), np.int32)
    store = write_store(
        tmp_path / "s.zarr", {"a": random_tissue(20, 50, instances=full, classes=full)}
    )
    for tile_px in (10, 32, 64):
        dataset = make_dataset(tile_px, tissues=("a",), store=store, edges_of=edges_of)
        assert not any(dataset[i].targets["boundary"].any() for i in range(len(dataset)))


@pytest.mark.parametrize("edges_of", ["instances", "classes"])
@pytest.mark.parametrize("edge", ["pad", "shift"])
def test_targets_are_those_of_the_tile_s_labels(make_dataset, edge, edges_of):
    dataset = make_dataset(32, edge, edges_of=edges_of)
    for i in range(len(dataset)):
        item = dataset[i]
        height, width = (int((item.classes != IGNORE).any(axis).sum()) for axis in (1, 0))
        labels, classes = item.labels.numpy(), item.classes.numpy()
        inside = np.s_[:height, :width]
        expected = np.zeros((32, 32))
        expected[inside] = (
            instance_boundary(labels[inside])
            if edges_of == "instances"
            else class_boundary(classes[inside])
        )
        np.testing.assert_array_equal(item.targets["boundary"][0], expected)


@pytest.mark.parametrize("edge", ["pad", "shift"])
def test_owned_only_hides_classes_and_labels_alone(make_dataset, edge):
    every, owned = make_dataset(32, edge), make_dataset(32, edge, owned_only=True)
    for one, two in ((every[i], owned[i]) for i in range(len(every))):
        assert_equal(one._replace(classes=0, labels=0), two._replace(classes=0, labels=0))
        kept = two.classes != IGNORE
        assert torch.equal(one.classes[kept], two.classes[kept])
        assert torch.equal(one.labels[kept], two.labels[kept])
        assert torch.equal(two.valid, kept)  # so no loss on labels counts a pixel twice either


def test_index_runs_through_the_tissues_in_order(make_dataset):
    dataset = make_dataset(32)  # 2 × 3, 3 × 2 and 1 × 2 tiles
    assert len(dataset) == 14
    items = [dataset[i] for i in range(14)]
    assert [int(item.tissue) for item in items] == [0] * 6 + [1] * 6 + [2] * 2
    assert [item.origin.tolist() for item in items[4:9]] == [
        [32, 32],
        [32, 64],
        [0, 0],
        [0, 32],
        [32, 0],
    ]
    for outside in (-1, 14):
        with pytest.raises(IndexError):
            dataset[outside]


def test_tissues_without_a_tile_are_passed_over(make_dataset):
    dataset = make_dataset(32, "drop", tissues=("c", "a", "c", "b"))
    assert [int(dataset[i].tissue) for i in range(len(dataset))] == [1, 1, 3, 3]


def test_a_tile_that_fits_nowhere_is_refused(make_dataset):
    with pytest.raises(
        SplitError, match=r"no tile of 128 px fits into \['a', 'b', 'c'\].*edge=pad"
    ):
        make_dataset(128, "drop")


def test_a_copy_in_another_process_reads_the_same(make_dataset):
    dataset = make_dataset(32, "shift")
    dataset[0]  # opens handles
    assert_equal(pickle.loads(pickle.dumps(dataset))[7], dataset[7])


def test_items_are_stacked_into_a_batch(make_dataset):
    dataset = make_dataset(32)
    batch = collate([dataset[i] for i in (0, 7, 13)])
    assert batch.image.shape == (3, 5, 32, 32)
    assert batch.targets["boundary"].shape == (3, 1, 32, 32)
    assert batch.tissue.tolist() == [0, 1, 2]
    assert batch.origin.tolist() == [[0, 0], [0, 32], [0, 32]]
    assert batch.valid.shape == (3, 32, 32)
    torch.testing.assert_close(batch.image[1], dataset[7].image)


def test_worker_processes_read_what_this_one_reads(make_dataset):
    dataset = make_dataset(32)
    here = [collate([dataset[i] for i in range(j, min(j + 3, 14))]) for j in range(0, 14, 3)]
    options = {"num_workers": 2, "persistent_workers": True}
    loader = DataLoader(dataset, batch_size=3, collate_fn=collate, **options)
    for _ in range(2):  # the workers outlive an epoch
        for one, two in zip(loader, here, strict=True):
            assert_equal(one, two)


@pytest.mark.parametrize("halo_px", [4, 40])  # less, and more than the smaller tissues hold
def test_a_halo_shows_what_lies_around_and_mirrors_beyond_the_tissue(make_dataset, uneven, halo_px):
    plain, wide = make_dataset(32), make_dataset(32, halo_px=halo_px)
    for i in range(len(plain)):
        tile, item = plain[i], wide[i]
        assert item.image.shape == (5, 32 + 2 * halo_px, 32 + 2 * halo_px)
        core = item.image[:, halo_px:-halo_px, halo_px:-halo_px]
        assert torch.equal(core, tile.image)
        assert_equal(item._replace(image=0), tile._replace(image=0))
        tissue = dataset_he(uneven, wide.tissues[int(item.tissue)])
        y, x = (int(start) for start in item.origin)
        rows, columns = (
            mirrored(np.arange(start - halo_px, start + 32 + halo_px), length)
            for start, length in zip((y, x), tissue.shape[1:], strict=True)
        )
        np.testing.assert_allclose(item.image[:3], tissue[:, rows][:, :, columns], atol=1e-6)


def dataset_he(store, tissue):
    return whole(store, tissue, "he").astype(np.float32) / 127.5 - 1


def mirrored(index, length):
    """The edge pixel twice, back and forth."""
    there_and_back = [*range(length), *reversed(range(length))]
    return np.array([there_and_back[i % len(there_and_back)] for i in index])


def test_channels_without_signal_are_marked_absent_where_they_are_silent(tmp_path, make_dataset):
    lit, dark = random_tissue(64, 64, 0), random_tissue(64, 64, 1)
    dark.sp[1] = 0
    store = write_store(tmp_path / "s.zarr", {"lit": lit, "dark": dark})
    dataset = make_dataset(64, tissues=("lit", "dark"), store=store)
    batch = collate([dataset[0], dataset[1]])
    assert batch.present.tolist() == [[True] * 5, [True] * 4 + [False]]
    assert not batch.image[1, 4].any()
