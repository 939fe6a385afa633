"""The Lightning face of the data: one store, one split, three dataloaders."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
from torch.utils.data import DataLoader

from tissueseg.contracts import Batch, DataSpec, Modality
from tissueseg.data.augment import Augmentation
from tissueseg.data.dataset import PLAIN, TileDataset, collate
from tissueseg.data.features import FeatureReader
from tissueseg.data.feeding import NATURAL, Loading, Sampling, check_shuffle
from tissueseg.data.normalise import Normaliser, silent_channels, stated_moments
from tissueseg.data.sampling import (
    EpochOrder,
    EpochShuffle,
    Rank,
    ScoredTiles,
    ShardShuffle,
    TrainingPicks,
    WeightedOrder,
)
from tissueseg.data.splits import Split
from tissueseg.data.targets import Targets
from tissueseg.data.tiles import TileCover
from tissueseg.data.views import Views
from tissueseg.errors import ConfigError
from tissueseg.store.embeddings import EmbeddingStore
from tissueseg.store.tissues import TissueStore


class Embeddings(NamedTuple):
    """Stored features that stand for an encoder."""

    store: EmbeddingStore
    edges: tuple[str, ...]  # edge policies of the grids whose tiles are stored


class TissueDataModule(pl.LightningDataModule):
    """Streams tiles of a store; holds handles and indices, never images.

    Of several processes each is fed its part: of a training epoch all as many tiles, and of a side
    that is scored every tile to one of them.

    Args:
        store: opened; its handles are made anew in every worker process.
        split: checked.
        normaliser: fitted on the training tissues.
        targets: of the decoder's heads.
        loading: how tiles are cut and fed.
        halo_px: context around tiles that the encoder wants; stored features want none.
        views: copies of every training tile, of which one is drawn at a time.
        embeddings: features that come with the batches; None: images are encoded as they come.
        sampling: of the training tiles.
        augmentation: how training tiles are altered beyond their views.

    Raises:
        ConfigError: tiles are weighted and read by shards, or would all be left out.
    """

    def __init__(
        self,
        store: TissueStore,
        split: Split,
        normaliser: Normaliser,
        targets: Targets,
        loading: Loading,
        halo_px: int = 0,
        views: Views = PLAIN,
        embeddings: Embeddings | None = None,
        sampling: Sampling = NATURAL,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self.store, self.split, self.normaliser = store, split, normaliser
        self._targets, self._loading, self._views = targets, loading, views
        self._embeddings, self._halo_px = embeddings, 0 if embeddings else halo_px
        self._augmentation = augmentation
        self._datasets = {
            side: self._dataset(side) for side in split._fields if getattr(split, side)
        }
        self.sampling = sampling
        check_shuffle(loading.shuffle, sampling.weights is None)
        if split.train:
            self._check_batches(len(self._datasets["train"]))

    @property
    def spec(self) -> DataSpec:
        """What the data looks like, for encoders, decoders and reports."""
        return data_spec(self.store, self.normaliser.modality, self._loading.tile_px)

    @cached_property
    def train_pixels(self) -> np.ndarray:
        """(n_classes,) pixels of each class in the training tissues."""
        return self.store.class_pixels(self.split.train)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Drawn tiles, each in one of its views; both follow seed and epoch."""
        data, rank, loading = self._datasets["train"], self._rank, self._loading
        share = loading.share(rank.of)
        unit = share.batch_size * share.batches if loading.drop_last else 1
        self._check_batches(len(data))
        picks = TrainingPicks(self._order(data), self._views, loading.seed, rank, unit)
        if self.trainer is not None:  # workers ask for items before Lightning says the epoch
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            picks.set_epoch(progress.processed)
        return loading.loader(data, picks, share.batch_size, collate, self._features(data))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every pixel of the validation tissues once."""
        return self._scored("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Every pixel of the test tissues once."""
        return self._scored("test")

    def one_tile(self) -> Batch:
        """The first training tile, as a batch."""
        batch = collate([self._datasets["train"][0]])
        features = self._features(self._datasets["train"])
        return features(batch) if features else batch

    def describe_features(self) -> str:
        """Where features come from."""
        if self._embeddings is None:
            return "encoded online"
        return f"stored in {self._embeddings.store.path}"

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

    def describe_augmentation(self) -> list[str]:
        """What there is to say of it: parts that apply to none of the images."""
        if self._augmentation is None or not self._augmentation.idle:
            return []
        images = self.normaliser.modality.value
        return [
            f"augmentation: {', '.join(self._augmentation.idle)} not applied, modality={images} has no "
            "such image"
        ]

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
            views=self._views if training else PLAIN,
            augmentation=self._augmentation if training else None,
        )

    @property
    def _rank(self) -> Rank:
        trainer = self.trainer
        return Rank(trainer.global_rank, trainer.world_size) if trainer else Rank()

    def _order(self, data: TileDataset) -> EpochOrder:
        seed, weights = self._loading.seed, self.sampling.weights
        if weights is not None:
            return WeightedOrder(weights, seed)
        if self._loading.shuffle == "shard":
            return ShardShuffle(self._shards(data), seed)
        return EpochShuffle(data, seed)

    def _check_batches(self, tiles: int) -> None:
        """Refuse a training epoch that would be left out as a whole."""
        if self._loading.drop_last and tiles < self._loading.batch_size:
            raise ConfigError(
                f"data.drop_last=true leaves out all {tiles} training tiles of an epoch, as they fill no "
                f"batch of {self._loading.batch_size}: lower data.batch_size or choose drop_last=false."
            )

    def _scored(self, side: str) -> DataLoader[Batch]:
        data = self._datasets[side]
        tiles = ScoredTiles(data, self._rank, self._loading.batch_size)
        return self._loading.loader(data, tiles, tiles.batch_size, collate, self._features(data))

    def _features(self, data: TileDataset) -> FeatureReader | None:
        """What adds stored features to the batches of a dataset."""
        if self._embeddings is None:
            return None
        store, edges = self._embeddings
        entries = [self.store.entry(tissue) for tissue in data.tissues]
        covers = [TileCover(e.height, e.width, self._loading.tile_px, edges) for e in entries]
        return FeatureReader(store, covers, data.tissues, self._loading.pin_memory)

    def _shards(self, data: TileDataset) -> np.ndarray:
        """In which shard each tile lies: of the features where they are stored, else of the images."""
        tissues, origins = data.places()
        if features := self._features(data):
            return features.shards(tissues, origins)
        sides = [self.store.shard_px(tissue) for tissue in data.tissues]
        rows, columns = (origins // np.array(sides)[tissues]).T
        return tissues.astype(np.int64) << 40 | rows << 20 | columns


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
