"""Maps of a tissue on their way to the workers: a file for every region, removed when it is used up.

Files, not shared memory: a region is read by the workers of nine blocks, the page cache serves them, and
what a killed command leaves is a folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tissueseg.errors import TissueDataError
from tissueseg.instances.boxes import Box


@dataclass(frozen=True)
class MapFiles:
    """Planes of a tissue in float16, in squares of a grid; safe to pickle.

    A worker may read a box as soon as all regions that it touches were put.
    """

    folder: Path
    region: int  # side of a square, in the unit of the planes

    def put(self, box: Box, planes: np.ndarray) -> None:
        """Keep one region's planes (C, height, width).

        Raises:
            TissueDataError: the disk does not take them.
        """
        path = self._path(box.y // self.region, box.x // self.region)
        try:
            np.save(path, planes.astype(np.float16), allow_pickle=False)
        except OSError as error:
            raise TissueDataError(
                f"cannot keep the maps of a region in {self.folder}: {error}. Make room or choose "
                "another out."
            ) from error

    def read(self, box: Box) -> np.ndarray:
        """(C, height, width) float32 of a box, of one region or several."""
        whole: np.ndarray | None = None
        for row in range(box.y // self.region, -(-(box.y + box.height) // self.region)):
            for column in range(box.x // self.region, -(-(box.x + box.width) // self.region)):
                stored = np.load(self._path(row, column), mmap_mode="r", allow_pickle=False)
                if whole is None:
                    whole = np.empty((len(stored), box.height, box.width), np.float32)
                _copy(stored, (row * self.region, column * self.region), whole, box)
        assert whole is not None  # boxes are not empty
        return whole

    def forget(self, box: Box) -> None:
        """Remove a region that no block wants any more."""
        self._path(box.y // self.region, box.x // self.region).unlink(missing_ok=True)

    def _path(self, row: int, column: int) -> Path:
        return self.folder / f"{row}_{column}.npy"


def _copy(stored: np.ndarray, corner: tuple[int, int], whole: np.ndarray, box: Box) -> None:
    """Copy what a region (C, h, w) with its first pixel at `corner` has of a box."""
    height, width = stored.shape[-2:]
    top, left = max(corner[0], box.y), max(corner[1], box.x)
    bottom = min(corner[0] + height, box.y + box.height)
    right = min(corner[1] + width, box.x + box.width)
    part = stored[:, top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]]
    whole[:, top - box.y : bottom - box.y, left - box.x : right - box.x] = part
