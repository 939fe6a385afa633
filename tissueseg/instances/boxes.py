"""Rectangles of a tissue, and the blocks it is decoded in."""

from __future__ import annotations

from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle, in pixels of the tissue."""

    y: int
    x: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """To cut it out of an array."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def within(self, outer: Box) -> tuple[slice, slice]:
        """To cut it out of an array that shows `outer`."""
        y, x = self.y - outer.y, self.x - outer.x
        return slice(y, y + self.height), slice(x, x + self.width)

    def grown(self, margin_px: int, shape: tuple[int, int]) -> Box:
        """With a margin on every side, where the tissue of (height, width) `shape` goes on."""
        top, left = max(self.y - margin_px, 0), max(self.x - margin_px, 0)
        bottom = min(self.y + self.height + margin_px, shape[0])
        right = min(self.x + self.width + margin_px, shape[1])
        return Box(top, left, bottom - top, right - left)

    def cut(self, outer: Box) -> Box:
        """What of it lies in `outer`, with which it must share pixels."""
        top, left = max(self.y, outer.y), max(self.x, outer.x)
        bottom = min(self.y + self.height, outer.y + outer.height)
        right = min(self.x + self.width, outer.x + outer.width)
        return Box(top, left, bottom - top, right - left)


class Block(NamedTuple):
    """A part of a tissue that is decoded at a time."""

    core: Box  # whose instances are its own; the cores of a tissue's blocks tile it
    seen: Box  # core and margin, cut at the tissue's edge
