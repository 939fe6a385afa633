"""What is counted of a tissue while it passes window by window: its digest and its instances."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.store.layout import CHUNK_PX
from tissueseg.store.planes import Window
from tissueseg.store.runs import ClassPixels, runs_of


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
    """Instances per class, each with the class of most of its pixels, whatever windows it lies in."""

    def __init__(self) -> None:
        self._parts: list[ClassPixels] = []

    def add(self, instances: np.ndarray, classes: np.ndarray) -> None:
        """Count a window's pixels by instance and class."""
        self._parts.append(ClassPixels.of(runs_of(instances, classes)))

    def per_class(self, n_classes: int) -> list[int]:
        """One number a class, and a last one for those of unknown class."""
        if not self._parts:
            return [0] * (n_classes + 1)
        _, kinds = ClassPixels.joined(self._parts).majority()
        counts = np.bincount(kinds, minlength=IGNORE + 1)
        return [*counts[:n_classes].tolist(), int(counts[IGNORE])]
