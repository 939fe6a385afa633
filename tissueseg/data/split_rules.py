"""Rules that place whole patients themselves: in order, in quarters, in folds or at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from tissueseg.data.patient_groups import (
    Patient,
    consecutive,
    in_drawn_order,
    in_order,
    take,
    tissues_of,
)
from tissueseg.data.splits import (
    Cohort,
    Split,
    SplitRule,
    check_shares,
    check_split,
    counted,
)
from tissueseg.errors import ConfigError, SplitError
from tissueseg.numbers import check_number, check_whole

ORDERS = ("sequential", "shuffled")


@dataclass(frozen=True, kw_only=True)
class Sequential(SplitRule):
    """Tissues in alphabetical order: the first part trains, the next chooses the epoch.

    The study's protocol "full": ids sorted, the first 80 % train, the rest validates. Patients are taken
    in the order of their first tissue, and one goes to the side in which its middle tissue falls.

    Attributes:
        train: share of the tissues that train.
        val: share that chooses the epoch.
        test: share that is only reported. The three are scaled to sum 1.
    """

    rule: ClassVar[str] = "sequential"
    train: float
    val: float
    test: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.options()

    def options(self) -> dict[str, Any]:
        """The shares."""
        return check_shares({"train": self.train, "val": self.val, "test": self.test})

    def derived_name(self) -> str:
        """Its shares."""
        return "_".join([self.rule, *map(_number, self.options().values())])

    def __call__(self, cohort: Cohort) -> Split:
        """Cut the row of patients once or twice."""
        shares = self.options()
        parts = consecutive(in_order(cohort.patients), list(shares.values()))
        split = Split(*map(tissues_of, parts))
        return check_split(split, cohort.patients, [side for side in shares if shares[side]])


@dataclass(frozen=True, kw_only=True)
class Quarters(SplitRule):
    """One quarter of the tissues trains and the next is reported: the study's protocol "quick".

    Tissues in alphabetical order, whole patients, cut into four. The study chose the epoch on the quarter
    it reported; here the last patients of the training quarter choose it. Two quarters are not used.

    Attributes:
        fold: 1: the first quarter trains, the second is reported; 2: the third and the fourth.
        val: share of the training quarter that chooses the epoch; one patient at least.
    """

    rule: ClassVar[str] = "quarters"
    fold: int
    val: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("split.fold", self.fold, 1, 2)
        note = "share of the training quarter that chooses the epoch"
        check_number("split.val", self.val, above=0, below=1, note=note)

    def options(self) -> dict[str, Any]:
        """Fold and share."""
        return {"fold": self.fold, "val": float(self.val)}

    def __call__(self, cohort: Cohort) -> Split:
        """Cut the row of patients into four, and the training quarter into two."""
        groups = in_order(cohort.patients)
        _require(cohort, groups, 5, "split=quarters", "choose split=kfold split.folds=3")
        quarters = consecutive(groups, (1, 1, 1, 1), least=1)
        training, test = quarters[2 * self.fold - 2], quarters[2 * self.fold - 1]
        if len(training) < 2:
            raise SplitError(
                f"split.fold={self.fold}: its training quarter holds one patient ({training[0][0]} …): "
                "nobody is left to choose the epoch. Choose the other fold or split=kfold."
            )
        train, val = consecutive(training, (1 - self.val, self.val), least=1)
        split = Split(tissues_of(train), tissues_of(val), tissues_of(test))
        return check_split(split, cohort.patients, Split._fields)


@dataclass(frozen=True, kw_only=True)
class KFold(SplitRule):
    """One fold is reported, the next chooses the epoch (after the last comes the first), others train.

    Over all folds each tissue is reported once. The study's augmentation experiment had three folds, in
    order.

    Attributes:
        folds: as many as the tissues are cut into; whole patients, as equal as these allow.
        fold: which is reported, counted from 1.
        order: sequential: patients by their first tissue; shuffled: as drawn by the seed.
        seed: of the order; of the split alone, so that runs of many seeds share it.
    """

    rule: ClassVar[str] = "kfold"
    folds: int
    fold: int
    order: str = "sequential"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("split.folds", self.folds, 3)
        check_whole("split.fold", self.fold, 1, self.folds)
        check_whole("split.seed", self.seed, 0)
        if self.order not in ORDERS:
            raise ConfigError(
                f"split.order={self.order} is unknown: choose from {', '.join(ORDERS)}."
            )

    def options(self) -> dict[str, Any]:
        """Folds and order; the seed where it counts."""
        drawn = {"seed": self.seed} if self.order == "shuffled" else {}
        return {"folds": self.folds, "fold": self.fold, "order": self.order} | drawn

    def derived_name(self) -> str:
        """The order stands in it where it is not the default."""
        drawn = f"_shuffled_seed_{self.seed}" if self.order == "shuffled" else ""
        return f"{self.rule}_{self.folds}_fold_{self.fold}{drawn}"

    def __call__(self, cohort: Cohort) -> Split:
        """Cut the row of patients into folds."""
        patients = cohort.patients
        shuffled = self.order == "shuffled"
        groups = in_drawn_order(patients, self.seed) if shuffled else in_order(patients)
        _require(cohort, groups, self.folds, f"split.folds={self.folds}", "choose fewer folds")
        folds = consecutive(groups, [1] * self.folds, least=1)
        test, val = folds.pop(self.fold - 1), folds.pop((self.fold - 1) % len(folds))
        train = [group for fold in folds for group in fold]
        split = Split(tissues_of(train), tissues_of(val), tissues_of(test))
        return check_split(split, patients, Split._fields)


@dataclass(frozen=True, kw_only=True)
class ByPatient(SplitRule):
    """Patients drawn at random, so that sides have as nearly their shares of tissues as they can.

    Patients for `test` are chosen first, then those for `val`; each side with a share gets one at least.

    Attributes:
        train: share of the tissues that train.
        val: share that chooses the epoch.
        test: share that is only reported. The three are scaled to sum 1.
        seed: of the draw; of the split alone, so that runs of many seeds share it.
    """

    rule: ClassVar[str] = "by_patient"
    train: float
    val: float
    test: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("split.seed", self.seed, 0)
        self.options()

    def options(self) -> dict[str, Any]:
        """Shares and seed."""
        return {**self._shares(), "seed": self.seed}

    def derived_name(self) -> str:
        """Its shares and its seed."""
        return "_".join([self.rule, *map(_number, self._shares().values()), f"seed_{self.seed}"])

    def _shares(self) -> dict[str, float]:
        return check_shares({"train": self.train, "val": self.val, "test": self.test})

    def __call__(self, cohort: Cohort) -> Split:
        """Draw patients for one side after the other."""
        shares, left = self._shares(), in_drawn_order(cohort.patients, self.seed)
        wanted = [side for side in ("test", "val") if shares[side]]
        sides = len(wanted) + 1
        _require(cohort, left, sides, f"{sides} sides", "add patients or set split.test=0")
        whole = sum(shares.values())
        chosen: dict[str, tuple[str, ...]] = {}
        for later, side in zip(range(len(wanted), 0, -1), wanted, strict=True):
            aim = shares[side] / whole * len(cohort.patients)
            taken = take(left, aim, len(left) - later)
            gone = set(taken)
            left = [group for group in left if group not in gone]
            chosen[side] = tissues_of(taken)
        return check_split(Split(tissues_of(left), **chosen), cohort.patients)


def _require(
    cohort: Cohort, groups: list[Patient], patients: int, what: str, otherwise: str
) -> None:
    if len(groups) < patients:
        raise SplitError(
            f"split: {what} takes {patients} patients at least, but the store holds "
            f"{counted(cohort.patients)}: {otherwise}."
        )


def _number(value: float) -> str:
    """The shortest decimal that is read as the same number, without a plus in its exponent."""
    return repr(value).removesuffix(".0").replace("+", "")
