"""Images without labels for Lightning: training and held-out tissues of one store or several."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch.utils.data import DataLoader

from tissueseg.data.feeding import Loading
from tissueseg.data.image_tiles import ImageBatch, ImageTiles, collate_images
from tissueseg.data.sampling import EpochShuffle, Rank, ScoredTiles, TrainingPicks
from tissueseg.data.views import Views
from tissueseg.errors import ConfigError


class ImageDataModule(pl.LightningDataModule):
    """Streams tiles; holds handles and indices, never images.

    Args:
        train: tiles that are learnt from.
        val: tiles held out; None: there are none.
        loading: how tiles are fed.
        views: copies of every training tile, of which one is drawn each time.

    Raises:
        ConfigError: fewer training tiles than a step takes.
    """

    def __init__(
        self, train: ImageTiles, val: ImageTiles | None, loading: Loading, views: Views
    ) -> None:
        super().__init__()
        if len(train) < loading.batch_size:
            raise ConfigError(
                f"{len(train)} training tiles fill no step of data.batch_size={loading.batch_size}: "
                "lower it, or use more tissues."
            )
        self.train, self.val = train, val
        self._loading, self._views = loading, views

    def train_dataloader(self) -> DataLoader[ImageBatch]:
        """Every training tile once, in one of its views; both follow seed and epoch."""
        rank, loading = self._rank, self._loading
        share = loading.share(rank.of)
        order = EpochShuffle(self.train, loading.seed)
        unit = share.batch_size * share.batches  # an epoch's steps are all of one size
        picks = TrainingPicks(order, self._views, loading.seed, rank, unit)
        if self.trainer is not None:  # workers ask for items before Lightning says the epoch
            progress: Any = self.trainer.fit_loop.epoch_progress.current
            picks.set_epoch(progress.processed)
        return loading.loader(self.train, picks, share.batch_size, collate_images)

    def val_dataloader(self) -> DataLoader[ImageBatch] | list[Any]:
        """Every held-out tile once, with the same tokens hidden every time."""
        if self.val is None:
            return []
        tiles = ScoredTiles(self.val, self._rank, self._loading.batch_size)
        return self._loading.loader(self.val, tiles, tiles.batch_size, collate_images)

    @property
    def _rank(self) -> Rank:
        trainer = self.trainer
        return Rank(trainer.global_rank, trainer.world_size) if trainer else Rank()
