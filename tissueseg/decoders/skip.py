"""CellViT's decoder on any encoder with tokens every 8 or 16 px: skip paths, branches, heads, slots.

Skip paths are computed once and shared by all heads. The original recomputes them per head: equal at
inference, while in training its heads see different dropout in the same skips. What variants add fills
slots; a filled slot always runs, in training and inference alike, and None is the only "off".
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from tissueseg.contracts import LEVELS, EncoderSpec, Features, Outputs
from tissueseg.decoders import published
from tissueseg.decoders.base import Decoder
from tissueseg.decoders.blocks import ConvBlock, DeconvBlock
from tissueseg.decoders.branch import Branch, Widths, join
from tissueseg.decoders.checks import (
    BOUNDARY,
    GATE,
    MASK,
    SKIPS,
    check_grid,
    check_heads,
    check_slots,
    check_values,
    checked_stride,
)
from tissueseg.decoders.heads import Head
from tissueseg.decoders.initialisation import OwnDraws
from tissueseg.heads import base_head, coarse, head_channels, head_stride

CLIMB = (8, 4, 2)
"""Tile pixels per feature at the entry of each stage."""


class SkipDecoder(Decoder):
    """CellViT's decoder (Hörst et al. 2024, Fig. 2) with named heads and slots.

    At stride 16, width 1 and `share="branches"` every layer has the published shape and name
    (`decoder0` … `decoder3`; `branches.<head>.*_upsampler`; `decoder0_header.<head>`). Departures:
    heads may share one branch; widths scale; levels may differ in width; skips can be left out;
    stride 8, where the bottleneck is a Conv 1×1 and the first upsampling of each skip path a
    ConvBlock, for the tokens already lie one step higher; levels may be projected first.

    Every part's initial weights depend on the seed and its name alone, so that variants of one seed start
    from the same trunk.

    Heads whose name ends in `_stride8`, `4`, `2` or `1` read the branch of their base head (else the
    first one) where it has a feature on every so many pixels, before what lies above.

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
        context: slot, channels -> module that the bottleneck's output of every branch passes through.
        boundary_attention: slot, () -> module(features, boundary logits) that weighs the features of
            all branches wherever there is a coarse boundary head, and in the end those that the other
            heads read, by the boundary head.
        gate: slot, () -> module(skip, foreground logits) that weighs the image's skip by
            `foreground_stride1`.
        refine: slot, channels -> module(features, foreground logits) that the last stage's output of
            every branch passes through, under `foreground_stride4`.

    Attributes:
        accounting: what became of every number of `weights`; None without.

    Raises:
        SpecMismatchError: a stride other than 8 and 16, or an unknown head.
        ConfigError: an unknown option, or a slot without the heads it is guided by.
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
        context: Callable[[int], nn.Module] | None = None,
        boundary_attention: Callable[[], nn.Module] | None = None,
        gate: Callable[[], nn.Module] | None = None,
        refine: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        check_heads(heads, share)
        check_values(width, skips, dropout, project, weights)
        slots = {
            "context": context,
            "boundary_attention": boundary_attention,
            "gate": gate,
            "refine": refine,
        }
        check_slots(slots, heads, skips)
        self.stride_px = checked_stride(spec)
        self.head_names = tuple(heads)
        image_skip, level_skips = SKIPS[skips]
        e1, e2, e3, e4 = [project] * LEVELS if project else spec.channels
        w = Widths.scaled(e4, width)

        def path(*widths: int) -> nn.Sequential | None:
            return _skip_path(widths, self.stride_px, dropout) if level_skips else None

        draws = OwnDraws()
        with draws.of("projections"):
            # Levels that reach no layer get no projection either: it would never be trained.
            self.projections = _projections(spec.channels, project, LEVELS if level_skips else 1)
        with draws.of("image path"):
            self.decoder0 = _image_path(image_channels, w, dropout) if image_skip else None
        with draws.of("skip paths"):
            self.decoder1 = path(e1, w.skip1, w.skip2, w.half)
            self.decoder2 = path(e2, w.skip1, w.quarter)
            self.decoder3 = path(e3, w.bottleneck)
        ends = [name for name in heads if head_stride(name) is None]
        branch = partial(Branch, e4, w, self.stride_px, level_skips, dropout)
        names = ends if share == "branches" else ["trunk"]
        self.branches = _branches(names, draws, branch, context, refine)
        self.boundary_attention = boundary_attention() if boundary_attention else None
        self.gate = gate() if gate else None
        top = w.full * (2 if image_skip else 1)
        entries = {n: top if n in ends else w.at(head_stride(n) or 1) for n in heads}
        defaults = {"hidden": w.full, "dropout": dropout}
        made = _heads(heads, entries, n_classes, defaults, draws)
        self.coarse_heads = nn.ModuleDict({n: made[n] for n in heads if n not in ends})
        self.decoder0_header = nn.ModuleDict({n: made[n] for n in ends})
        settings = {"share": share, "skips": skips, "project": project}
        self.accounting = published.load(self, weights, spec, settings) if weights else None

    def forward(self, features: Features) -> Outputs:
        """Decode a batch.

        Args:
            features: four grids (B, D, H/stride, W/stride) and the image (B, C, H, W).

        Returns:
            Head name -> logits (B, c, H, W); of coarse heads (B, c, H/stride, W/stride).

        Raises:
            SpecMismatchError: grids that are not the tile's size over the stride.
        """
        check_grid(features, self.stride_px)
        *shallow, deepest = self._projected(features.levels)
        paths = (self.decoder3, self.decoder2, self.decoder1)
        skips = [_skip(path, level) for path, level in zip(paths, shallow[::-1], strict=True)]
        found: Outputs = {}
        below = {name: branch.enter(deepest) for name, branch in self._branches()}
        for stride, skip in zip(CLIMB, skips, strict=True):
            below = self._guided(below, stride, found)
            below = {n: branch.climb(stride, skip, below[n]) for n, branch in self._branches()}
        below = self._guided(below, 1, found)
        below = {n: branch.end(below[n], found.get(MASK)) for n, branch in self._branches()}
        found |= self._ends(below, _skip(self.decoder0, features.image), found)
        return {name: found[name] for name in self.head_names}

    def set_progress(self, done: float) -> None:
        """Tell slots that are warmed up how far training is.

        Args:
            done: share of the planned steps, 0 … 1.
        """
        if self.boundary_attention is not None:
            self.boundary_attention.set_progress(done)  # pyright: ignore[reportCallIssue]

    def describe(self) -> list[str]:
        """Where its weights come from, a line each; none when it is to be trained from scratch."""
        if self.accounting is None:
            return []
        lines = [f"decoder: {self.accounting.loaded:,} parameters and statistics loaded"]
        return lines + [f"ignored in the file: {reason}" for reason in self.accounting.reasons]

    def _guided(self, below: dict[str, Tensor], stride: int, found: Outputs) -> dict[str, Tensor]:
        """Let the coarse heads of a stride speak, and the boundary among them weigh all branches."""
        for name, head in self.coarse_heads.items():
            if head_stride(name) == stride:
                found[name] = head(below[self._branch_of(name)])
        return self._weighed(below, found.get(coarse(BOUNDARY, stride)))

    def _ends(
        self, below: dict[str, Tensor], image: Tensor | None, found: Outputs
    ) -> dict[str, Tensor]:
        """Logits of the heads at tile size; the boundary's first where others are weighed by it."""
        if self.gate is not None:
            image = self.gate(image, found[GATE])
        tops = {name: join(image, x) for name, x in below.items()}
        first = {}
        if self.boundary_attention is not None:
            first[BOUNDARY] = self.decoder0_header[BOUNDARY](tops[self._branch_of(BOUNDARY)])
            tops = self._weighed(tops, first[BOUNDARY])
        return first | {
            name: head(tops[self._branch_of(name)])
            for name, head in self.decoder0_header.items()
            if name not in first
        }

    def _weighed(self, features: dict[str, Tensor], boundary: Tensor | None) -> dict[str, Tensor]:
        if self.boundary_attention is None or boundary is None:
            return features
        return {name: self.boundary_attention(x, boundary) for name, x in features.items()}

    def _branch_of(self, head: str) -> str:
        """Which branch a head reads: the one for all, its own, its base head's, or the first."""
        own = base_head(head)
        return own if own in self.branches else next(iter(self.branches))

    def _branches(self) -> list[tuple[str, Branch]]:
        return [(n, b) for n, b in self.branches.items() if isinstance(b, Branch)]

    def _projected(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Levels at the width their layers want."""
        first = LEVELS - len(self.projections)
        narrow = [layer(x) for layer, x in zip(self.projections, levels[first:], strict=True)]
        return (*levels[:first], *narrow)


def _branches(
    names: Sequence[str],
    draws: OwnDraws,
    branch: Callable[[], Branch],
    context: Callable[[int], nn.Module] | None,
    refine: Callable[[int], nn.Module] | None,
) -> nn.ModuleDict:
    """A branch of each name, its slots filled."""
    built = nn.ModuleDict()
    for name in names:
        with draws.of(f"branch {name}"):
            made = branch()
        with draws.of(f"slots of {name}"):
            made.fill(context, refine)
        built[name] = made
    return built


def _heads(
    heads: Mapping[str, Mapping[str, Any]],
    entries: Mapping[str, int],
    n_classes: int,
    defaults: Mapping[str, Any],
    draws: OwnDraws,
) -> dict[str, Head]:
    """Every head, for features as wide as its entry."""
    made = {}
    for name, options in heads.items():
        merged = {**defaults, **options}
        with draws.of(f"head {name}"):
            made[name] = Head(entries[name], head_channels(name, n_classes), **merged)
    return made


def _skip(path: nn.Module | None, x: Tensor) -> Tensor | None:
    """What goes sideways, None where that path was not built."""
    return None if path is None else path(x)


def _projections(channels: tuple[int, ...], project: int | None, used: int) -> nn.ModuleList:
    """One Conv 1×1 for each of the deepest `used` levels; none without `project`."""
    if project is None:
        return nn.ModuleList()
    return nn.ModuleList(nn.Conv2d(c, project, 1) for c in channels[LEVELS - used :])


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
