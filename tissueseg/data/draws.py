"""Random bits by number: what one item draws depends on no other item, order, worker or thread.

A key chooses a SplitMix64 sequence, and a number a place in it (Steele et al. 2014,
doi:10.1145/2660193.2660195), so that millions of items draw at once.
"""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # step of SplitMix64


def drawn_bits(key: tuple[int, ...], numbers: np.ndarray) -> np.ndarray:
    """(N,) uint64 random bits, a pure function of the key and of each number.

    Args:
        key: of the sequence. Keys that differ in zeros at their end only are the same key.
        numbers: (N,) places in it, ≥ 0.
    """
    start = np.random.SeedSequence(key).generate_state(1, np.uint64)
    nth = np.atleast_1d(numbers).astype(np.uint64) + np.uint64(1)
    return _mixed(start + nth * _GOLDEN)


def _mixed(bits: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: every bit of the (N,) uint64 input sways every bit of the result."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
