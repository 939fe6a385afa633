from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from stores import random_tissue, write_store

from tissueseg.contracts import Modality, Normalisation
from tissueseg.data.dataset import TileDataset
from tissueseg.data.normalise import Normaliser
from tissueseg.data.targets import BoundaryTarget, Targets
from tissueseg.store.tissues import TissueStore

SIZES = {"a": (48, 80), "b": (70, 33), "c": (20, 50)}  # multiples of 16, of nothing, below a tile


@pytest.fixture(scope="session")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    """Three tissues of unequal size, every instance and typed pixel known."""
    tissues = {
        name: random_tissue(*size, seed, patient=f"p_{name}")
        for seed, (name, size) in enumerate(SIZES.items())
    }
    return write_store(tmp_path_factory.mktemp("uneven") / "s.zarr", tissues)


@pytest.fixture
def make_dataset(uneven: TissueStore) -> Callable[..., TileDataset]:
    """A dataset on `uneven`, or on another store."""

    def make(
        tile_px: int = 32,
        edge: str = "pad",
        tissues: tuple[str, ...] = ("a", "b", "c"),
        modality: str = "he_sp",
        store: TissueStore = uneven,
        edges_of: str = "instances",
        **options: Any,
    ) -> TileDataset:
        normaliser = Normaliser.fit(store, tissues[:2], Modality(modality), Normalisation())
        targets = Targets.for_heads(["classes", "boundary"], BoundaryTarget(edges_of))
        return TileDataset(store, tissues, normaliser, targets, tile_px, edge, **options)

    return make
