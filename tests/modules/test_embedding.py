"""Encoding tissues for good: what is stored is what the encoder says, and nothing is stored by half."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stored_features import PATCH_PX, TILE_PX, Embedding, left_beside, stored, tiny_encoder, tissues
from stores import random_tissue, write_store
from torch import Tensor

from tissueseg.contracts import Features
from tissueseg.data.views import Views
from tissueseg.encoders.base import Encoder
from tissueseg.errors import FeatureOverflowError
from tissueseg.store import embedding_writer
from tissueseg.store.embedding_writer import EmbeddingWriter
from tissueseg.store.embeddings import EmbeddingStore, State
from tissueseg.store.tissues import TissueStore

SIZES = {"a": (40, 33), "b": (16, 16), "c": (20, 50)}  # whose pad and shift grids differ but in `b`
TILES = {"a": 16, "b": 1, "c": 15}
VIEWS = Views(4, extra=1, he_jitter=0.2, sp_dropout=0.4)
TILE_BYTES = 5 * 4 * (TILE_PX // PATCH_PX) ** 2 * 16 * 2

ROUNDING = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 1e-5}
"""Relative; twice the half unit that rounding costs, as sums in another order may round otherwise."""


class Watched(Encoder):
    """A tiny encoder that counts what it has seen; `then` alters what it returns."""

    def __init__(self, then: Callable[[int, Features], Any] = lambda first, features: None) -> None:
        inner = tiny_encoder()
        super().__init__(inner.spec, inner.data)
        self.inner, self.then, self.seen, self.batches = inner, then, 0, []

    def encode(self, image: Tensor, present: Tensor | None) -> tuple[Tensor, ...]:
        return self.inner.encode(image, present)

    def forward(self, image: Tensor, present: Tensor | None = None) -> Features:
        features = super().forward(image, present)
        self.then(self.seen, features)
        self.seen += len(image)
        self.batches.append(len(image))
        return features


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    tissues = {n: random_tissue(*size, i) for i, (n, size) in enumerate(SIZES.items())}
    return write_store(tmp_path_factory.mktemp("embedding") / "s.zarr", tissues)


@pytest.fixture
def embed(
    source: TissueStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Embedding]:
    """What embeds the three tissues in shards of three tiles (16 bits)."""
    monkeypatch.setattr(embedding_writer, "SHARD_BYTES", 3 * TILE_BYTES)

    def make(encoder: Encoder | None = None, views: Views = VIEWS, **options: Any) -> Embedding:
        return Embedding(source, tmp_path / "f.zarr", views, encoder or Watched(), **options)

    return make


def numbers(store: EmbeddingStore, tissue: str) -> Tensor:
    """(tile, view, level, h, w, D) float32."""
    bits = torch.from_numpy(stored(store, tissue))
    return (bits.view(torch.bfloat16) if store.dtype == "bfloat16" else bits).float()


def online(made: Embedding, tissue: str) -> Tensor:
    """What the encoder says of each tile and view as they are read alone; as `numbers` returns it."""
    cover, views = made.covers[tissue], range(len(made.views))
    origins = [cover.origin(i) for i in range(len(cover))]
    read = [
        made.images.read(tissue, o, made.views.view(v, tissue, o)) for o in origins for v in views
    ]
    image, present = (torch.from_numpy(np.stack(part)) for part in zip(*read, strict=True))
    levels = [level.permute(0, 2, 3, 1).float() for level in made.encoder(image, present).levels]
    return torch.stack(levels, 1).unflatten(0, (-1, len(views)))


Expected = dict[str, Tensor]


@pytest.fixture(scope="module")
def expected(source: TissueStore, tmp_path_factory: pytest.TempPathFactory) -> Expected:
    """Tissue -> what the tiny encoder says of it."""
    path = tmp_path_factory.mktemp("expected") / "f.zarr"
    made = Embedding(source, path, VIEWS, tiny_encoder())
    return {tissue: online(made, tissue) for tissue in SIZES}


def assert_stored(made: Embedding, expected: Expected, rounding: float | None = None) -> None:
    rounding = rounding or ROUNDING[made.stored.dtype]
    for tissue in SIZES:
        found = numbers(made.stored, tissue)
        assert len(found) == TILES[tissue]
        torch.testing.assert_close(found, expected[tissue], rtol=rounding, atol=rounding / 10)


@pytest.mark.parametrize(
    ("dtype", "codec"),
    [("float16", "none"), ("float16", "zstd"), ("bfloat16", "none"), ("float32", "zstd")],
)
def test_stored_is_what_the_encoder_says_of_every_tile_and_view(embed, expected, dtype, codec):
    made = embed(dtype=dtype, codec=codec)
    outcome = made.run()
    assert (outcome.encoded, outcome.kept, outcome.failed) == (list(SIZES), [], {})
    assert made.stored.shard_tiles("a") == (1 if dtype == "float32" else 3)
    assert_stored(made, expected)
    assert left_beside(made.stored) == []


@pytest.mark.parametrize(("batch_size", "threads"), [(1, 1), (3, 3), (7, 2), (64, 1)])
def test_batches_straddle_tiles_and_views(embed, expected, batch_size, threads):
    made = embed(batch_size=batch_size, threads=threads)
    made.run()
    assert max(made.encoder.batches) == min(batch_size, 15)  # a shard holds 15
    assert sum(made.encoder.batches) == 5 * sum(TILES.values())
    assert_stored(made, expected)


def test_an_encoder_with_a_halo_sees_around_tiles(embed, expected):
    made = embed(tiny_encoder(halo_px=8))
    made.run()
    around = {tissue: online(made, tissue) for tissue in SIZES}
    assert_stored(made, around)
    assert not torch.allclose(around["a"], expected["a"], atol=0.01)


def test_autocast_is_that_of_training(embed, expected):
    made = embed(dtype="float32", autocast=torch.bfloat16)
    made.run()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = {tissue: online(made, tissue) for tissue in SIZES}
    assert_stored(made, rounded, 2.0**-6)
    largest = max((rounded[t] - expected[t]).abs().max() for t in SIZES)
    assert largest > 2.0**-9  # autocast did make a difference


def test_what_is_complete_is_kept_and_what_is_stale_made_anew(embed):
    made = embed()
    made.run()
    before, seen = {t: stored(made.stored, t) for t in SIZES}, made.encoder.seen
    kept = made.run()
    assert (kept.encoded, kept.kept, made.encoder.seen) == ([], list(SIZES), seen)
    stale = [t._replace(digests={"he": "new"}) if t.name == "b" else t for t in made.tissues]
    made.told.clear()
    again = made.run(tissues=stale)
    assert (again.encoded, again.kept) == (["b"], ["a", "c"])
    assert made.encoder.seen == seen + 5
    assert [told for told in made.told if not told[2]] == [("a", 16, False), ("c", 15, False)]
    assert made.stored.state("b", {"he": "new"}) == State.COMPLETE
    assert all(np.array_equal(stored(made.stored, t), before[t]) for t in SIZES)


def test_it_tells_every_tile_once(embed):
    made = embed()
    made.run()
    for tissue, count in TILES.items():
        assert sum(n for name, n, now in made.told if name == tissue and now) == count


def test_a_tissue_that_another_worker_is_at_is_left_to_it(embed):
    made = embed()
    with EmbeddingWriter(made.stored) as other:
        attempt = other.begin("b", 1)
        outcome = made.run()
        assert (outcome.encoded, outcome.elsewhere) == (["a", "c"], ["b"])
        attempt.discard()
    assert made.run().encoded == ["b"]


def test_a_tissue_that_another_completes_while_we_look_is_kept(embed, monkeypatch):
    made, begin = embed(), EmbeddingWriter.begin

    def late(writer: EmbeddingWriter, tissue: str, tiles: int) -> Any:
        monkeypatch.setattr(EmbeddingWriter, "begin", begin)
        made.run()
        return begin(writer, tissue, tiles)

    monkeypatch.setattr(EmbeddingWriter, "begin", late)
    outcome = made.run()
    assert (outcome.kept, outcome.encoded) == (list(SIZES), [])
    assert made.encoder.seen == 5 * sum(TILES.values())  # once
    assert left_beside(made.stored) == []


def spoil(at: int, value: float) -> Callable[[int, Features], None]:
    """One number of the image that is encoded as the `at`-th of all."""

    def then(first: int, features: Features) -> None:
        if 0 <= at - first < len(features.image):
            features.levels[2][at - first, 3, 1, 0] = value

    return then


AT = 5 * 7 + 2  # tile 7 of tissue a, in view 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -7e4])
def test_features_that_are_not_finite_are_refused_with_their_tile(embed, value):
    made = embed(Watched(spoil(AT, value)))
    y, x = made.covers["a"].origin(7)
    with pytest.raises(FeatureOverflowError) as caught:
        made.run()
    message = str(caught.value)
    assert "not finite as float16 for tissue a, " in message
    assert f"tile at row {y}, column {x}: embed with embeddings.dtype=bfloat16" in message
    assert "\n" not in message
    assert (tissues(made.stored), left_beside(made.stored)) == ([], [])


def test_what_outgrows_16_bits_fits_into_others(embed):
    made = embed(Watched(spoil(AT, -7e4)), dtype="bfloat16")
    made.run()
    assert numbers(made.stored, "a")[7, 2, 2, 1, 0, 3] == pytest.approx(-7e4, rel=2**-8)


def test_a_tissue_that_fails_may_be_skipped(embed, expected):
    made = embed(Watched(spoil(AT, float("nan"))))
    outcome = made.run(skip_failed=True)
    assert (outcome.encoded, list(outcome.failed)) == (["b", "c"], ["a"])
    assert isinstance(outcome.failed["a"], FeatureOverflowError)
    assert (tissues(made.stored), left_beside(made.stored)) == (["b", "c"], [])
    made.encoder.then = lambda first, features: None
    assert made.run().encoded == ["a"]
    assert_stored(made, expected)
