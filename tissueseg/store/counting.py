"""What is counted of a tissue while it passes window by window: its digest and its instances."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.store.layout import CHUNK_PX
from tissueseg.store.planes import Window


class ChunkDigest:
    """sha256 of an image, whatever windows it comes in: chunks are hashed, then their digests.

    Args:
        plane: one window, for type and channels.
        shape: height and width of the whole image.
    """

    def __init__(self, plane: np.ndarray, shape: Sequence[int]) -> None:
        self._head = f"{(*plane.shape[:-2], *shape)}{plane.dtype}".encode()
        grid = (-(-length // CHUNK_PX) for length in shape)
        self._chunks = np.zeros((*grid, 32), np.uint8)

    def add(self, window: Window, plane: np.ndarray) -> None:
        """Hash a window that begins at a chunk's corner and ends at one, or at the image's edge."""
        for y in range(0, window.height, CHUNK_PX):
            for x in range(0, window.width, CHUNK_PX):
                chunk = np.ascontiguousarray(plane[..., y : y + CHUNK_PX, x : x + CHUNK_PX])
                digest = hashlib.sha256(chunk.data).digest()
                place = (window.y + y) // CHUNK_PX, (window.x + x) // CHUNK_PX
                self._chunks[place] = np.frombuffer(digest, np.uint8)

    def hex(self) -> str:
        """The digest, once every window was added."""
        return hashlib.sha256(self._head + self._chunks.tobytes()).hexdigest()


class InstanceCounts:
    """Instances per class; one that lies in several windows counts once, with its first class."""

    def __init__(self) -> None:
        self._seen = np.empty(0, np.int64)
        self._counts = np.zeros(256, np.int64)

    def add(self, instances: np.ndarray, classes: np.ndarray) -> None:
        """Count the instances of a window that were not seen before."""
        ids, first = first_pixels(instances)
        new = ~np.isin(ids, self._seen, assume_unique=True)
        self._counts += np.bincount(classes.ravel()[first[new]], minlength=256)
        self._seen = np.union1d(self._seen, ids[new])

    def per_class(self, n_classes: int) -> list[int]:
        """One number a class, and a last one for those of unknown class."""
        return [*self._counts[:n_classes].tolist(), int(self._counts[IGNORE])]


def first_pixels(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids in an image, ascending, and the flat place of each one's first pixel.

    Only pixels whose left neighbour differs are sorted: an order of magnitude fewer.
    """
    flat = instances.ravel()
    starts = np.flatnonzero((flat > 0) & (flat != np.concatenate([[0], flat[:-1]])))
    ids, first = np.unique(flat[starts], return_index=True)
    return ids.astype(np.int64), starts[first]
