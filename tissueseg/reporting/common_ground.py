"""The seeds and tissues that all arms of a comparison have, so that every number is of the same data.

An arm that was never tested on the hard tissues would lead a table of which each pair says that it is
behind. So order, intervals, differences, tests and groups are of what all arms have, and what that costs
is said, with the argument that leaves the arm out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tissueseg.errors import ConfigError
from tissueseg.reporting.samples import ArmSample, Measure
from tissueseg.reporting.statistics import scores


class CommonGround(NamedTuple):
    """Arms on what all of them have."""

    samples: tuple[ArmSample, ...]  # in the order given; an arm without any score as it was
    unscored: tuple[str, ...]  # arms without any score
    notes: tuple[str, ...]


def common_ground(samples: Sequence[ArmSample], measure: Measure) -> CommonGround:
    """Bring arms to the same seeds, units and clusters.

    Of means of values the units are those where every arm has one with every seed: a mean over other
    tissues is another score. An arm without any score has no say.

    Args:
        samples: one of each arm.
        measure: what parts are of.

    Raises:
        ConfigError: the arms that have scores share no seed, or no unit.
    """
    arms = [sample for sample in samples if _defined(sample, measure).any()]
    names = [sample.arm for sample in arms]
    unscored = tuple(sample.arm for sample in samples if sample.arm not in names)
    lacks: dict[str, list[str]] = {sample.arm: [] for sample in arms}
    if arms:
        seeds, units = _shared_seeds(arms, lacks), _shared_units(arms, lacks, measure)
        clusters = _clusters(arms, units)
        arms = [_only(sample, seeds, units, clusters) for sample in arms]
        seeds = _scored_seeds(arms, lacks, measure)
        arms = [_only(sample, seeds, units, clusters) for sample in arms]
        units = _scored_units(arms, lacks, measure) if measure.is_mean else units
        arms = [_only(sample, seeds, units, clusters) for sample in arms]
    there = {sample.arm: sample for sample in arms}
    notes = [*_costs(arms, lacks, measure)]
    if unscored:
        has = "has no score: it is" if len(unscored) == 1 else "have no score: they are"
        notes.append(f"{', '.join(unscored)} {has} listed last, outside tests and groups.")
    kept = tuple(there.get(sample.arm, sample) for sample in samples)
    return CommonGround(kept, unscored, tuple(notes))


def _defined(sample: ArmSample, measure: Measure) -> np.ndarray:
    """Seeds with a score: (S,)."""
    return np.isfinite(scores(measure.score, sample.parts.sum(1)))


def _shared_seeds(arms: Sequence[ArmSample], lacks: Mapping[str, list[str]]) -> list[int]:
    every = {seed for sample in arms for seed in sample.seeds}
    for sample in arms:
        if lacking := sorted(every - set(sample.seeds)):
            lacks[sample.arm].append(f"seed {listed(map(str, lacking))}")
    shared = sorted(every.intersection(*(sample.seeds for sample in arms)))
    if not shared:
        raise _nothing(arms, "seed", {a.arm: listed(map(str, sorted(a.seeds))) for a in arms})
    return shared


def _shared_units(
    arms: Sequence[ArmSample], lacks: Mapping[str, list[str]], measure: Measure
) -> list[str]:
    fold_of = {
        unit: f for sample in arms for unit, f in zip(sample.units, sample.folds, strict=True)
    }
    for sample in arms:
        if lacking := sorted(set(fold_of) - set(sample.units)):
            lacks[sample.arm].append(f"scores of {_by_fold(lacking, fold_of, measure)}")
    shared = sorted(set(fold_of).intersection(*(sample.units for sample in arms)))
    if not shared:
        raise _nothing(arms, measure.unit, {a.arm: listed(a.units, 3) for a in arms})
    return shared


def _by_fold(lacking: Sequence[str], fold_of: Mapping[str, str], measure: Measure) -> str:
    """`fold 2 (t06, t07)` where all units of some folds are lacking, else the units."""
    folds = sorted({fold_of[unit] for unit in lacking})
    whole = {unit for unit, fold in fold_of.items() if fold in folds} == set(lacking)
    if not whole or measure.unit == "fold" or "" in folds:
        return listed(lacking)
    return f"fold {listed(folds)} ({listed(lacking, 3)})"


def _scored_seeds(
    arms: Sequence[ArmSample], lacks: Mapping[str, list[str]], measure: Measure
) -> list[int]:
    """Seeds with which all arms have a score."""
    defined = np.array([_defined(sample, measure) for sample in arms])  # (A, S)
    seeds = np.array(arms[0].seeds)
    for n, sample in enumerate(arms):
        if not defined[n].all():
            lacks[sample.arm].append(f"score with seed {listed(map(str, seeds[~defined[n]]))}")
    if not defined.all(0).any():
        found = {a.arm: f"{defined[n].sum()} of {len(seeds)}" for n, a in enumerate(arms)}
        raise _nothing(arms, "seed with a score", found)
    return seeds[defined.all(0)].tolist()


def _scored_units(
    arms: Sequence[ArmSample], lacks: Mapping[str, list[str]], measure: Measure
) -> list[str]:
    """Units of which all arms have a score with every seed."""
    known = np.array([np.isfinite(scores(measure.score, s.parts)) for s in arms])  # (A, S, T)
    units, somewhere = np.array(arms[0].units), known.any((0, 1))
    for n, sample in enumerate(arms):
        if (without := somewhere & ~known[n].all(0)).any():
            named = listed(units[without].tolist())
            lacks[sample.arm].append(f"score of {named} with every seed")
    if not known.all((0, 1)).any():
        found = {a.arm: f"{known[n].all(0).sum()} of {len(units)}" for n, a in enumerate(arms)}
        raise _nothing(arms, f"{measure.unit} with a score", found)
    return units[known.all((0, 1))].tolist()


def _clusters(arms: Sequence[ArmSample], units: Sequence[str]) -> dict[str, str]:
    """Patient of each unit: a run copied without them names a tissue after itself, others know."""
    named: dict[str, set[str]] = {unit: set() for unit in units}
    for sample in arms:
        for unit, cluster in zip(sample.units, sample.clusters, strict=True):
            if unit in named and cluster != unit:
                named[unit].add(cluster)
    return {unit: min(found, default=unit) for unit, found in named.items()}


def _only(
    sample: ArmSample, seeds: Sequence[int], units: Sequence[str], clusters: Mapping[str, str]
) -> ArmSample:
    rows = [sample.seeds.index(seed) for seed in seeds]
    columns = [sample.units.index(unit) for unit in units]
    return replace(
        sample,
        seeds=tuple(seeds),
        units=tuple(units),
        clusters=tuple(clusters[unit] for unit in units),
        folds=tuple(sample.folds[n] for n in columns),
        parts=sample.parts[np.ix_(rows, columns)],
    )


def _costs(
    arms: Sequence[ArmSample], lacks: Mapping[str, list[str]], measure: Measure
) -> Iterator[str]:
    """A line of the arms that lack the same."""
    by_lack: dict[str, list[str]] = {}
    for arm, said in lacks.items():
        if said:
            by_lack.setdefault(" and no ".join(said), []).append(arm)
    for lacked, named in by_lack.items():
        units, seeds = len(arms[0].units), len(arms[0].seeds)
        has, them = ("has", "it") if len(named) == 1 else ("have", "them")
        others = [sample.arm for sample in arms if sample.arm not in named]
        way = f"; arms=[{','.join(others)}] leaves {them} out" if others else ""
        yield (
            f"{', '.join(named)} {has} no {lacked}: all arms are compared on the "
            f"{counted(units, measure.unit)} and {counted(seeds, 'seed')} that all have{way}."
        )


def _nothing(arms: Sequence[ArmSample], what: str, has: Mapping[str, str]) -> ConfigError:
    each = "; ".join(f"{arm}: {said}" for arm, said in has.items())
    named = ", ".join(sample.arm for sample in arms)
    return ConfigError(
        f"arms {named} have no {what} in common ({each}), wanted one at least: choose arms that were "
        "run alike, as in arms=[a,b]."
    )


def counted(count: int, name: str) -> str:
    """`1 tissue`, `4 tissues`."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def listed(names: Iterator[str] | Sequence[str], most: int = 6) -> str:
    """Names in a row; of many, the first and how many more."""
    some = list(names)
    rest = [f"{len(some) - most} more"] if len(some) > most else []
    return ", ".join(some[:most] + rest)
