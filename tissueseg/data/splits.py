"""Which tissues train, which choose the epoch and which are reported; no patient on two sides.

A rule is what the configuration chooses; called with a cohort, it gives a split. Every rule leaves an
epoch to be chosen on `val` alone, so that nothing is selected on what is reported.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from tissueseg.errors import ConfigError, SplitError
from tissueseg.numbers import is_number
from tissueseg.store.named_splits import is_split_name
from tissueseg.store.notices import name_some
from tissueseg.store.tissues import TissueStore


class Split(NamedTuple):
    """Tissue names of each side; `test` may be empty."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()


class Cohort(NamedTuple):
    """What rules may know of the tissues of a store."""

    patients: Mapping[str, str]  # tissue -> patient
    stated: Mapping[str, str | None] = {}  # tissue -> split or fold of its source
    digests: Mapping[str, str] = {}  # tissue -> digest of its pixels
    address: str = ""  # of the store

    @classmethod
    def of(cls, store: TissueStore) -> Cohort:
        """All tissues of a store."""
        entries = {tissue: store.entry(tissue) for tissue in store.tissues}
        return cls(
            {tissue: entry.patient for tissue, entry in entries.items()},
            {tissue: entry.split for tissue, entry in entries.items()},
            {tissue: entry.digest for tissue, entry in entries.items()},
            store.address,
        )


@dataclass(frozen=True, kw_only=True)
class SplitRule(ABC):
    """How tissues are split.

    Attributes:
        name: under which the store keeps the split; None: made of the rule and its options.

    Raises:
        ConfigError: options that cannot be used, when it is made.
    """

    rule: ClassVar[str]
    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None and not is_split_name(str(self.name)):
            raise ConfigError(
                f"split.name={self.name!r} cannot name a file: choose another, without slashes and "
                "with a letter in front, or null."
            )

    @abstractmethod
    def __call__(self, cohort: Cohort) -> Split:
        """Split a cohort.

        Raises:
            SplitError: it cannot be split so.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """What the split depends on, besides the cohort, in plain types and one spelling."""

    def derived_name(self) -> str:
        """A file name that no other rule and no other options make."""
        return "_".join([self.rule, *(f"{key}_{value}" for key, value in self.options().items())])

    @property
    def label(self) -> str:
        """The split's name."""
        return self.derived_name() if self.name is None else str(self.name)

    def check_files(self) -> None:  # noqa: B027 - most rules read none
        """Refuse files that are missing or cannot be used, before a store is opened."""


def check_split(
    split: Split, patients: Mapping[str, str], wanted: Sequence[str] = ("train", "val")
) -> Split:
    """Refuse a split with an empty side, an unknown tissue or a patient on two sides."""
    for side in wanted:
        if not getattr(split, side):
            raise SplitError(
                f"split: no tissue on side {side!r}: {counted(patients)} are too few for these shares; "
                f"change split.{side}."
            )
    seen: dict[str, str] = {}
    for side, tissues in split._asdict().items():
        for tissue in tissues:
            if tissue not in patients:
                raise SplitError(f"split.{side} names {tissue}, which the store does not hold.")
            other = seen.setdefault(patients[tissue], side)
            if other != side:
                raise SplitError(
                    f"split: patient {patients[tissue]} (tissue {tissue}) is on sides {other!r} and "
                    f"{side!r}: the scores would be leaked. Keep a patient's tissues together."
                )
    return split


def require_labels(store: TissueStore, split: Split) -> None:
    """Refuse a split with tissues that nobody labelled: they can neither teach nor be scored.

    Raises:
        SplitError: naming the first, and what to do.
    """
    bare = set(store.unlabelled)
    for side, tissues in split._asdict().items():
        if found := [tissue for tissue in tissues if tissue in bare]:
            raise SplitError(
                f"split: side {side!r} holds {name_some(found)} of {store.address} without labels: leave "
                "them out (split=column split.leave_out=[…]), prepare them with masks, or only predict."
            )


def counted(patients: Mapping[str, str]) -> str:
    """How many tissues and patients, for messages."""
    return f"{len(patients)} tissues of {len(set(patients.values()))} patients"


def check_shares(shares: Mapping[str, object]) -> dict[str, float]:
    """Shares of the sides as numbers.

    Raises:
        ConfigError: train or val without a share, or what is no number.
    """
    numbers = {side: float(v) for side, v in shares.items() if is_number(v, 0)}
    if len(numbers) < len(shares) or not numbers["train"] or not numbers["val"]:
        raise ConfigError(
            f"split: shares are {dict(shares)}: train and val must be > 0, test ≥ 0, all of them numbers."
        )
    return numbers
