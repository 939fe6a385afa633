"""The data module: which sides it feeds, in which order and how it describes them."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from stored_features import Embedding, tiny_encoder
from stores import random_tissue, write_store

from tissueseg.contracts import IGNORE, Modality, Normalisation
from tissueseg.data.datamodule import Embeddings, TissueDataModule
from tissueseg.data.feeding import Loading
from tissueseg.data.normalise import Normaliser
from tissueseg.data.sampling import ShardShuffle
from tissueseg.data.splits import Split
from tissueseg.data.targets import BoundaryTarget, Targets
from tissueseg.data.views import Views
from tissueseg.errors import ConfigError
from tissueseg.store import embedding_writer
from tissueseg.store.tissues import TissueStore

ALL_TRAIN = Split(("a", "b", "c"), ("b",), ("c",))
VIEWS = Views(4, extra=1)


def make(
    store,
    modality=Modality.HE_SP,
    split=Split(("a",), ("b",), ("c",)),  # noqa: B008
    options=None,
    **loading,
):
    normaliser = Normaliser.fit(store, split.train or ("a",), modality, Normalisation())
    targets = Targets.for_heads(["classes"], BoundaryTarget())
    cut = Loading(**{"tile_px": 16, "batch_size": 4} | loading)
    return TissueDataModule(store, split, normaliser, targets, cut, **options or {})


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


@pytest.fixture(scope="module")
def embedded(uneven, tmp_path_factory):
    """Features of all tiles in five views, four tiles a shard."""
    path, edges = tmp_path_factory.mktemp("datamodule") / "f.zarr", ("pad", "shift")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_writer, "SHARD_BYTES", 4 * 5 * 4 * 4 * 16 * 2)
        made = Embedding(uneven, path, VIEWS, tiny_encoder(), edges, batch_size=64)
        made.run()
    return made


def streamed(embedded):
    """Options of a data module that streams them."""
    return {"embeddings": Embeddings(embedded.stored, ("pad", "shift")), "views": VIEWS}


def epoch(loader, number=1):
    loader.sampler.set_epoch(number)
    return list(loader)


def test_stored_features_come_with_every_batch_of_every_side(uneven, embedded):
    data = make(uneven, split=ALL_TRAIN, options=streamed(embedded) | {"halo_px": 8})
    train = epoch(data.train_dataloader())
    assert {int(view) for batch in train for view in batch.view} == set(range(5))
    for batch in (*train, *data.val_dataloader(), *data.test_dataloader(), data.one_tile()):
        assert batch.image.shape[2:] == (16, 16)  # no halo: nothing is encoded
        levels = embedded.encoder(batch.image, batch.present).levels
        wanted = torch.stack([level.permute(0, 2, 3, 1) for level in levels], 1)
        torch.testing.assert_close(batch.features.float(), wanted, rtol=2**-10, atol=1e-4)
    assert data.describe_features() == f"stored in {embedded.stored.path}"


def test_scored_sides_see_tiles_as_they_stand_and_no_features_unless_stored(uneven):
    data = make(uneven, options={"views": VIEWS, "halo_px": 8})
    for batch in (*data.val_dataloader(), *data.test_dataloader(), data.one_tile()):
        assert batch.image.shape[2:] == (32, 32)
        assert batch.features is None
        assert not batch.view.any()
    assert data.describe_features() == "encoded online"


def test_worker_processes_change_neither_batches_nor_their_features(uneven, embedded):
    one, two = (
        epoch(make(uneven, num_workers=n, options=streamed(embedded)).train_dataloader(), 3)
        for n in (0, 2)
    )
    for here, there in zip(one, two, strict=True):
        for name in ("image", "present", "classes", "labels", "tissue", "origin", "view"):
            assert torch.equal(getattr(here, name), getattr(there, name))
        assert torch.equal(here.features, there.features)


def visited(loader, number=2):
    """Tissue and origin of every tile, in order."""
    return [
        (tissue, *origin)
        for batch in epoch(loader, number)
        for tissue, origin in zip(batch.tissue.tolist(), batch.origin.tolist(), strict=True)
    ]


def in_order_of_shards(data, shard_of, number=2):
    """What `visited` should be where each tile lies in the shard that `shard_of` says."""
    tissues, origins = data._datasets["train"].places()
    places = [(t, *o) for t, o in zip(tissues.tolist(), origins.tolist(), strict=True)]
    ids = {shard: i for i, shard in enumerate(sorted({shard_of(*place) for place in places}))}
    order = ShardShuffle(np.array([ids[shard_of(*place)] for place in places]), 0)
    order.set_epoch(number)
    assert len(ids) > 8  # more than are read at a time
    return [places[i] for i in order]


def test_tiles_come_few_shards_of_features_at_a_time(uneven, embedded):
    data = make(uneven, split=ALL_TRAIN, shuffle="shard", options=streamed(embedded))

    def shard_of(tissue, y, x):
        cover = embedded.covers["abc"[tissue]]
        return tissue, [cover.origin(i) for i in range(len(cover))].index((y, x)) // 4

    assert visited(data.train_dataloader()) == in_order_of_shards(data, shard_of)


def test_tiles_come_few_shards_of_images_at_a_time_when_they_are_encoded_online(
    uneven, monkeypatch
):
    monkeypatch.setattr(TissueStore, "shard_px", lambda store, tissue: (16, 32))
    data = make(uneven, split=ALL_TRAIN, shuffle="shard")
    wanted = in_order_of_shards(data, lambda tissue, y, x: (tissue, y // 16, x // 32))
    assert visited(data.train_dataloader()) == wanted


def test_an_unknown_shuffle_is_refused():
    with pytest.raises(ConfigError, match=r"data\.shuffle='some': choose from full, shard"):
        Loading(16, 4, shuffle="some")
