"""CellViT's decoder on any encoder with tokens every 8 or 16 px: skip paths, branch, heads.

Skip paths are computed once and shared by all heads. The original recomputes them per head: equal at
inference, while in training its heads see different dropout in the same skips.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from tissueseg.contracts import LEVELS, EncoderSpec, Features, Outputs, head_channels
from tissueseg.decoders import published
from tissueseg.decoders.blocks import ConvBlock, DeconvBlock
from tissueseg.decoders.branch import Branch, Widths, join
from tissueseg.decoders.heads import Head
from tissueseg.errors import ConfigError, SpecMismatchError

SKIPS = {"all": (True, True), "image_only": (True, False), "none": (False, False)}
"""Choice of `skips` -> whether (the image, the encoder's levels 1 to 3) reach the decoder sideways."""

SHARES = ("trunk", "branches")
STRIDES_PX = (8, 16)
HEAD_OPTIONS = {"depth", "hidden", "dropout"}


class SkipDecoder(nn.Module):
    """CellViT's decoder (Hörst et al. 2024, Fig. 2) with named heads.

    At stride 16, width 1 and `share="branches"` every layer has the published shape and name
    (`decoder0` … `decoder3`; `branches.<head>.*_upsampler`; `decoder0_header.<head>`). Departures:
    heads may share one branch; widths scale; levels may differ in width; skips can be left out;
    stride 8, where the bottleneck is a Conv 1×1 and the first upsampling of each skip path a
    ConvBlock, for the tokens already lie one step higher; levels may be projected first.

    Args:
        spec: of the encoder whose features come in.
        image_channels: channels of the tile image, for its skip path.
        n_classes: classes of the class image, background included.
        heads: head name -> options of `Head` (depth, hidden, dropout).
        width: scales every hidden width, to multiples of 8 and at least 8.
        skips: `all`, `image_only` or `none`; a path that is off is not built.
        share: `trunk`, one branch for all heads, or `branches`, one each (as published).
        dropout: in every block, unless a head states its own.
        project: brings every level to this width first, by a trainable Conv 1×1 each; None: they
            enter as they are. For encoders side by side, whose levels add up to wide ones.
        weights: a CellViT checkpoint (path or hub address) that fills every layer; see `published`.

    Attributes:
        accounting: what became of every number of `weights`; None without.

    Raises:
        SpecMismatchError: a stride other than 8 and 16, or an unknown head.
        ConfigError: an unknown option.
        WeightsError: weights that do not fit.
    """

    def __init__(
        self,
        spec: EncoderSpec,
        image_channels: int,
        n_classes: int,
        heads: Mapping[str, Mapping[str, Any]],
        width: float = 1.0,
        skips: str = "all",
        share: str = "trunk",
        dropout: float = 0.3,
        project: int | None = None,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        _check_options(heads, skips, share)
        _check_values(width, project, weights)
        self.stride_px = _checked_stride(spec)
        self.head_names = tuple(heads)
        image_skip, level_skips = SKIPS[skips]
        e1, e2, e3, e4 = [project] * LEVELS if project else spec.channels
        w = Widths.scaled(e4, width)

        def path(*widths: int) -> nn.Sequential | None:
            return _skip_path(widths, self.stride_px, dropout) if level_skips else None

        # Levels that reach no layer get no projection either: it would never be trained.
        self.projections = _projections(spec.channels, project, LEVELS if level_skips else 1)
        self.decoder0 = _image_path(image_channels, w, dropout) if image_skip else None
        self.decoder1 = path(e1, w.skip1, w.skip2, w.half)
        self.decoder2 = path(e2, w.skip1, w.quarter)
        self.decoder3 = path(e3, w.bottleneck)
        branches = heads if share == "branches" else ("trunk",)
        self.branches = nn.ModuleDict(
            {name: Branch(e4, w, self.stride_px, level_skips, dropout) for name in branches}
        )
        self.decoder0_header = _headers(heads, w, image_skip, dropout, n_classes)
        settings = {"share": share, "skips": skips, "project": project}
        self.accounting = published.load(self, weights, spec, settings) if weights else None

    def forward(self, features: Features) -> Outputs:
        """Decode a batch.

        Args:
            features: four grids (B, D, H/stride, W/stride) and the image (B, C, H, W).

        Returns:
            Head name -> logits (B, c, H, W).

        Raises:
            SpecMismatchError: grids that are not the tile's size over the stride.
        """
        _check_grid(features, self.stride_px)
        *shallow, deepest = self._projected(features.levels)
        paths = (self.decoder1, self.decoder2, self.decoder3)
        skips = [_skip(path, level) for path, level in zip(paths, shallow, strict=True)]
        image = _skip(self.decoder0, features.image)
        tops = {
            name: join(image, branch(deepest, skips[::-1]))
            for name, branch in self.branches.items()
        }
        return {
            name: head(tops[name if name in tops else "trunk"])
            for name, head in self.decoder0_header.items()
        }

    def describe(self) -> list[str]:
        """Where its weights come from, a line each; none when it is to be trained from scratch."""
        if self.accounting is None:
            return []
        lines = [f"decoder: {self.accounting.loaded:,} parameters and statistics loaded"]
        return lines + [f"ignored in the file: {reason}" for reason in self.accounting.reasons]

    def _projected(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Levels at the width their layers want."""
        first = LEVELS - len(self.projections)
        narrow = [layer(x) for layer, x in zip(self.projections, levels[first:], strict=True)]
        return (*levels[:first], *narrow)


def _skip(path: nn.Module | None, x: Tensor) -> Tensor | None:
    """What goes sideways, None where that path was not built."""
    return None if path is None else path(x)


def _projections(channels: tuple[int, ...], project: int | None, used: int) -> nn.ModuleList:
    """One Conv 1×1 for each of the deepest `used` levels; none without `project`."""
    if project is None:
        return nn.ModuleList()
    return nn.ModuleList(nn.Conv2d(c, project, 1) for c in channels[LEVELS - used :])


def _headers(
    heads: Mapping[str, Mapping[str, Any]],
    widths: Widths,
    image_skip: bool,
    dropout: float,
    n_classes: int,
) -> nn.ModuleDict:
    """The last layers of every head."""
    top = 2 * widths.full if image_skip else widths.full
    defaults = {"hidden": widths.full, "dropout": dropout}
    return nn.ModuleDict(
        {
            name: Head(top, head_channels(name, n_classes), **(defaults | dict(options)))
            for name, options in heads.items()
        }
    )


def _image_path(channels: int, widths: Widths, dropout: float) -> nn.Sequential:
    """The image at its own size."""
    return nn.Sequential(
        ConvBlock(channels, widths.image, dropout), ConvBlock(widths.image, widths.full, dropout)
    )


def _skip_path(widths: tuple[int, ...], stride_px: int, dropout: float) -> nn.Sequential:
    """Steps from an encoder's grid up to the size at which it joins the branch."""
    first = DeconvBlock if stride_px == 16 else ConvBlock
    rest = [DeconvBlock(a, b, dropout) for a, b in pairwise(widths[1:])]
    return nn.Sequential(first(widths[0], widths[1], dropout), *rest)


def _checked_stride(spec: EncoderSpec) -> int:
    if spec.stride_px is None or spec.stride_px not in STRIDES_PX:
        raise SpecMismatchError(
            f"encoder={spec.name} has a token every {spec.stride_px} px, but SkipDecoder climbs from "
            "8 or 16 px: set encoder.spec.stride_px to one of them, and grids are resampled to it."
        )
    return spec.stride_px


def _check_options(heads: Mapping[str, Mapping[str, Any]], skips: str, share: str) -> None:
    if skips not in SKIPS:
        raise ConfigError(f"decoder.skips={skips!r}; choose from {', '.join(SKIPS)}.")
    if share not in SHARES:
        raise ConfigError(f"decoder.share={share!r}; choose from {', '.join(SHARES)}.")
    if not heads:
        raise ConfigError("decoder.heads is empty; name at least one head, such as classes.")
    for name, options in heads.items():
        if not isinstance(options.get("depth", 0), int) or options.get("depth", 0) < 0:
            raise ConfigError(f"decoder.heads.{name}.depth={options['depth']}, wanted 0, 1, 2, …")
        if unknown := sorted(set(options) - HEAD_OPTIONS):
            raise ConfigError(
                f"decoder.heads.{name} has {unknown}; choose from {sorted(HEAD_OPTIONS)}."
            )


def _check_values(width: float, project: int | None, weights: str | None) -> None:
    if not 0 < width < math.inf:
        raise ConfigError(f"decoder.width={width}, wanted a number above 0.")
    whole = isinstance(project, int) and not isinstance(project, bool) and project >= 1
    if project is not None and not whole:
        raise ConfigError(f"decoder.project={project}, wanted a number of channels ≥ 1 or null.")
    if weights is not None and not (isinstance(weights, str) and weights):
        raise ConfigError(
            f"decoder.weights={weights!r}, wanted a file, hf://owner/repository/file or null."
        )


def _check_grid(features: Features, stride_px: int) -> None:
    """Without the image skip nothing else would notice logits of the wrong size."""
    tile, grid = features.image.shape[-2:], features.levels[-1].shape[-2:]
    if tile[0] != grid[0] * stride_px or tile[1] != grid[1] * stride_px:
        raise SpecMismatchError(
            f"features are {grid[0]} × {grid[1]} tokens for a tile of {tile[0]} × {tile[1]} px, but "
            f"the decoder was built for one every {stride_px} px. Use the spec they were made with."
        )
