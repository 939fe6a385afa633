"""Where in a tissue the nuclei are: the fields worth looking at."""

from __future__ import annotations

import cv2
import numpy as np

from tissueseg.store.planes import Window

CELL_PX = 32
FEWEST = 8  # nuclei in a field; fewer tell nothing of registration


class NucleusGrid:
    """Counts nuclei on a coarse grid.

    Args:
        shape: height and width of the tissue, px.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.counts = np.zeros([-(-length // CELL_PX) for length in shape], np.float32)

    def add(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Count nuclei by the place of one of their pixels."""
        np.add.at(self.counts, (rows // CELL_PX, columns // CELL_PX), 1)

    def densest(self, count: int, side_px: int, fewest: int = FEWEST) -> list[Window]:
        """Fields with the most nuclei, those near the middle counting more; apart from each other.

        Args:
            count: at most so many.
            side_px: height and width, cut to the tissue.
            fewest: nuclei that a field must hold.
        """
        height, width = (min(side_px, length) for length in self.shape)
        cells = [max(1, round(length / CELL_PX)) for length in (height, width)]
        middle = np.outer(*(np.bartlett(n + 2)[1:-1] for n in cells))  # few cells: not at the edge
        left, fields = self.counts.copy(), []
        for _ in range(count):
            sums = cv2.filter2D(left, -1, middle, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
            row, column = (int(i) for i in np.unravel_index(np.argmax(sums), sums.shape))
            inside = np.s_[row : row + cells[0], column : column + cells[1]]
            if left[inside].sum() < fewest:
                break
            left[inside] = 0
            y = min(row * CELL_PX, self.shape[0] - height)
            x = min(column * CELL_PX, self.shape[1] - width)
            fields.append(Window(y, x, height, width))
        return fields
