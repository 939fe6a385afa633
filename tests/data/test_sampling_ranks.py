"""A data module in several processes, and its training tiles weighted: who sees what, how often."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tissueseg.contracts import Modality, Normalisation
from tissueseg.data.datamodule import TissueDataModule
from tissueseg.data.feeding import Loading, Sampling
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.data.targets import BoundaryTarget, Targets
from tissueseg.data.views import Views
from tissueseg.errors import ConfigError

BEGUN = SimpleNamespace(current=SimpleNamespace(processed=0))
SPLIT = Split(("a", "b"), ("b",), ("c",))
TILES = 3 * 5 + 5 * 3  # of 16 px, in the training tissues


def make(store, weights=None, rank=0, world=1, **loading):
    normaliser = Normaliser.fit(store, SPLIT.train, Modality.HE, Normalisation())
    targets = Targets.for_heads(["classes"], BoundaryTarget())
    cut = Loading(**{"tile_px": 16, "batch_size": 4} | loading)
    sampling = Sampling(weights=weights)
    data = TissueDataModule(
        store, SPLIT, normaliser, targets, cut, views=Views(4), sampling=sampling
    )
    if world > 1:
        loop = SimpleNamespace(epoch_progress=BEGUN)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world, fit_loop=loop)
    return data


def seen(loader, epoch=0):
    """Tissue, origin and view of every tile, in order."""
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    return [
        (tissue, *origin, view)
        for batch in loader
        for tissue, origin, view in zip(
            batch.tissue.tolist(), batch.origin.tolist(), batch.view.tolist(), strict=True
        )
    ]


def ranks(store, world, **options):
    return [make(store, rank=rank, world=world, **options) for rank in range(world)]


@pytest.mark.parametrize("weights", [None, np.linspace(0.1, 1, TILES)], ids=["natural", "weighted"])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_a_training_epoch_in_the_order_of_one(uneven, weights, world):
    alone = seen(make(uneven, weights).train_dataloader(), 1)
    parts = [seen(m.train_dataloader(), 1) for m in ranks(uneven, world, weights=weights)]
    assert {len(part) for part in parts} == {TILES // world}
    assert [tile for step in zip(*parts, strict=True) for tile in step] == alone[
        : len(alone) // world * world
    ]
    if weights is None:
        assert len({tile for part in parts for tile in part}) == TILES // world * world


@pytest.mark.parametrize("side", ["val", "test"])
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_score_every_tile_once(uneven, side, world):
    alone = seen(getattr(make(uneven), f"{side}_dataloader")())
    parts = [seen(getattr(m, f"{side}_dataloader")()) for m in ranks(uneven, world)]
    assert sorted(tile for part in parts for tile in part) == sorted(alone)
    assert len(set(alone)) == len(alone)


def test_weights_say_how_often_tiles_come(uneven):
    weights = np.zeros(TILES)
    weights[[2, 20]] = 1, 3
    loader = make(uneven, weights).train_dataloader()
    counts = Counter(tile[:3] for epoch in range(10) for tile in seen(loader, epoch))
    assert set(counts) == {(0, 0, 32), (1, 16, 17)}
    assert counts.total() == 10 * TILES
    assert counts[1, 16, 17] == pytest.approx(0.75 * 10 * TILES, rel=0.1)


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [7, 7, 7, 7, 2]), (True, [7] * 4)])
def test_the_last_training_batch_is_dropped_when_asked_for(uneven, drop_last, sizes):
    data = make(uneven, batch_size=7, drop_last=drop_last)
    assert [len(batch.view) for batch in data.train_dataloader()] == sizes
    assert sum(len(batch.view) for batch in data.val_dataloader()) == 15


def test_an_epoch_that_would_be_dropped_as_a_whole_is_refused(uneven):
    with pytest.raises(ConfigError, match=r"leaves out all 30 training tiles .* batch of 31"):
        make(uneven, batch_size=31, drop_last=True)


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"batch_size": 8}, [4, 4, 4, 3]),
        ({"batch_size": 8, "drop_last": True}, [4, 4, 4]),
        ({"batch_size": 16, "drop_last": True}, [8]),  # of 15 tiles
        ({"batch_size": 8, "at_a_time": 2}, [2] * 7 + [1]),
        ({"batch_size": 8, "at_a_time": 3, "drop_last": True}, [2] * 6),  # 3 are no part of 4
    ],
)
def test_ranks_share_the_tiles_of_a_step(uneven, options, sizes):
    for data in ranks(uneven, 2, **options):
        assert [len(batch.view) for batch in data.train_dataloader()] == sizes


def test_a_step_that_ranks_cannot_share_equally_is_refused(uneven):
    with pytest.raises(ConfigError, match=r"data\.batch_size=9 .* choose a multiple of 2"):
        make(uneven, world=2, batch_size=9).train_dataloader()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("batches", [1, 3])
def test_an_epoch_begins_behind_what_was_done_of_it_and_the_next_is_whole(uneven, workers, batches):
    whole = make(uneven).train_dataloader()
    epochs = [seen(whole, epoch) for epoch in range(2)]
    loader = make(uneven, num_workers=workers).train_dataloader()
    loader.load_state_dict({"batches": batches})
    assert seen(loader, 0) == epochs[0][batches * 4 :]
    assert loader.state_dict() == {"batches": len(whole)}
    assert seen(loader, 1) == epochs[1]


def test_weighted_tiles_shard_by_shard_are_refused(uneven):
    with pytest.raises(ConfigError, match=r"choose sampling=natural or data\.shuffle=full"):
        make(uneven, np.ones(TILES), shuffle="shard")


def test_what_a_network_draws_changes_no_order(uneven):
    orders = []
    for draws in (3, 1000):
        data = make(uneven)
        torch.manual_seed(0)
        torch.rand(draws)  # as many as a decoder of that size
        orders.append([seen(data.train_dataloader(), epoch) for epoch in range(2)])
    assert orders[0] == orders[1]
    assert orders[0][0] != orders[0][1]
