"""Chances of training tiles, on numbers worked by hand."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from stores import random_tissue, write_store

from tissueseg.data.chances import Foreground, Natural, Oversample, training_counts
from tissueseg.errors import ConfigError
from tissueseg.numbers import shown
from tissueseg.store.tile_counts import TileCounts
from tissueseg.store.tissues import TissueStore

# background, tumor, immune, stroma (nowhere), instances
COUNTS = np.array(
    [
        [100, 0, 0, 0, 0],
        [90, 10, 0, 0, 10],
        [80, 1, 19, 0, 20],
        [60, 40, 0, 0, 41],
        [99, 0, 0, 0, 1],
    ]
)
"""Tumor on three tiles, immune on one: N = 4."""


def test_natural_asks_for_no_count():
    def refuse() -> np.ndarray:
        raise AssertionError("tiles are counted")

    assert Natural().weights(refuse) is None
    assert Natural().once
    assert not Oversample().once
    assert not Foreground().once


def test_oversampling_weights_by_hand():
    """γ = ½: N^γ = 2; tumor 2 / (½·3 + ½·4) = 4/7, immune 2 / (½·1 + ½·4) = 4/5; w = ½ + ½ Σ."""
    tumor, immune = 4 / 7, 4 / 5
    wanted = np.array([0.5, 0.5 + tumor / 2, 0.5 + (tumor + immune) / 2, 0.5 + tumor / 2, 0.5])
    found = Oversample(gamma=0.5).weights(lambda: COUNTS)
    np.testing.assert_allclose(found, wanted / wanted.max(), rtol=1e-12)
    assert found[2] == 1


def test_oversampling_weights_at_the_ends_of_gamma():
    """γ = 0: all 1. γ = 1: tumor 4/3, immune 4/1; a tile with both 16/3, of background alone 0."""
    np.testing.assert_array_equal(Oversample(gamma=0).weights(lambda: COUNTS), np.ones(5))
    found = Oversample(gamma=1).weights(lambda: COUNTS)
    np.testing.assert_allclose(found, [0, 0.25, 1, 0.25, 0], rtol=1e-12)


def test_foreground_chances_by_hand():
    """Any of five tiles with 0.4; else a class, each with 0.3, on one of three tiles or of one."""
    found = Foreground(share=0.6).weights(lambda: COUNTS)
    any_of, tumor, immune = 0.4 / 5, 0.3 / 3, 0.3 / 1
    wanted = [any_of, any_of + tumor, any_of + tumor + immune, any_of + tumor, any_of]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(Foreground(share=0).weights(lambda: COUNTS), 0.2)


@pytest.mark.parametrize("chances", [Oversample(), Oversample(1.0), Foreground(), Foreground(1.0)])
def test_without_foreground_all_tiles_are_alike(chances):
    empty = np.array([[9, 0, 0, 0]] * 4)
    found = chances.weights(lambda: empty)
    assert found.shape == (4,)
    assert len(set(found.tolist())) == 1
    assert found[0] > 0


@pytest.mark.parametrize("chances", [Oversample(1.0), Foreground(1.0)])
def test_cells_without_a_type_are_one_class_where_nothing_is_typed(chances):
    untyped = np.array([[9, 0, 0, 0], [5, 0, 0, 4], [7, 0, 0, 2]])
    found = chances.weights(lambda: untyped)
    np.testing.assert_allclose(found / found.max(), [0, 1, 1])


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "half", None, True])
@pytest.mark.parametrize(("make", "key"), [(Oversample, "gamma"), (Foreground, "share")])
def test_shares_outside_0_to_1_are_refused(make, key, value):
    with pytest.raises(
        ConfigError, match=rf"sampling\.{key}={shown(value)}, wanted a number 0 … 1\."
    ):
        make(**{key: value})


@pytest.mark.parametrize("edge", ["pad", "shift", "drop"])
def test_counts_are_in_the_order_of_the_dataset_s_items(uneven, make_dataset, tmp_path, edge):
    store = TissueStore(shutil.copytree(uneven.path, tmp_path / "s.zarr"))
    dataset = make_dataset(edge=edge, store=store)
    counts = training_counts(TileCounts(store), ("a", "b", "c"), 32, edge)
    assert len(counts) == len(dataset)
    for item, row in zip((dataset[i] for i in range(len(dataset))), counts, strict=True):
        wanted = [int((item.classes == c).sum()) for c in range(3)]
        assert row.tolist() == [*wanted, int((item.labels > 0).sum())]


def test_a_class_that_is_rare_is_drawn_more_often(tmp_path):
    """One tile in sixteen shows immune cells, and no others: half of what foreground draws."""
    tissue = random_tissue(64, 64)
    rows, columns = np.mgrid[:64, :64]
    immune = (rows < 16) & (columns < 16) & (tissue.instances > 0)
    classes = np.where(immune, 2, np.minimum(tissue.classes, 1))
    store = write_store(tmp_path / "s.zarr", {"a": tissue._replace(classes=classes)})

    def count() -> np.ndarray:
        return training_counts(TileCounts(store), ["a"], 16, "pad")

    found = Foreground(share=1).weights(count)
    assert found[0] == pytest.approx(0.5)
    assert found[1:].max() < 0.05
    assert Oversample().weights(count).argmax() == 0
