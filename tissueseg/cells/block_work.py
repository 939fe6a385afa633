"""What a worker does for one block: decode its instances, and, when they are painted, measure them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tissueseg.cells.map_files import MapFiles
from tissueseg.cells.map_layout import MapLayout
from tissueseg.instances.blocks import Decoded, decoded
from tissueseg.instances.boxes import Block, Box
from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.instances.maps import InstanceDecoder
from tissueseg.instances.measure import CellWindow, measure
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore

TYPINGS = ("mean", "majority")
"""How a cell's type comes of its pixels'."""

WIDE_UM = 20.0
"""How far nuclei usually reach beyond the core that owns them; for wider ones a block looks again."""


@dataclass(frozen=True)
class BlockWork:
    """Everything a worker must know of a tissue; sent along with every block."""

    schema: CellSchema
    shape: tuple[int, int]
    maps: MapFiles
    layout: MapLayout
    decoder: InstanceDecoder
    mpp: float  # of the decoder's sizes, also where the store knows none
    store: str  # its address
    images: tuple[str, ...]  # of the store, whose intensities are measured
    features: MapFiles | None = None
    stride_px: int = 1  # of the features
    typing: str = "mean"
    ring_um: float = 2.0

    @property
    def margin_px(self) -> int:
        """What blocks see beyond their cores: a wide nucleus, and all that decides about it."""
        wide = math.ceil(WIDE_UM / self.mpp)
        return min(wide + self.decoder.reach_px(self.mpp), self.maps.region)

    @property
    def ring_px(self) -> int:
        """How far around a nucleus is measured."""
        return math.ceil(self.ring_um / self.mpp)

    def decode(self, block: Block) -> Decoded:
        """The instances that a block owns."""
        # One more than is wrong near a window's end: an instance may seem to end where that begins.
        rim_px = min(self.decoder.reach_px(self.mpp), self.maps.region) + 1  # maps go no further
        return decoded(block, self.shape, self._labels, most_px=self.maps.region, rim_px=rim_px)

    def measure(self, labels: np.ndarray, own: np.ndarray, box: Box) -> CellTable:
        """A row for each cell that a block owns.

        Args:
            labels: (H, W) of a window, with all cells' final ids.
            own: ids of the cells to measure.
            box: where the window lies.
        """
        grid = self._tokens(box)
        window = CellWindow(
            labels=labels,
            own=own,
            box=box,
            shape=self.shape,
            classes=self._classes(box),
            he=self._image("he", box),
            sp=self._image("sp", box),
            features=None if self.features is None else self.features.read(grid),
            features_origin=(grid.y, grid.x),
            stride_px=self.stride_px,
        )
        ring_px = self.ring_um / self.mpp  # an assumed scale holds here as well
        return measure(
            window, self.schema, typing=self.typing, ring_um=self.ring_um, ring_px=ring_px
        )

    def _labels(self, box: Box) -> np.ndarray:
        return self.decoder(self.layout.maps(self.maps.read(box)), self.mpp)

    def _classes(self, box: Box) -> np.ndarray | None:
        place = self.layout.slices.get("classes")
        return None if place is None else self.maps.read(box)[place]

    def _image(self, kind: str, box: Box) -> np.ndarray | None:
        if kind not in self.images:
            return None
        return _opened(self.store).read(self.schema.tissue, kind, Window(*box))

    def _tokens(self, box: Box) -> Box:
        """All tokens that a box of pixels touches."""
        y, x = box.y // self.stride_px, box.x // self.stride_px
        bottom = -(-(box.y + box.height) // self.stride_px)
        right = -(-(box.x + box.width) // self.stride_px)
        return Box(y, x, bottom - y, right - x)


@lru_cache(maxsize=2)
def _opened(address: str) -> TissueStore:
    """Opened once per process, not once per block."""
    return TissueStore(address)
