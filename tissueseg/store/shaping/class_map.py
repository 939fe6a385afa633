"""Classes of a source renamed, merged, dropped or ignored on their way into a store, window by window.

What a class map may hold stands in `class_names`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tissueseg.contracts import IGNORE
from tissueseg.store.planes import LazyTissue, Planes, Window
from tissueseg.store.runs import first_pixels
from tissueseg.store.shaping.class_names import ClassMap, Mapped
from tissueseg.store.sources.base import Source

__all__ = ["ClassMap", "MappedSource", "MappedTissue"]

_SAID = {
    "drop": "{{n}} instances dropped with class {name}",
    "ignore": "{{n}} instances ignored with class {name}",
    "unknown": "{{n}} instances of unknown type, class {name}",
}


class MappedSource:
    """A source with its classes mapped.

    Raises:
        ConfigError: a map that does not fit the source's classes.
    """

    def __init__(self, source: Source, class_map: ClassMap) -> None:
        self._source, self._mapped = source, class_map.apply(source.classes)
        said = {old: _SAID[fate] for old, fate in self._mapped.fates.items()}
        self._messages = {old: _message(said[old], source.classes[old].name) for old in said}
        self.classes = self._mapped.classes
        self.panel, self.images = source.panel, source.images
        self.tissues, self.moments = source.tissues, source.moments

    @property
    def notices(self) -> Sequence[str]:
        """Those of the source."""
        return self._source.notices

    def scale(self, tissue: str) -> float | None:
        """µm per pixel of one tissue; None: not known."""
        return self._source.scale(tissue)

    def files(self, tissue: str) -> Mapping[str, Path]:
        """Every file or folder a tissue comes from, by the name it is recorded under."""
        return self._source.files(tissue)

    def open(self, tissue: str) -> LazyTissue:
        """One tissue, its classes mapped as they are read."""
        return MappedTissue(self._source.open(tissue), self._mapped, self._messages)


class MappedTissue:
    """A tissue whose classes are mapped window by window.

    An instance is dropped with the pixels of its class, so that one of several classes would be cut:
    sources give an instance one class.
    """

    def __init__(self, inner: LazyTissue, mapped: Mapped, messages: Mapping[int, str]) -> None:
        self._inner, self._mapped, self._messages = inner, mapped, messages
        self.shape, self.images = inner.shape, inner.images
        self.patient, self.split, self.clips = inner.patient, inner.split, inner.clips
        self._found: dict[int, set[int]] = {old: set() for old in mapped.fates}

    @property
    def notices(self) -> Mapping[str, int]:
        """Those of the tissue, and how many instances of the windows read so far were taken out."""
        counts = {self._messages[old]: len(ids) for old, ids in self._found.items() if ids}
        return {**self._inner.notices, **counts}

    def read(self, window: Window) -> Planes:
        """Pixels of a window."""
        planes = self._inner.read(window)
        instances, old = planes.instances, planes.classes
        if instances is None or old is None or old.dtype.kind not in "iub":
            return planes  # no labels, or the store's check names what is wrong with them
        dropped = np.zeros(old.shape, bool)
        for class_id, fate in self._mapped.fates.items():
            here = old == class_id
            self._found[class_id].update(first_pixels(instances[here])[0].tolist())
            if fate == "drop":
                dropped |= here
        if dropped.any():
            instances = np.where(dropped, instances.dtype.type(0), instances)
        if self._mapped.untyped:
            outside = np.where(old == IGNORE, np.uint8(IGNORE), np.uint8(0))
            return planes._replace(
                instances=instances, classes=np.where(instances > 0, np.uint8(1), outside)
            )
        return planes._replace(instances=instances, classes=_looked_up(old, self._mapped.ids))


def _looked_up(old: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """New ids; those that no table can hold stay for the store's check to name."""
    if old.dtype in (np.uint8, bool):
        return ids[old.astype(np.uint8)]
    inside = (old >= 0) & (old <= IGNORE)
    return np.where(inside, ids[np.where(inside, old, 0).astype(np.uint8)], old)


def _message(text: str, name: str) -> str:
    """Notices are formatted twice: a brace in a name is none of theirs."""
    return text.format(name=name.replace("{", "{{").replace("}", "}}"))
