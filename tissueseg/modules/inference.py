"""A trained encoder and decoder, applied to tiles: probabilities per pixel, averaged over views."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tissueseg.cells.map_layout import MapLayout
from tissueseg.contracts import Features, Outputs
from tissueseg.decoders.base import Decoder
from tissueseg.encoders.base import Encoder


class TileMaps(NamedTuple):
    """What a network makes of some tiles."""

    planes: np.ndarray  # (B, planes, H, W) float32, as the layout orders them
    features: np.ndarray | None  # (B, D, h, w) float32, the encoder's last grid of the plain view
    finite: np.ndarray  # (B,) bool: False for a tile with a logit that is not a number


class TileNetwork:
    """Turns normalised tiles into maps.

    Args:
        encoder: with its weights; moved to `device`.
        decoder: trained; moved to `device`.
        layout: of the maps wanted.
        device: that computes.
        autocast: number type of matrix products; None: float32.
        views: dihedral copies of a tile that are averaged (test-time augmentation): 1, 4 or 8, numbered
            as in `data.views`.
        features: whether the encoder's last grid is wanted, too.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        layout: MapLayout,
        *,
        device: torch.device,
        autocast: torch.dtype | None = None,
        views: int = 1,
        features: bool = False,
    ) -> None:
        self.encoder = encoder.to(device)
        moved = decoder.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._decoder: Decoder = moved.eval()
        self.layout, self._device, self._autocast = layout, device, autocast
        self._views, self._features = views, features

    @torch.no_grad()
    def __call__(self, image: Tensor, present: Tensor) -> TileMaps:
        """Predict some tiles.

        Args:
            image: (B, C, H + 2·halo, W + 2·halo) normalised, square.
            present: (B, C) bool: channels with signal.
        """
        image, present = (t.to(self._device, non_blocking=True) for t in (image, present))
        total: Tensor | None = None
        grid: Tensor | None = None
        for element in range(self._views):
            with torch.autocast(
                self._device.type, self._autocast, enabled=self._autocast is not None
            ):
                features = self.encoder(_turned(image, element), present)
                outputs = self._decoder(features)
            planes = turned_back(_planes(outputs, self.layout), element, self.layout)
            total = planes if total is None else total + planes
            if element == 0 and self._features:
                grid = _last_grid(features)
        assert total is not None
        total = total / self._views
        finite = total.flatten(1).isfinite().all(1)
        shown = None if grid is None else grid.cpu().numpy()
        return TileMaps(total.cpu().numpy(), shown, finite.cpu().numpy())


def _last_grid(features: Features) -> Tensor:
    return features.levels[-1].float()


def _planes(outputs: Outputs, layout: MapLayout) -> Tensor:
    """(B, planes, H, W) float32 of all heads in the layout: probabilities, and offsets as they are."""
    made = []
    for head in layout.heads:
        logits = outputs[head].float()
        if head == "classes":
            made.append(logits.softmax(1))
        else:
            made.append(logits if head == "hv" else logits.sigmoid())
    return torch.cat(made, 1)


def _turned(image: Tensor, element: int) -> Tensor:
    """A dihedral copy, numbered as `data.views` numbers them: mirrored first, then turned."""
    if element >= 4:
        image = image.flip(-1)
    return torch.rot90(image, element % 4, (-2, -1)).contiguous() if element else image


def turned_back(planes: Tensor, element: int, layout: MapLayout) -> Tensor:
    """Maps (B, planes, H, W) of a dihedral copy, as maps of the tile itself; offsets turn along."""
    if element == 0:
        return planes
    planes = torch.rot90(planes, -element % 4, (-2, -1))
    if element >= 4:
        planes = planes.flip(-1)
    if (place := layout.slices.get("hv")) is None:
        return planes
    across, down = planes[:, place].unbind(1)
    for _ in range(element % 4):  # a quarter turn made right into up, and down into right
        across, down = -down, across
    if element >= 4:
        across = -across
    planes = planes.clone()
    planes[:, place] = torch.stack((across, down), 1)
    return planes
