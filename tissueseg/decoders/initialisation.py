"""Initial weights that depend on the run's seed and on a part's name alone.

Variants are compared from the same start: a slot that is filled must not draw the numbers from which the
next layer of the trunk would have been made.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch


class OwnDraws:
    """Random numbers apart for every named part of a network; costs torch's generator one number."""

    def __init__(self) -> None:
        self._base = int(torch.randint(2**62, (), device="cpu"))

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """What is built inside gets the part's own numbers; the generator is left as it was."""
        digest = blake2b(f"{self._base} {part}".encode(), digest_size=8).digest()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int.from_bytes(digest, "big") >> 1)
            yield
