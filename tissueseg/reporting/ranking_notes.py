"""What a reader of a ranking must know: what is missing, and what its size cannot show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isnan

from tissueseg.reporting.ranking import ArmResult, Comparison
from tissueseg.reporting.samples import ArmSample
from tissueseg.reporting.study.words import p_value

_LIMITED = {
    "tissues": "Intervals of {} hold the noise of tissues, not of trainings: there is one seed.",
    "seeds": "Intervals of {} hold the noise of trainings, not of tissues: "
    "fewer than two patients, tissues or folds have a score.",
    "nothing": "{} {has} no interval: no score, or a single one of one seed and one tissue.",
}


def notes_of_arms(arms: Sequence[ArmResult], samples: Sequence[ArmSample]) -> tuple[str, ...]:
    """Seeds without score, what intervals do not hold, and what some arms lack."""
    notes, names = [], [arm.arm for arm in arms]
    undefined = [arm.arm for arm in arms if any(map(isnan, arm.by_seed))]
    if undefined:
        notes.append(f"Seeds without a score are left out of {_arms(undefined, names)}.")
    for covers, text in _LIMITED.items():
        limited = [arm.arm for arm in arms if arm.interval.covers == covers]
        if limited:
            has = "has" if len(limited) == 1 else "have"
            notes.append(_sentence(text.format(_arms(limited, names), has=has)))
    two = [arm.arm for arm in arms if _scored(arm) == 2 and arm.interval.covers != "nothing"]
    if two:
        notes.append(
            f"Intervals of {_arms(two, names)} rest on two seeds: where noise is of trainings, such "
            "intervals of nominal 95 % held the truth in 87 % of simulated studies."
        )
    return (*notes, *_lacking(samples))


def notes_of_pairs(
    pairs: Sequence[Comparison], samples: Mapping[str, ArmSample], alpha: float
) -> tuple[str, ...]:
    """Tests that could not be made, and tests that could not have succeeded."""
    notes = []
    untested = [f"{pair.arm} and {pair.other}" for pair in pairs if isnan(pair.p)]
    if untested:
        named = _all_or(untested, len(pairs), "pairs")
        notes.append(f"No test is possible of {named}; they count as not told apart.")
    moved = [pair for pair in pairs if _other_folds(samples[pair.arm], samples[pair.other])]
    if moved:
        named = _all_or([f"{pair.arm} and {pair.other}" for pair in moved], len(pairs), "pairs")
        notes.append(f"Other folds held out the tissues of {named}: trainings are not permuted.")
    tested = [pair for pair in pairs if not isnan(pair.p)]
    smallest = min((pair.p_smallest for pair in tested), default=0.0)
    if smallest * len(tested) >= alpha:
        count = f"{len(tested)} pair{'' if len(tested) == 1 else 's'}"
        notes.append(
            f"No data of this size could tell these arms apart: the smallest p a pair could get is "
            f"{p_value(smallest)}, times {count}. Add seeds, folds or tissues, or drop arms."
        )
    return tuple(notes)


def _lacking(samples: Sequence[ArmSample]) -> Iterator[str]:
    """A line of the arms that lack the same seeds or units, which another arm has."""
    seeds = {seed for sample in samples for seed in sample.seeds}
    units = {unit for sample in samples for unit in sample.units}
    arms: dict[str, list[str]] = {}
    for sample in samples:
        lacks = {
            "seed": sorted(seeds - set(sample.seeds)),
            "scores of": sorted(units - set(sample.units)),
        }
        said = [f"{what} {_listed(map(str, some))}" for what, some in lacks.items() if some]
        if said:
            arms.setdefault(" and no ".join(said), []).append(sample.arm)
    for lacked, named in arms.items():
        has = "has" if len(named) == 1 else "have"
        yield f"{_listed(named)} {has} no {lacked}: pairs are compared on what both have."


def _other_folds(one: ArmSample, other: ArmSample) -> bool:
    theirs = dict(zip(other.units, other.folds, strict=True))
    ours = zip(one.units, one.folds, strict=True)
    return any(fold != theirs.get(unit, fold) for unit, fold in ours)


def _scored(arm: ArmResult) -> int:
    return sum(not isnan(score) for score in arm.by_seed)


def _arms(some: Sequence[str], arms: Sequence[str]) -> str:
    return _all_or(some, len(arms), "arms")


def _all_or(some: Sequence[str], count: int, what: str) -> str:
    """`all arms` where several are meant without exception, else their names."""
    return f"all {what}" if len(some) == count > 1 else _listed(some)


def _sentence(words: str) -> str:
    """With a capital where it opens with `all arms`; names stay as they are."""
    return words.replace("all", "All", 1) if words.startswith("all arms ") else words


def _listed(names: Iterable[str], most: int = 6) -> str:
    """Names in a row; of many, the first and how many more."""
    some = list(names)
    rest = [f"{len(some) - most} more"] if len(some) > most else []
    return ", ".join(some[:most] + rest)
