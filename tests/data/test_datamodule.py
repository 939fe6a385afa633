"""The data module: which sides it feeds, in which order and how it describes them."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from stores import random_tissue, write_store

from tissueseg.contracts import IGNORE, Modality, Normalisation
from tissueseg.data.datamodule import Loading, TissueDataModule
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.data.targets import BoundaryTarget, Targets


def make(store, modality=Modality.HE_SP, split=Split(("a",), ("b",), ("c",)), **loading):  # noqa: B008
    normaliser = Normaliser.fit(store, split.train or ("a",), modality, Normalisation())
    targets = Targets.for_heads(["classes"], BoundaryTarget())
    return TissueDataModule(
        store, split, normaliser, targets, Loading(**{"tile_px": 16, "batch_size": 4} | loading)
    )


def origins(loader):
    return [tuple(origin) for batch in loader for origin in batch.origin.tolist()]


@pytest.mark.parametrize("edge", ["pad", "shift", "drop"])
@pytest.mark.parametrize("side", ["val", "test"])
def test_scored_sides_count_every_pixel_once(uneven, side, edge):
    data = make(uneven, eval_edge=edge)
    loader = getattr(data, f"{side}_dataloader")()
    counted = sum(int((batch.classes != IGNORE).sum()) for batch in loader)
    entry = uneven.entry({"val": "b", "test": "c"}[side])
    height, width = entry.height, entry.width
    whole = 16 if edge == "drop" else 1
    assert counted == (height // whole * whole) * (width // whole * whole)


def test_training_sees_every_tile_once_per_epoch_in_an_order_of_its_own(uneven):
    loader = make(uneven).train_dataloader()
    orders = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        orders.append(origins(loader))
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len({*map(tuple, orders)}) == 3
    assert origins(make(uneven, seed=1).train_dataloader()) != orders[0]
    assert origins(make(uneven).train_dataloader()) == orders[0]


class Recorder(pl.LightningModule):
    """Learns nothing and remembers in which order tiles came."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, batch_idx):
        if batch_idx == 0:
            self.seen.append([])
        self.seen[-1] += batch.origin.tolist()
        return self.weight * 0

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*number of training batches")
def test_lightning_names_the_epoch(uneven):
    module = Recorder()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", enable_model_summary=False, barebones=False, **options
    )
    data = make(uneven)
    trainer.fit(module, data.train_dataloader())
    loader = make(uneven).train_dataloader()
    for epoch, seen in enumerate(module.seen):
        loader.sampler.set_epoch(epoch)
        assert [tuple(o) for o in seen] == origins(loader)
    assert len(module.seen) == 2


@pytest.mark.parametrize(
    ("modality", "channels", "panel"), [("he", 3, 0), ("sp", 2, 2), ("he_sp", 5, 2)]
)
def test_it_says_what_the_data_looks_like(uneven, modality, channels, panel):
    data = make(uneven, Modality(modality))
    spec = data.spec
    assert (spec.modality, spec.image_channels, len(spec.panel)) == (modality, channels, panel)
    assert (spec.tile_px, spec.mpp, spec.classes) == (16, 0.5, uneven.classes)
    assert next(iter(data.train_dataloader())).image.shape[1] == channels


def test_a_side_that_is_only_scored_needs_no_training_tissue(uneven):
    data = make(uneven, split=Split((), ("a", "b")))
    assert {int(t) for batch in data.val_dataloader() for t in batch.tissue} == {0, 1}


def test_channels_without_signal_are_told(uneven, tmp_path):
    assert make(uneven).describe_scaling() == []
    dark = random_tissue(16, 16).sp * np.array([1, 0], np.uint16)[:, None, None]
    tissues = {
        "a": random_tissue(16, 16),
        "b": random_tissue(16, 16, sp=dark),
        "c": random_tissue(16, 16),
    }
    store = write_store(tmp_path / "s.zarr", tissues)
    (said,) = make(store).describe_scaling()
    assert "CD3 in 1 (b …)" in said
    assert "DAPI" not in said


def test_workers_are_kept_between_epochs(uneven):
    loader = make(uneven, num_workers=2).train_dataloader()
    assert (loader.num_workers, loader.persistent_workers) == (2, True)
    assert make(uneven).train_dataloader().num_workers == 0
