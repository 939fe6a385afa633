"""Training in several processes as if in one: one loss over the tiles of all, one normalisation.

Averaging gradients of losses that each process computes of its own tiles trains on another loss: sums
over a batch (Focal Tversky) and means over known pixels are no means of their parts. So each process
computes the loss of all tiles, its own with a graph and the others' without. Multiplied by the number of
processes, the mean of their gradients, which DDP takes, is the gradient of that loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tissueseg.contracts import Batch, Outputs
from tissueseg.modules.group import Group


def whole_batch(outputs: Outputs, batch: Batch, group: Group) -> tuple[Outputs, Batch]:
    """The outputs and truth of all processes, in their order; all must have as many tiles.

    Args:
        outputs: of this process, whose graph is kept.
        batch: of this process.
        group: of processes.

    Returns:
        Tensors of group.of · B tiles; what no loss reads stays behind.
    """
    if group.of == 1:
        return outputs, batch
    whole = batch._replace(
        image=batch.image[:0],
        present=batch.present[:0],
        tissue=batch.tissue[:0],
        origin=batch.origin[:0],
        view=batch.view[:0],
        features=None,
        classes=_gathered(batch.classes, group),
        labels=_gathered(batch.labels, group),
        targets={head: _gathered(t, group) for head, t in sorted(batch.targets.items())},
    )
    return {head: _gathered(logits, group) for head, logits in sorted(outputs.items())}, whole


def _gathered(own: Tensor, group: Group) -> Tensor:
    """(B, …) of this process -> (group.of · B, …) of all."""
    sent = own.detach().contiguous()
    sent = sent.view(torch.uint8) if sent.dtype == torch.bool else sent
    parts = [torch.empty_like(sent) for _ in range(group.of)]
    dist.all_gather(parts, sent)
    parts = [part.view(own.dtype) for part in parts]
    parts[group.number] = own
    return torch.cat(parts)


def share_loss_parameters(loss: nn.Module, group: Group) -> None:
    """Let parameters of the loss have their gradient once: every process computes all of it."""
    if group.of == 1:
        return
    for parameter in loss.parameters():
        parameter.register_hook(lambda gradient: gradient / group.of)


def window_share(
    batch_idx: int, tiles: int, gathered: int, batch_size: int, in_epoch: int, batches: int
) -> float:
    """What the mean loss of a batch counts in its step, times the batches of a whole step.

    Lightning divides every loss by the batches of a whole step, though the last step of an epoch may
    have fewer or smaller ones.

    Args:
        batch_idx: of the batch in its epoch.
        tiles: in it.
        gathered: batches of a whole step.
        batch_size: tiles of a whole batch.
        in_epoch: tiles of this process in an epoch.
        batches: of this process in an epoch.
    """
    first = batch_idx - batch_idx % gathered
    last = min(first + gathered, batches)
    in_step = min(last * batch_size, in_epoch) - first * batch_size
    return gathered * tiles / in_step


class _Summed(torch.autograd.Function):
    """Sum over processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Add up."""
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Every process's result depends on every process's values."""
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the tiles of all processes, on any device.

    `torch.nn.SyncBatchNorm` is the same on CUDA, and faster; it refuses a CPU.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W) by the mean and variance of all processes' (B, H, W)."""
        if not self.training:
            return super().forward(input)
        values = input if input.dtype == torch.float64 else input.float()
        count = dist.get_world_size() * values.numel() / values.shape[1]
        mean = _Summed.apply(values.sum((0, 2, 3))) / count
        centred = values - mean.view(1, -1, 1, 1)
        variance = _Summed.apply(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / max(count - 1, 1))
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        normal = centred * scale.view(1, -1, 1, 1)
        if self.bias is not None:
            normal = normal + self.bias.view(1, -1, 1, 1)
        return normal.to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        self.num_batches_tracked.add_(1)  # pyright: ignore[reportOptionalMemberAccess]
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / float(self.num_batches_tracked)  # pyright: ignore[reportArgumentType]
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def share_batch_norm(module: nn.Module) -> None:
    """Make every batch normalisation of a module one over all processes, where it stands."""
    for layer in module.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SharedBatchNorm


def share_statistics(module: nn.Module, group: Group) -> None:
    """Let all processes have the first one's batch statistics, which differ unless they are shared."""
    if group.of == 1:
        return
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for statistic in (layer.running_mean, layer.running_var):
                if statistic is not None:
                    dist.broadcast(statistic, src=0)
