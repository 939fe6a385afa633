"""What of an encoder may learn after all: its last blocks, or low-rank updates of its attention.

Everything else stays frozen, and the whole stays in eval mode. No graph is built before the first
parameter that learns, so the blocks before it cost what they cost a frozen encoder; those after it keep
what backward needs of every tile of the batch, whatever `chunk` says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tissueseg.encoders.base import Encoder
from tissueseg.encoders.layers import seeded
from tissueseg.errors import ConfigError, SpecMismatchError
from tissueseg.numbers import check_number, check_whole


@dataclass(frozen=True)
class Finetune:
    """How much of an encoder learns; as it is made here, nothing.

    Raises:
        ConfigError: values that cannot be used, or both ways at once.
    """

    blocks: int = 0  # last transformer blocks that are trained whole
    lora: int | None = None  # rank of the updates of every block's attention projections
    lora_alpha: float | None = None  # updates are scaled by lora_alpha / lora; None: by 1
    lr_factor: float = 0.1  # of the decoder's learning rate

    def __post_init__(self) -> None:
        check_whole("finetune.blocks", self.blocks, 0, note="blocks, 0 for none")
        if self.lora is not None:
            check_whole("finetune.lora", self.lora, 1, note="a rank, or null for none")
        if self.lora_alpha is not None:
            check_number("finetune.lora_alpha", self.lora_alpha, above=0, note="or null")
        check_number("finetune.lr_factor", self.lr_factor, above=0)
        if self.blocks and self.lora is not None:
            raise ConfigError(
                f"finetune.blocks={self.blocks} and finetune.lora={self.lora} exclude each other: "
                "set one of them to 0 or null."
            )
        if self.lora_alpha is not None and self.lora is None:
            raise ConfigError(
                f"finetune.lora_alpha={self.lora_alpha} scales what finetune.lora=null leaves out: "
                "give a rank too."
            )

    @property
    def active(self) -> bool:
        """Whether anything learns."""
        return bool(self.blocks) or self.lora is not None

    @property
    def said(self) -> str:
        """The option that makes the encoder learn, as on a command line; empty if none does."""
        if self.lora is not None:
            return f"finetune.lora={self.lora}"
        return f"finetune.blocks={self.blocks}" if self.blocks else ""

    def label(self, encoder: str) -> str:
        """What a tuned encoder is called: `virtues+lora8`, `tiny_random_init+blocks2`."""
        if self.lora is not None:
            scaled = "" if self.lora_alpha is None else f"a{self.lora_alpha:g}"
            return f"{encoder}+lora{self.lora}{scaled}"
        return f"{encoder}+blocks{self.blocks}" if self.blocks else encoder

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for checkpoints; empty where nothing learns."""
        return asdict(self) if self.active else {}


class LowRank(nn.Module):
    """W ↦ W + (α/r)·B·A, with B zero at first (Hu et al. 2021, LoRA, section 4.1).

    Departs from it in two ways: a fused projection has one A for query, key and value, and the sum is
    made before the product with the tokens, so that whoever reads the weight sees it.

    Args:
        weight: (out, in) of a linear layer.
        rank: r, columns of B.
        alpha: α; None: r.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float | None = None) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = 1.0 if alpha is None else alpha / rank
        self.lora_a = nn.Parameter(weight.new_empty(rank, columns))
        self.lora_b = nn.Parameter(weight.new_zeros(rows, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))  # as nn.Linear's own weights

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer works with."""
        with torch.autocast(weight.device.type, enabled=False):  # updates are small next to it
            return torch.addmm(weight, self.lora_b, self.lora_a, alpha=self.scale)


def tune(encoder: Encoder, how: Finetune, seed: int) -> None:
    """Let parts of a frozen encoder learn; of a pair, of both. Its spec and digest stay as published.

    Args:
        encoder: frozen; with `how.active` it is changed in place.
        how: what learns.
        seed: of the updates' first values; the global random state is left as it was.

    Raises:
        ConfigError: more blocks than there are, an encoder without blocks, or a rank that is not low.
    """
    if not how.active:
        return
    with seeded(seed):
        for part in _with_blocks(encoder):
            blocks = _running(part)
            if how.lora is None:
                _last(part, blocks, how.blocks).requires_grad_(True)
            else:
                for block in blocks:
                    _adapt(block, how.lora, how.lora_alpha, part.spec.name)
            learning = sum(p.numel() for p in part.parameters() if p.requires_grad)
            part.tuned = f"{how.said}: {learning:,} parameters of {part.spec.name} learn"
    encoder.tuned = encoder.tuned or how.said  # a pair's parts have said it


def tuned_state(encoder: Encoder) -> dict[str, Tensor]:
    """The parameters that learn, by name, on the CPU: all that tells it from the published one."""
    learning = ((n, p) for n, p in encoder.named_parameters() if p.requires_grad)
    return {name: value.detach().cpu().clone() for name, value in learning}


def restore(encoder: Encoder, state: Mapping[str, Tensor]) -> None:
    """Put back what `tuned_state` gave, into an encoder tuned the same way.

    Raises:
        SpecMismatchError: the names or shapes are not those of the parameters that learn.
    """
    own = {name: tuple(p.shape) for name, p in encoder.named_parameters() if p.requires_grad}
    given = {name: tuple(value.shape) for name, value in state.items()}
    if own != given:
        differ = sorted(n for n in own.keys() | given.keys() if own.get(n) != given.get(n))
        raise SpecMismatchError(
            f"encoder={encoder.spec.name}: {len(differ)} tuned parameters, such as {differ[0]}, are "
            "not those of the checkpoint: take its run's finetune options."
        )
    encoder.load_state_dict(state, strict=False)  # the others stay as published


def _with_blocks(encoder: Encoder) -> list[Encoder]:
    """An encoder, or the parts of a pair."""
    nested = (module for module in encoder.modules() if isinstance(module, Encoder))
    found = [part for part in nested if isinstance(getattr(part, "blocks", None), nn.ModuleList)]
    if not found:
        raise ConfigError(
            f"encoder={encoder.spec.name} has no transformer blocks to tune: set finetune.blocks=0 "
            "and finetune.lora=null."
        )
    return found


def _running(part: Encoder) -> nn.ModuleList:
    """The blocks that features come through; VirTues' may go on behind the last level."""
    blocks = part.get_submodule("blocks")
    assert isinstance(blocks, nn.ModuleList)
    levels = getattr(part, "levels", None)
    return blocks[: levels[-1]] if levels else blocks


def _last(part: Encoder, blocks: nn.ModuleList, count: int) -> nn.ModuleList:
    if count > len(blocks):
        raise ConfigError(
            f"finetune.blocks={count}, but encoder={part.spec.name} has {len(blocks)} blocks: choose "
            f"at most {len(blocks)}."
        )
    return blocks[len(blocks) - count :]


def _adapt(block: nn.Module, rank: int, alpha: float | None, encoder: str) -> None:
    for module in [*block.modules()]:
        if isinstance(layer := getattr(module, "qkv", None), nn.Linear):
            if rank >= (width := min(layer.weight.shape)):
                raise ConfigError(
                    f"finetune.lora={rank} is no low rank for encoder={encoder}, whose attention "
                    f"projections are {width} wide: choose a rank below {width}."
                )
            update = LowRank(layer.weight, rank, alpha)
            parametrize.register_parametrization(layer, "weight", update)
