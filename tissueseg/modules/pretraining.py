"""One LightningModule for every masked autoencoder: it hides, fills in, and is told how far off it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric

from tissueseg.data.image_tiles import ImageBatch
from tissueseg.errors import LossNotFiniteError
from tissueseg.pretraining.autoencoder import MaskedAutoencoder, Reconstruction

_NO_DECAY = ("norm", "bias", "token", "positions", "summary", "pos_embed", "gamma")
"""Names of parameters that weight decay would pull towards nothing that is known of them."""


class PretrainingModule(pl.LightningModule):
    """Trains a masked autoencoder.

    The loss of a tile follows its own draw, and each tile counts alike: so the mean of the gradients of
    several processes is that of the whole batch.

    Args:
        autoencoder: the encoder that learns, with its decoder.
        tissues: of training, and of validation: names that `ImageBatch.tissue` counts.
        optimizer: groups of parameters -> optimizer.
        scheduler: optimizer -> scheduler, stepped once per epoch.
    """

    def __init__(
        self,
        autoencoder: MaskedAutoencoder,
        tissues: Mapping[str, Sequence[str]],
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self._tissues, self._optimizer, self._scheduler = tissues, optimizer, scheduler
        self.mean = MeanMetric()  # of the epoch; a fit that is stopped within one goes on with it
        self.mean.persistent(True)

    def on_train_epoch_start(self) -> None:
        """Forget the losses of the epoch before."""
        self.mean.reset()

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Loss of what was hidden of a batch."""
        loss = self.autoencoder.loss(self.autoencoder(batch))
        self._refuse_nan(loss, batch, "train")
        # Each process has the mean of all, so that a state that one of them keeps holds for all.
        shared: Any = self.trainer.strategy.reduce(loss.detach(), reduce_op="mean")
        self.mean.update(shared, len(batch.image))
        self.log("train/loss", self.mean, on_step=False, on_epoch=True, prog_bar=True)  # pyright: ignore[reportArgumentType]
        return loss

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> Reconstruction:
        """Loss of what was hidden of held-out tiles; what was filled in goes to callbacks."""
        found = self.autoencoder(batch)
        loss = self.autoencoder.loss(found)
        self._refuse_nan(loss, batch, "val")
        count = float(len(batch.image))
        self.log("val/loss", loss, on_epoch=True, batch_size=count, sync_dist=True, prog_bar=True)  # pyright: ignore[reportArgumentType]
        return found

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Decay weights of linear layers alone."""
        decayed, others = list[nn.Parameter](), list[nn.Parameter]()
        for name, parameter in self.autoencoder.named_parameters():
            plain = parameter.ndim < 2 or any(word in name for word in _NO_DECAY)
            (others if plain else decayed).append(parameter)
        optimizer = self._optimizer([{"params": decayed}, {"params": others, "weight_decay": 0.0}])
        schedule = {"scheduler": self._scheduler(optimizer), "interval": "epoch"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}  # pyright: ignore[reportReturnType]

    def _refuse_nan(self, loss: Tensor, batch: ImageBatch, stage: str) -> None:
        if bool(loss.isfinite()):
            return
        finite = batch.image.flatten(1).isfinite().all(1)
        first = int(torch.argmin(finite.int()))
        tissue, (y, x) = (
            self._tissues[stage][int(batch.tissue[first])],
            batch.origin[first].tolist(),
        )
        raise LossNotFiniteError(
            f"{stage}/loss is {float(loss.detach())} in epoch {self.current_epoch + 1}, in a batch with "
            f"tissue {tissue}, tile at row {y}, column {x}: lower optim.optimizer.lr or choose "
            "trainer.precision=32-true. States of the epochs before are kept: go on with resume=."
        )
