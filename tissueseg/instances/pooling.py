"""What an encoder says of a cell: the mean of its tokens, weighted by the pixels it has in each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from tissueseg.errors import TissueDataError
from tissueseg.instances.boxes import Box
from tissueseg.instances.pixels import Pixels


class Tokens(NamedTuple):
    """A part of a tissue's token grid, whose first token starts at the tissue's first pixel."""

    features: np.ndarray  # (D, h, w) float32
    stride_px: int  # pixels per token
    origin: tuple[int, int]  # row and column of the part's first token in the grid


def pooled(tokens: Tokens, pixels: Pixels, box: Box) -> np.ndarray:
    """Mean over each cell's pixels of the token that each lies in.

    Args:
        tokens: those the cells lie in, at least.
        pixels: of n cells in the window, each with one at least.
        box: where the window lies in the tissue.

    Returns:
        (n, D) float32.

    Raises:
        TissueDataError: a cell lies beyond the tokens.
    """
    width, height, across = tokens.features.shape
    row, column = np.divmod(pixels.index, box.width)
    row = (row + box.y) // tokens.stride_px - tokens.origin[0]
    column = (column + box.x) // tokens.stride_px - tokens.origin[1]
    _check(row, column, tokens, box)
    share = csr_array(
        (np.ones(len(row), np.float32), row * across + column, pixels.starts.copy()),
        shape=(len(pixels.counts), height * across),
    )
    share.sum_duplicates()  # in place, which the copy is for
    share.data /= np.repeat(pixels.counts, np.diff(share.indptr))
    flat = tokens.features.reshape(width, -1).T
    return share @ np.ascontiguousarray(flat, dtype=np.float32)


def _check(row: np.ndarray, column: np.ndarray, tokens: Tokens, box: Box) -> None:
    for place, limit in zip((row, column), tokens.features.shape[1:], strict=True):
        if len(place) and (place.min() < 0 or place.max() >= limit):
            raise TissueDataError(
                f"features of {tokens.features.shape[1:]} tokens of {tokens.stride_px} px from "
                f"{tokens.origin} do not cover the cells of the window at {tuple(box)}: read all tokens "
                "that the window touches."
            )
