"""The Lightning face of the data: one store, one split, three dataloaders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader

from tissueseg.contracts import Batch, DataSpec, Modality
from tissueseg.data.dataset import TileDataset, collate
from tissueseg.data.normalise import Normaliser, silent_channels, stated_moments
from tissueseg.data.sampling import EpochShuffle
from tissueseg.data.splits import Split
from tissueseg.data.targets import Targets
from tissueseg.store.tissues import TissueStore


@dataclass(frozen=True)
class Loading:
    """How tiles are cut and fed."""

    tile_px: int
    batch_size: int
    train_edge: str = "shift"
    eval_edge: str = "pad"
    num_workers: int = 0  # 0 reads in the training process: fastest until augmentation dominates
    pin_memory: bool = False
    seed: int = 0


class TissueDataModule(pl.LightningDataModule):
    """Streams tiles of a store; holds handles and indices, never images.

    Args:
        store: opened; its handles are made anew in every worker process.
        split: checked.
        normaliser: fitted on the training tissues.
        targets: of the decoder's heads.
        loading: how tiles are cut and fed.
        halo_px: context around tiles that the encoder wants.
    """

    def __init__(
        self,
        store: TissueStore,
        split: Split,
        normaliser: Normaliser,
        targets: Targets,
        loading: Loading,
        halo_px: int = 0,
    ) -> None:
        super().__init__()
        self.store, self.split, self.normaliser = store, split, normaliser
        self._targets, self._loading, self._halo_px = targets, loading, halo_px
        self._datasets = {
            side: self._dataset(side) for side in split._fields if getattr(split, side)
        }

    @property
    def spec(self) -> DataSpec:
        """What the data looks like, for encoders, decoders and reports."""
        return data_spec(self.store, self.normaliser.modality, self._loading.tile_px)

    @cached_property
    def train_pixels(self) -> np.ndarray:
        """(n_classes,) pixels of each class in the training tissues."""
        return self.store.class_pixels(self.split.train)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Shuffled tiles; the order follows seed and epoch."""
        data = self._datasets["train"]
        return self._loader(data, EpochShuffle(data, self._loading.seed))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every pixel of the validation tissues once."""
        return self._loader(self._datasets["val"])

    def test_dataloader(self) -> DataLoader[Batch]:
        """Every pixel of the test tissues once."""
        return self._loader(self._datasets["test"])

    def describe_scaling(self) -> list[str]:
        """What there is to say of SP channels: whose moments scale them, and which are left out."""
        if "sp" not in self.normaliser.modality.images:
            return []
        lines = []
        if stated_moments(self.store, self.normaliser.normalisation):
            lines.append(
                "SP channels are standardised by the moments that the store's source published"
            )
        used = [tissue for side in self.split for tissue in side]
        if silent := silent_channels(self.store, used, self.normaliser):
            parts = (f"{name} in {len(found)} ({found[0]} …)" for name, found in silent.items())
            lines.append(
                f"SP channels without signal are left out for those tissues: {'; '.join(parts)}"
            )
        return lines

    def _dataset(self, side: str) -> TileDataset:
        training = side == "train"
        return TileDataset(
            self.store,
            getattr(self.split, side),
            self.normaliser,
            self._targets,
            self._loading.tile_px,
            self._loading.train_edge if training else self._loading.eval_edge,
            owned_only=not training,
            halo_px=self._halo_px,
        )

    def _loader(self, data: TileDataset, sampler: EpochShuffle | None = None) -> DataLoader[Batch]:
        workers = self._loading.num_workers
        return DataLoader(
            data,
            batch_size=self._loading.batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self._loading.pin_memory,
            collate_fn=collate,
        )


def data_spec(store: TissueStore, modality: Modality, tile_px: int) -> DataSpec:
    """Describe a store as seen through one modality and tile size."""
    return DataSpec(
        modality,
        store.image_channels(modality),
        store.classes,
        store.panel if "sp" in modality.images else (),
        store.mpp,
        tile_px,
    )
