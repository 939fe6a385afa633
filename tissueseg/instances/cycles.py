"""Cycles of a permutation, found for all elements at once by pointer doubling."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Cycles(NamedTuple):
    """Which cycle each of n elements lies in, and where."""

    lowest: np.ndarray  # (c,) lowest element of each cycle, ascending
    cycle: np.ndarray  # (n,) which of these
    place: np.ndarray  # (n,) steps to get here from the lowest one


def cycles(following: np.ndarray) -> Cycles:
    """Find the cycles of a permutation.

    After k rounds an element knows the lowest among 2ᵏ elements from itself on, and how far off it
    is, so the longest cycle is known in log₂ of its length. Both are one integer, lowest first.

    Args:
        following: (n,) the element after each, n < 2³¹.
    """
    number = np.arange(len(following))
    key, first, jump, step = number << 32, number, following, 1
    while not np.array_equal(first[following], first):
        key = np.minimum(key, key[jump] + step)
        first, jump, step = key >> 32, jump[jump], 2 * step
    lowest = np.flatnonzero(first == number)
    cycle = np.empty_like(number)
    cycle[lowest] = np.arange(len(lowest))
    cycle = cycle[first]
    length = np.bincount(cycle, minlength=len(lowest))[cycle]
    ahead = key & 0xFFFFFFFF  # from here to the lowest one
    return Cycles(lowest, cycle, np.where(ahead > 0, length - ahead, 0))


def members(found: Cycles, order: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Elements cycle after cycle, each in turn from its lowest element on.

    Args:
        found: the cycles of n elements.
        order: (c,) of the cycles.
        kept: (n,) bool, elements to return.

    Returns:
        (m,) the kept elements, and (c,) how many each cycle has, both in that order.
    """
    length = np.bincount(found.cycle, minlength=len(order))
    begins = np.empty(len(order), np.int64)
    begins[order] = np.cumsum(length[order]) - length[order]
    listed = np.empty(len(found.cycle), np.int64)
    listed[begins[found.cycle] + found.place] = np.arange(len(found.cycle))
    listed = listed[kept[listed]]
    return listed, np.bincount(found.cycle[listed], minlength=len(order))[order]
