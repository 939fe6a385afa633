"""What every source of tissues gives to the command that writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tissueseg.contracts import Channel, TissueClass
from tissueseg.store.planes import LazyTissue


class Source(Protocol):
    """Tissues that can be opened one by one, in any order; described completely before the first."""

    @property
    def classes(self) -> Sequence[TissueClass]:
        """Ids 0 … n − 1, background first."""
        ...

    @property
    def panel(self) -> Sequence[Channel]:
        """SP channels in order; empty without SP."""
        ...

    @property
    def images(self) -> Sequence[str]:
        """Which of `he` and `sp` every tissue has."""
        ...

    @property
    def tissues(self) -> Sequence[str]:
        """Names of all tissues, each once."""
        ...

    @property
    def notices(self) -> Sequence[str]:
        """What was assumed of the whole cohort, one line each."""
        ...

    @property
    def moments(self) -> Mapping[str, Mapping[str, Sequence[float]]]:
        """Quantile -> `mean`, `std` of every channel after clip and `log1p`, if the source has them."""
        ...

    def scale(self, tissue: str) -> float | None:
        """µm per pixel of one tissue; None: not known."""
        ...

    def files(self, tissue: str) -> Mapping[str, Path]:
        """Every file or folder a tissue comes from, by the name it is recorded under."""
        ...

    def open(self, tissue: str) -> LazyTissue:
        """One tissue, read as late as can be.

        Raises:
            TissueDataError: one line with tissue, file, what it got and what to do.
        """
        ...
