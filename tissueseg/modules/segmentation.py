"""One LightningModule for every composition: it is handed encoder, decoder, loss and optimizer."""

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

from tissueseg.contracts import Batch, EncoderSpec, Features, Outputs
from tissueseg.data.features import as_encoded
from tissueseg.decoders.base import Decoder
from tissueseg.encoders.base import Encoder
from tissueseg.errors import (
    FeatureOverflowError,
    LossNotFiniteError,
    PeerLostError,
    SpecMismatchError,
)
from tissueseg.losses.weighted_sum import LossValue, WeightedSum
from tissueseg.metrics.pixels import pixel_ids
from tissueseg.metrics.semantic import PooledConfusion, SemanticScores, semantic_scores
from tissueseg.modules.group import ALONE, Group
from tissueseg.modules.whole_batch import (
    share_loss_parameters,
    share_statistics,
    whole_batch,
    window_share,
)

_FROZEN = "encoder."


class SegmentationModule(pl.LightningModule):
    """Trains a decoder on a frozen encoder, or on features that it left behind.

    Args:
        spec: of the encoder.
        encoder: frozen; left out of checkpoints. None: batches bring features along.
        decoder: maps features to one map of logits per head.
        loss: weighted sum of named terms.
        metrics: `val` and `test` -> confusion counts pooled over that side's tissues.
        classes: names of the classes that are scored, by id, for metric keys.
        tissues: `train`, `val` and `test` -> tissues that `Batch.tissue` counts, for messages.
        optimizer: groups of parameters -> optimizer.
        scheduler: optimizer -> scheduler, stepped once per epoch.
        encoder_lr: share of the learning rate that what learns of the encoder has.
        group: of the processes that train together.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        encoder: Encoder | None,
        decoder: Decoder,
        loss: WeightedSum,
        metrics: Mapping[str, PooledConfusion],
        classes: Sequence[str],
        tissues: Mapping[str, Sequence[str]],
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        encoder_lr: float = 1.0,
        group: Group = ALONE,
    ) -> None:
        super().__init__()
        self.spec, self.encoder, self.loss = spec, encoder, loss
        # Convolutions run 1.2 to 1.4 times faster in this layout, on CPU and tensor cores alike.
        self.decoder = decoder.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.metrics = nn.ModuleDict(metrics)  # registered, so that the counts move with the module
        self._classes, self._tissues = tuple(classes), tissues
        self._optimizer, self._scheduler = optimizer, scheduler
        self._encoder_lr, self._group = encoder_lr, group
        # Kept here, and not by Lightning: a fit that is stopped within an epoch goes on with them.
        self.means = nn.ModuleDict({name: MeanMetric() for name in ("_total", *loss.losses)})
        for mean in self.means.values():
            assert isinstance(mean, MeanMetric)
            mean.persistent(True)
        share_loss_parameters(loss, group)

    def forward(self, image: Tensor, present: Tensor | None = None) -> Outputs:
        """Logits per head for normalised tiles with the encoder's halo.

        Args:
            image: (B, C, H + 2·halo, W + 2·halo).
            present: (B, C) bool, False for channels without signal; None: all have some.

        Returns:
            Head name -> (B, c, H, W).
        """
        if self.encoder is None:
            raise SpecMismatchError(
                f"encoder={self.spec.name} was not built: its features are stored. Use features=online."
            )
        return self.decoder(self.encoder(image, present))

    def describe(self) -> list[str]:
        """Where the weights of encoder and decoder come from, a line each."""
        encoder = [] if self.encoder is None else self.encoder.describe()
        return [*encoder, *self.decoder.describe()]

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Tell the decoder how far training is, of all that was planned."""
        planned = self.trainer.estimated_stepping_batches
        self.decoder.set_progress(min(1.0, self.trainer.global_step / max(planned, 1)))

    def on_train_epoch_start(self) -> None:
        """Forget the losses of the epoch before."""
        for mean in self.means.values():
            mean.reset()  # pyright: ignore[reportCallIssue]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch of all processes, so that the mean of their gradients is its gradient."""
        loss = self._step(batch, "train")[0].total
        return loss * (self._group.of * self._share(len(batch.tissue), batch_idx))

    def validation_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Count one batch; the logits go to callbacks."""
        return self._step(batch, "val")[1]

    def test_step(self, batch: Batch, batch_idx: int) -> Outputs:
        """Count one batch of the test tissues."""
        return self._step(batch, "test")[1]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimise the decoder, and what learns of encoder and loss; the decoder's group is the first."""
        optimizer = self._optimizer(self._groups())
        for group in optimizer.param_groups:
            group["lr"] *= group.get("share", 1.0)
        schedule = {"scheduler": self._scheduler(optimizer), "interval": "epoch"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}  # pyright: ignore[reportReturnType]

    def learning(self) -> dict[str, nn.Parameter]:
        """What of decoder and encoder learns, by its name in the module."""
        ours = ("decoder.", "encoder.")
        named = self.named_parameters()
        return {n: p for n, p in named if p.requires_grad and n.startswith(ours)}

    def is_finite(self) -> bool:
        """Whether all that is kept of the module is."""
        kept = (*self.decoder.state_dict().values(), *self.learning().values())
        return all(bool(value.isfinite().all()) for value in kept)

    def _groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": list(self.decoder.parameters())}]
        encoder = [p for n, p in self.learning().items() if n.startswith(_FROZEN)]
        if encoder:
            groups.append({"params": encoder, "share": self._encoder_lr})
        if weights := list(self.loss.parameters()):  # between heads; decay would favour some value
            groups.append({"params": weights, "weight_decay": 0.0})
        return groups

    def on_validation_epoch_start(self) -> None:
        """Forget the counts of the epoch before; processes go on with the statistics of the first."""
        self.confusion("val").reset()
        share_statistics(self.decoder, self._group)

    def on_test_epoch_start(self) -> None:
        """Forget the counts of the run before."""
        self.confusion("test").reset()

    def on_validation_epoch_end(self) -> None:
        """Log pooled scores of the validation tissues."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log pooled scores of the test tissues."""
        self._log_scores("test")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out what is frozen of the encoder: it is known by its spec and digest."""
        state, learning = checkpoint["state_dict"], self.learning()
        kept = (k for k in state if k in learning or not k.startswith(_FROZEN))
        checkpoint["state_dict"] = {k: state[k] for k in kept}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is frozen of the encoder that was built, so that loading stays strict."""
        kept = {k: v for k, v in self.state_dict().items() if k.startswith(_FROZEN)}
        checkpoint["state_dict"] = kept | checkpoint["state_dict"]

    def confusion(self, stage: str) -> PooledConfusion:
        """Counts of the last pass over `val` or `test`."""
        metric = self.metrics[stage]
        assert isinstance(metric, PooledConfusion)
        return metric

    def features(self, batch: Batch) -> Features:
        """Those that came with the batch, else the encoder's."""
        if batch.features is not None:
            return as_encoded(batch)
        assert self.encoder is not None
        return self.encoder(batch.image, batch.present)

    def _step(self, batch: Batch, stage: str) -> tuple[LossValue, Outputs]:
        features = self.features(batch)
        self._refuse_overflow(features, batch, stage)
        outputs = self.decoder(features)
        training = stage == "train"
        loss = self.loss(
            *(whole_batch(outputs, batch, self._group) if training else (outputs, batch))
        )
        self._refuse_nan(loss, outputs, batch, stage)
        (self._mean_loss if training else self._log_loss)(loss, stage, len(batch.tissue))
        if stage in self.metrics:
            predicted, truth = pixel_ids(outputs, batch)
            self.confusion(stage).update(predicted, truth, batch.tissue)
        return loss, outputs

    def _refuse_overflow(self, features: Features, batch: Batch, stage: str) -> None:
        """Features that are not finite would turn every weight of the decoder into NaN, silently."""
        finite = torch.stack(
            [f.flatten(1).sum(1, dtype=torch.float32) for f in features.levels]
        ).isfinite()
        if bool(finite.all()):
            return
        raise FeatureOverflowError(
            f"encoder={self.spec.name} gave features that are not finite for "
            f"{self._place(batch, stage, finite.all(0))}: its numbers outgrow "
            f"{features.levels[-1].dtype}. Use trainer.precision=bf16-mixed or 32-true; if they do not "
            "help, look at that tile."
        )

    def _refuse_nan(self, loss: LossValue, outputs: Outputs, batch: Batch, stage: str) -> None:
        """A loss that is not finite ends learning: class 0 everywhere would be scored as a result."""
        if bool(loss.total.isfinite()):
            return
        terms = [name for name, value in loss.terms.items() if not value.isfinite()]
        finite = torch.stack([logits.flatten(1).isfinite().all(1) for logits in outputs.values()])
        good = finite.all(0)
        place, known = self._place(batch, stage, good), not bool(good.all())
        if stage == "train":  # all processes have this loss; one of them has the tile
            places = self._group.gathered((place, known))
            if not self._group.leads:
                raise PeerLostError("the loss is not finite.")
            place = next((place for place, known in places if known), place)
        raise LossNotFiniteError(
            f"{stage}/loss is {float(loss.total.detach())} in epoch {self.current_epoch + 1}, in its "
            f"terms {', '.join(terms) or '(their sum)'}, at {place}: "
            "lower optim.optimizer.lr, choose trainer.precision=32-true or look at the options of these "
            "terms. The best decoder of the epochs before is kept."
        )

    def _place(self, batch: Batch, stage: str, good: Tensor) -> str:
        """Where the first tile lies that is not good (B,), or the batch's first."""
        first = int(good.logical_not().int().argmax())
        tissue, (y, x) = (
            self._tissues[stage][int(batch.tissue[first])],
            batch.origin[first].tolist(),
        )
        return f"tissue {tissue}, tile at row {y}, column {x}"

    def _share(self, tiles: int, batch_idx: int) -> float:
        """What a batch counts in a step that gathers several; 1 but for the last step of an epoch."""
        gathered = self.trainer.accumulate_grad_batches
        if gathered == 1:
            return 1.0
        loader: Any = self.trainer.train_dataloader
        in_epoch, batches = len(loader.sampler), int(self.trainer.num_training_batches)
        return window_share(batch_idx, tiles, gathered, loader.batch_size, in_epoch, batches)

    def _mean_loss(self, loss: LossValue, stage: str, count: int) -> None:
        """Add to the means of the epoch; each process has the loss of all."""
        values = {"_total": loss.total.detach(), **loss.terms}
        for name, mean in self.means.items():
            mean.update(values[name], count)  # pyright: ignore[reportCallIssue]
            key = f"{stage}/loss" if name == "_total" else f"{stage}/loss/{name}"
            self.log(key, mean, on_step=False, on_epoch=True, prog_bar=name == "_total")  # pyright: ignore[reportArgumentType]

    def _log_loss(self, loss: LossValue, stage: str, count: int) -> None:
        how: dict[str, Any] = {
            "on_step": False,
            "on_epoch": True,
            "batch_size": float(count),  # of whole numbers, Lightning cuts the mean over processes
            "sync_dist": True,
        }
        self.log(f"{stage}/loss", loss.total.detach(), **how)
        self.log_dict({f"{stage}/loss/{name}": v for name, v in loss.terms.items()}, **how)

    def _log_scores(self, stage: str) -> None:
        # The counts stay until the next epoch starts: scoring reads them after the pass.
        scores = semantic_scores(self.confusion(stage).compute().sum(0).cpu())
        for key, value in self._keyed(stage, scores).items():
            self.log(key, value, batch_size=1, prog_bar=key.endswith("dice/macro_foreground"))

    def _keyed(self, stage: str, scores: SemanticScores) -> dict[str, float]:
        keyed = {
            f"{stage}/dice/macro": scores.macro_dice,
            f"{stage}/dice/macro_foreground": scores.macro_dice_foreground,
            f"{stage}/iou/macro": scores.macro_iou,
            f"{stage}/iou/macro_foreground": scores.macro_iou_foreground,
        }
        per_class = zip(self._classes, scores.dice, scores.iou, strict=True)
        for name, dice, iou in per_class:
            keyed |= {f"{stage}/dice/{name}": float(dice), f"{stage}/iou/{name}": float(iou)}
        return keyed
