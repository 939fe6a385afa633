"""Stored features beside their tiles: those the encoder gives for that very tile and view."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from stored_features import TILE_PX, Embedding, stored, tiny_encoder

from tissueseg.contracts import Batch
from tissueseg.data.dataset import Pick, TileDataset, collate
from tissueseg.data.features import FeatureReader, array_of, as_encoded
from tissueseg.data.tiles import TileCover
from tissueseg.data.views import Views
from tissueseg.store import embedding_writer
from tissueseg.store.tissues import TissueStore

VIEWS = Views(8, extra=2, he_jitter=0.2, sp_dropout=0.4)
EDGES = ("pad", "shift")
TILE_BYTES = len(VIEWS) * 4 * 4 * 16 * 2
ROUNDING = 2.0**-10  # of float16; twice the half unit it costs, as batches may round otherwise


@pytest.fixture(scope="module")
def embedded(uneven: TissueStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedding]:
    """Three uneven tissues, four tiles a shard."""
    path = tmp_path_factory.mktemp("features") / "f.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding_writer, "SHARD_BYTES", 4 * TILE_BYTES)
        made = Embedding(uneven, path, VIEWS, tiny_encoder(), EDGES, batch_size=64)
        made.run()
        yield made


@pytest.fixture
def features(embedded: Embedding) -> FeatureReader:
    return FeatureReader(embedded.stored, list(embedded.covers.values()), list(embedded.covers))


@pytest.fixture
def tiles(uneven: TissueStore, embedded: Embedding) -> Callable[..., TileDataset]:
    """What training (shift) or evaluation (pad) reads of them."""

    def make(edge: str, **options: object) -> TileDataset:
        tissues, normaliser = tuple(embedded.covers), embedded.normaliser
        none = lambda labels, classes: {}  # noqa: E731
        return TileDataset(uneven, tissues, normaliser, none, TILE_PX, edge, **options)

    return make


def mixed(dataset: TileDataset, seed: int = 0) -> list[Pick]:
    """Every item three times, each in another view, in any order."""
    picks = [Pick(i, (i + v) % len(dataset.views)) for i in range(len(dataset)) for v in (0, 4, 9)]
    return [picks[i] for i in np.random.default_rng(seed).permutation(len(picks))]


def batches(dataset: TileDataset, picks: list[Pick], size: int) -> Iterator[Batch]:
    for first in range(0, len(picks), size):
        yield collate([dataset[pick] for pick in picks[first : first + size]])


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("size", [1, 16])
def test_every_row_has_the_features_of_that_very_tile_and_view(
    embedded, features, tiles, edge, size
):
    dataset = tiles(edge, views=VIEWS, owned_only=edge == "pad")
    picks = mixed(dataset)[: 24 if size == 1 else None]
    for batch in batches(dataset, picks, size):
        found = features(batch)
        levels = embedded.encoder(batch.image, batch.present).levels
        wanted = torch.stack([level.permute(0, 2, 3, 1) for level in levels], 1)
        assert found.features.dtype == torch.float16
        torch.testing.assert_close(found.features.float(), wanted, rtol=ROUNDING, atol=1e-4)
        assert all(a is b for a, b in zip(found, batch, strict=True) if a is not found.features)
        assert batch.features is None


def test_other_tiles_and_views_have_other_features(embedded, features, tiles):
    """So that the test above would see a row that got another's."""
    dataset = tiles("shift", views=VIEWS)
    picks = [Pick(i, v) for i in range(3) for v in range(len(VIEWS))]
    (batch,) = batches(dataset, picks, len(picks))
    rows = features(batch).features.float().flatten(1)
    apart = torch.cdist(rows, rows, p=float("inf")) + torch.eye(len(rows))
    assert apart.min() > 0.02


@pytest.mark.parametrize("edge", EDGES)
def test_an_id_stands_for_one_shard_of_one_tissue(embedded, features, tiles, edge):
    dataset = tiles(edge)
    tissues, origins = dataset.places()
    shards = features.shards(tissues, origins)
    assert shards.dtype == np.int64
    lies_in = []
    for tissue, origin in zip(tissues.tolist(), origins.tolist(), strict=True):
        cover = embedded.covers[dataset.tissues[tissue]]
        numbers = {cover.origin(i): i for i in range(len(cover))}
        lies_in.append((tissue, numbers[tuple(origin)] // 4))
    pairs = set(zip(lies_in, shards.tolist(), strict=True))
    assert len(pairs) == len(set(lies_in)) == len(set(shards.tolist())) > 8


def test_tissues_without_a_tile_are_never_asked_for(embedded, uneven):
    tissues = ("nowhere", *embedded.covers)
    covers = [TileCover(8, 8, TILE_PX, ["drop"]), *embedded.covers.values()]
    shards = FeatureReader(embedded.stored, covers, tissues).shards(
        np.array([1, 1, 3]), np.array([[0, 0], [16, 16], [4, 0]])
    )
    assert len(set(shards.tolist())) == 3


def test_memory_is_pinned_only_where_there_is_an_accelerator(embedded, features, tiles):
    """Else torch would refuse to pin any, as data.pin_memory=true asks on a machine with CPUs only."""
    pinned = FeatureReader(
        embedded.stored, list(embedded.covers.values()), list(embedded.covers), pin_memory=True
    )
    batch = collate([tiles("pad")[i] for i in (0, 9)])
    found = pinned(batch).features
    assert torch.equal(found, features(batch).features)
    assert found.is_pinned() == torch.accelerator.is_available()


def test_memory_of_a_batch_is_used_again_but_never_while_anyone_holds_it(features, tiles):
    """Be it by a batch, by one level of its features or by their numpy face."""
    dataset = tiles("pad")
    made = [collate([dataset[i] for i in range(first, first + 4)]) for first in range(0, 24, 4)]
    kept = [features(batch).features for batch in made]
    before = [part.clone() for part in kept]
    kept[1], kept[2] = kept[1].unbind(1)[2][1:], kept[2].numpy()
    freed = {kept.pop(3).data_ptr() for _ in range(2)}
    del before[3:5]
    used = {features(batch).features.data_ptr() for batch in made}
    assert used & freed
    assert not used & {part.data_ptr() for part in (kept[0], kept[1], kept[3])}
    before[1] = before[1].unbind(1)[2][1:]
    assert all(torch.equal(torch.as_tensor(a), b) for a, b in zip(kept, before, strict=True))


def test_a_larger_batch_gets_more_memory(features, tiles):
    dataset = tiles("pad")
    for count in (2, 5, 1, 3):
        batch = collate([dataset[i] for i in range(count)])
        found = features(batch).features
        assert found.shape == (count, 4, 2, 2, 16)
        assert torch.equal(found[-1], features(collate([dataset[count - 1]])).features[0])


def with_features(dtype: torch.dtype) -> Batch:
    numbers = torch.randn(2, 4, 3, 5, 7).to(dtype)
    nothing = torch.empty(0)
    image = torch.randn(2, 5, 8, 8)
    return Batch(image, nothing, nothing, nothing, {}, nothing, nothing, nothing, numbers)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16])
def test_features_come_as_the_encoder_would_return_them(dtype, autocast):
    batch = with_features(dtype)
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        found = as_encoded(batch)
    assert found.image is batch.image
    assert [level.shape for level in found.levels] == [(2, 7, 3, 5)] * 4
    assert {level.dtype for level in found.levels} == {autocast or torch.float32}
    for i, level in enumerate(found.levels):
        wanted = batch.features[:, i].to(level.dtype)
        assert torch.equal(level.permute(0, 2, 3, 1), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_numpy_sees_the_same_memory_bit_for_bit(dtype):
    features = torch.tensor([[1.5, -2.25], [0.0, float("inf")]], dtype=dtype)
    array = array_of(features)
    assert array.dtype == {torch.bfloat16: "uint16"}.get(dtype, str(dtype).split(".")[1])
    array[0] = array[1]
    assert torch.equal(features[0], features[1])


def test_what_is_stored_is_read_by_number_of_tile_and_view(embedded, features, uneven):
    whole = stored(embedded.stored, "b")
    cover = embedded.covers["b"]
    rows = [(i, (3 * i) % len(VIEWS)) for i in range(len(cover))]
    batch = with_features(torch.float32)._replace(
        tissue=torch.full((len(rows),), 1),
        origin=torch.tensor([cover.origin(i) for i, _ in rows]),
        view=torch.tensor([view for _, view in rows]),
    )
    found = features(batch).features.numpy()
    assert np.array_equal(found, np.stack([whole[row] for row in rows]))


def test_a_copy_in_another_process_reads_the_same(features, tiles):
    batch = collate([tiles("pad")[i] for i in (0, 20)])
    copied = pickle.loads(pickle.dumps(features))
    assert torch.equal(copied(batch).features, features(batch).features)
