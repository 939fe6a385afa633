"""One tissue's pixels for all that looks at them: every array read through once, and hashed on the way.

Small tissues are held while they are looked at, so that nothing of them is read twice. Of a slide only
the few places that are looked at closely are read again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tissueseg.store.counting import ChunkDigest
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Window
from tissueseg.store.tissues import TissueStore

HELD_BYTES = 2**28
"""The largest tissue that is held, all arrays together."""

_NAMES = {INSTANCES: "instances", CLASSES: "classes"}
"""Of arrays, as the store's digests have them."""


class TissuePixels:
    """Reads one tissue of a store."""

    def __init__(self, store: TissueStore, tissue: str) -> None:
        self.store, self.tissue = store, tissue
        entry = store.entry(tissue)
        self.shape = (entry.height, entry.width)
        arrays = (*store.images, INSTANCES, CLASSES)
        types = {array: store.array_type(tissue, array) for array in arrays}
        size = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in types.values())
        self._types = types if size <= HELD_BYTES else {}
        self._held: dict[str, np.ndarray] = {}
        self._found: dict[str, str] = {}

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What the store knows of the tissue."""
        return self.store.attributes(self.tissue)

    def windows(self, array: str) -> Iterator[tuple[Window, np.ndarray]]:
        """Every window of an array, to be asked for once; (…, height, width) each."""
        digest = None
        held = np.empty(*self._types[array]) if array in self._types else None
        for window in self.store.windows(self.tissue):
            plane = self.store.read(self.tissue, array, window)
            digest = digest or ChunkDigest(plane, self.shape)
            digest.add(window, plane)
            if held is not None:
                held[_part(window)] = plane
            yield window, plane
        if digest is not None:
            self._found[_NAMES.get(array, array)] = digest.hex()
        if held is not None:
            self._held[array] = held

    def read(self, array: str, window: Window) -> np.ndarray:
        """A place of an array, (…, height, width)."""
        if array in self._held:
            return self._held[array][_part(window)]
        return self.store.read(self.tissue, array, window)

    def altered(self) -> list[str]:
        """Arrays, of those read through, whose pixels are not those that were prepared."""
        known = self.attributes.get("digests", {})
        return [name for name, digest in self._found.items() if known.get(name, digest) != digest]


def _part(window: Window) -> tuple[Any, ...]:
    y, x, height, width = window
    return (..., slice(y, y + height), slice(x, x + width))
