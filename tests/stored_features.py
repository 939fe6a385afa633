"""Small stores of made-up or encoded features, written as embedding writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stores import data_spec

from tissueseg.contracts import EncoderSpec, Modality
from tissueseg.data.images import TileImages
from tissueseg.data.normalise import Normaliser
from tissueseg.data.tiles import TileCover
from tissueseg.data.views import Views
from tissueseg.encoders.base import Encoder
from tissueseg.encoders.tiny import TinyEncoder
from tissueseg.modules.embedding import Embedder, Tissue
from tissueseg.store.embedding_writer import EmbeddingWriter, Grid, create_store
from tissueseg.store.embeddings import DTYPES, EmbeddingStore, Request
from tissueseg.store.tissues import TissueStore

GRID = Grid(levels=4, height=2, width=3, channels=5)
SPEC = EncoderSpec("made_up", (Modality.HE_SP,), (5, 5, 5, 5), 8)
DIGESTS = {"he": "red", "sp": "green"}
TILE_PX, PATCH_PX = 16, 8


def make_store(path: Path, dtype: str = "float16", **changed: Any) -> EmbeddingStore:
    """A store without tissues; three views of every tile."""
    fields = {"dtype": dtype, "views": {"dihedral": 1, "extra": 2}, "encoder": {"seed": 0}}
    return create_store(path, fields | changed, SPEC, GRID, {"by": "a test"})


def made_up(store: EmbeddingStore, tiles: int, seed: int = 0) -> np.ndarray:
    """(tiles, view, level, h, w, D) random features as the store's arrays hold them."""
    shape = (tiles, store.views, *store.grid)
    numbers = np.random.default_rng(seed).standard_normal(shape, np.float32)
    if store.dtype == "bfloat16":
        return (numbers.view(np.uint32) >> 16).astype(np.uint16)
    return numbers.astype(store.dtype)


def publish(
    writer: EmbeddingWriter,
    tissue: str,
    features: np.ndarray,
    digests: Mapping[str, str] = DIGESTS,
) -> None:
    attempt = writer.begin(tissue, len(features))
    assert attempt is not None
    size = writer.block_shape(len(features))[0]
    for number, first in enumerate(range(0, len(features), size)):
        attempt.put(number, features[first : first + size])
    attempt.publish(digests).result()


def stored(store: EmbeddingStore, tissue: str) -> np.ndarray:
    """All features of a tissue, (tile, view, level, h, w, D), read as they are now."""
    fresh = EmbeddingStore(store.path)
    views = range(fresh.views)
    requests = [Request(tissue, i, view) for i in range(fresh.tiles(tissue)) for view in views]
    out = np.empty((len(requests), *fresh.grid), DTYPES[fresh.dtype])
    fresh.read(requests, out)
    return out.reshape(-1, fresh.views, *fresh.grid)


def tissues(store: EmbeddingStore) -> list[str]:
    """Those that a store has a folder of."""
    return sorted(path.name for path in Path(store.path).iterdir() if path.is_dir())


def left_beside(store: EmbeddingStore) -> list[str]:
    """What work on a store has left in the folder beside it, claims apart."""
    work = Path(store.path).with_name(f".{Path(store.path).name}.work")
    released = [work / "claims", *work.glob("claims/*"), *work.glob("claims/*/*.free")]
    left = set(work.rglob("*")) - {*released, work / "tissues"}
    return sorted(path.relative_to(work).as_posix() for path in left)


def tiny_encoder(modality: str = "he_sp", halo_px: int = 0) -> TinyEncoder:
    """For tiles of 16 px, 2 × 2 tokens each."""
    name = Modality(modality)
    spec = EncoderSpec("tiny", (name,), (16,) * 4, PATCH_PX, halo_px=halo_px, random_init=True)
    return TinyEncoder(spec, data_spec(modality, tile_px=TILE_PX))


class Embedding:
    """Everything that embeds a store's tissues, with options of the embedder to change."""

    def __init__(
        self,
        store: TissueStore,
        path: Path,
        views: Views,
        encoder: Encoder,
        edges: Sequence[str] = ("pad", "shift"),
        dtype: str = "float16",
        codec: str = "none",
        **options: Any,
    ) -> None:
        modality, names = encoder.data.modality, store.tissues
        self.encoder, self.views, self.told = encoder, views, []
        self.normaliser = Normaliser.fit(store, names, modality, encoder.spec.normalisation)
        self.images = TileImages(store, names, self.normaliser, TILE_PX, encoder.spec.halo_px)
        sizes = {name: store.entry(name)[2:4] for name in names}
        self.covers = {n: TileCover(*size, TILE_PX, edges) for n, size in sizes.items()}
        self.tissues = [
            Tissue(n, cover, store.image_digests(n, modality))
            for n, cover in self.covers.items()
            if len(cover)
        ]
        side = TILE_PX // encoder.stride_px
        grid = Grid(4, side, side, encoder.spec.channels[0])
        fields = {"dtype": dtype, "views": views.as_dict(), "tiling": {"edges": list(edges)}}
        self.stored = create_store(path, fields, encoder.spec, grid, {})
        self._codec = codec
        self.options = {
            "device": torch.device("cpu"),
            "autocast": None,
            "batch_size": 4,
            "threads": 2,
            "tell": lambda *told: self.told.append(told),
        } | options

    def run(self, skip_failed: bool = False, tissues: Sequence[Tissue] | None = None) -> Any:
        """What became of the tissues, all unless told."""
        with EmbeddingWriter(self.stored, self._codec) as writer:
            embedder = Embedder(self.encoder, self.images, self.views, writer, **self.options)
            return embedder.run(self.tissues if tissues is None else tissues, skip_failed)
