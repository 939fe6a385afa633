"""From the name of a score to what is compared: a measure, and what every arm measured of it.

A tissue stands in an arm's sample by the fold that held it out, once per seed, so that a sample is a
cross-validation repeated; scores of which a run kept no parts by tissue are sampled by fold.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tissueseg.errors import ConfigError
from tissueseg.metrics.definitions import definition_of
from tissueseg.reporting.records.arms import by_arm
from tissueseg.reporting.records.measured_parts import (
    MACROS,
    Key,
    key_of,
    keys_of,
    mean_of_values,
    only_predicted,
    parts_of,
    score_of,
)
from tissueseg.reporting.records.run_record import RunRecord
from tissueseg.reporting.samples import ArmSample, Measure, Parts

_CLASSES = {
    "macro": "mean over the classes that occur in the truth, background included",
    "macro_foreground": "mean over the classes that occur in the truth, background left out",
}
_OF_CELLS = ("bpq", "mpq", "pq_", "dq_", "sq_", "aji", "detection_", "classification_", "hv_mse")
_HELD_OUT = {
    "test": ", each scored by the fold that held it out",
    "val": ", each scored by the fold that chose its epoch on it",
}


class _Unit(NamedTuple):
    """A tissue of a fold, or a fold, and where its parts are."""

    name: str
    fold: str
    row: int


def available(records: Sequence[RunRecord]) -> list[str]:
    """Names of all scores that some run has."""
    return list(dict.fromkeys(key for record in records for key in keys_of(record)))


def find_measure(key: str, records: Sequence[RunRecord]) -> Measure:
    """The measure of a name such as `test/dice/macro_foreground`.

    Args:
        key: its side, its score, and the class of scores of pixels.
        records: that are measured by it.

    Raises:
        ConfigError: no run has it.
    """
    parsed, known = key_of(key), available(records)
    if key not in known:
        near = difflib.get_close_matches(key, known, n=3, cutoff=0.5) or known[:3]
        raise ConfigError(
            f"metric={key}: no run has it. Choose another, such as {', '.join(near)}; sides: "
            f"{', '.join(dict.fromkeys(name.partition('/')[0] for name in known))}."
            + _of_cells_not_scored(parsed, records)
        )
    return Measure(
        key=key,
        averaging=_averaging(parsed),
        score=score_of(parsed) if parsed.is_pooled else mean_of_values,
        higher_is_better=parsed.higher_is_better,
        unit="fold" if parsed.is_of_run else "tissue",
        is_mean=not parsed.is_pooled,
        has_patients=not parsed.is_of_run and _know_patients(records) == len(records) > 0,
    )


def samples(measure: Measure, records: Sequence[RunRecord]) -> tuple[list[ArmSample], list[str]]:
    """What every arm measured, and what of it was left out.

    Args:
        measure: as found for these runs.
        records: with their arms.

    Returns:
        Samples of the arms that have a whole cross-validation, in the study's order; notes.

    Raises:
        ConfigError: arms have means over different classes, or seeds were scored on other tissues.
    """
    key, found, notes = key_of(measure.key), [], []
    if key.of in MACROS:
        _check_classes(measure, records)
        notes += _differs_from_tables(key, records)
    if 0 < (known := _know_patients(records)) < len(records):
        notes.append(
            f"{known} of {len(records)} runs know the patients of tissues: every tissue counts as a "
            "patient of its own. Report runs that know them, or tests and intervals promise too much."
        )
    for arm, runs in by_arm(records).items():
        seeds, said = _whole_seeds(arm, runs, key)
        notes += said
        if seeds:
            found.append(_sample(arm, runs, seeds, key, measure.has_patients))
    return found, notes


def _averaging(key: Key) -> str:
    name = {"dice": "Dice", "iou": "IoU"}.get(key.name.partition("_")[0], key.name)
    held_out, of = _HELD_OUT.get(key.side, ""), "" if key.of in MACROS else f" of {key.of}"
    if key.is_of_run:
        definition = (definition_of(f"{key.side}/{key.name}") or name).rstrip(".")
        return (
            f"{definition}; one number of each fold's {key.side} side, mean over folds, then seeds"
        )
    if key.is_of_cells:
        own = f"{name} of each {key.side} tissue by itself{held_out}"
        return f"{own}; mean over the tissues where it is defined; mean over seeds"
    classes = f"; {_CLASSES[key.of]}" if key.of in MACROS else ""
    if key.is_by_tissue:
        own = f"{name}{of} of each {key.side} tissue by itself{held_out}{classes}"
        return f"{own}; mean over the tissues where it is defined; mean over seeds"
    pooled = f"{name}{of} pooled over all pixels of the {key.side} tissues{held_out}"
    return f"{pooled}{classes}; mean over seeds"


def _check_classes(measure: Measure, records: Sequence[RunRecord]) -> None:
    first = records[0]
    for record in records:
        if record.classes != first.classes:
            raise ConfigError(
                f"metric={measure.key} is a mean over classes, and arms {first.arm} and {record.arm} "
                f"have others ({', '.join(first.classes)}; {', '.join(record.classes)}): report them "
                "apart, or choose the score of one class."
            )


def _whole_seeds(
    arm: str, runs: Sequence[RunRecord], key: Key
) -> tuple[dict[int, dict[str, Parts]], list[str]]:
    """Seed -> fold -> parts, of the seeds that have every fold of the arm; what was left out."""
    folds = sorted({run.fold for run in runs}, key=_by_number)
    by_seed: dict[int, dict[str, Parts]] = {run.seed: {} for run in sorted(runs, key=_seed)}
    for run in runs:
        if (parts := parts_of(run, key)) is not None:
            by_seed[run.seed][run.fold] = parts
    lacking = {
        seed: [fold for fold in folds if fold not in found] for seed, found in by_seed.items()
    }
    name = "/".join(filter(None, key))
    if all(lacking.values()):
        return {}, [f"Arm {arm} is left out: none of its seeds has {name} on every fold."]
    notes = [
        f"Arm {arm}: seed {seed} is left out, for it has no {name}"
        + (f" on fold {', '.join(missing)}." if missing != [""] else ".")
        for seed, missing in lacking.items()
        if missing
    ]
    return {seed: found for seed, found in by_seed.items() if not lacking[seed]}, notes


def _sample(
    arm: str,
    runs: Sequence[RunRecord],
    seeds: dict[int, dict[str, Parts]],
    key: Key,
    has_patients: bool,
) -> ArmSample:
    units = _fold_units(runs) if key.is_of_run else _tissue_units(arm, runs, key, set(seeds))
    times = Counter(unit.name for unit in units)
    patients = {
        tissue: patient
        for run in runs
        for tissue, patient in (run.environment.get("patients") or {}).items()
        if has_patients and patient
    }
    return ArmSample(
        arm=arm,
        seeds=tuple(seeds),
        units=tuple(u.name if times[u.name] == 1 else f"{u.name} (fold {u.fold})" for u in units),
        clusters=tuple(patients.get(unit.name, unit.name) for unit in units),
        folds=tuple(unit.fold for unit in units),
        parts=np.stack([[found[u.fold][u.row] for u in units] for found in seeds.values()]),
    )


def _fold_units(runs: Sequence[RunRecord]) -> list[_Unit]:
    folds = sorted({run.fold for run in runs}, key=_by_number)
    return [_Unit(f"fold {fold}" if fold else "the whole side", fold, 0) for fold in folds]


def _tissue_units(arm: str, runs: Sequence[RunRecord], key: Key, seeds: set[int]) -> list[_Unit]:
    by_fold: dict[str, tuple[str, ...]] = {}
    for run in runs:
        tissues = run.tissues(key.side)
        if run.seed in seeds and by_fold.setdefault(run.fold, tissues) != tissues:
            raise ConfigError(
                f"runs: arm {arm} was scored on other {key.side} tissues in {run.place} than with other "
                "seeds: report runs of one split."
            )
    units = [
        _Unit(tissue, fold, row)
        for fold, tissues in by_fold.items()
        for row, tissue in enumerate(tissues)
    ]
    return sorted(units, key=lambda unit: (unit.name, _by_number(unit.fold)))


def _know_patients(records: Sequence[RunRecord]) -> int:
    """Runs that know whose tissues are whose; none where every tissue is its own patient."""
    known = [found for record in records if (found := record.environment.get("patients"))]
    return len(known) if any(any(found.values()) for found in known) else 0


def _differs_from_tables(key: Key, records: Sequence[RunRecord]) -> list[str]:
    """Where a run's own tables have another mean over classes."""
    alone = [names for r in records if key.side in r.sides and (names := only_predicted(r, key))]
    if not alone:
        return []
    classes = ", ".join(dict.fromkeys(name for names in alone for name in names))
    runs = "1 run predicts" if len(alone) == 1 else f"{len(alone)} runs predict"
    where = (
        f"that no {key.side} tissue has" if key.is_pooled else f"in {key.side} tissues without it"
    )
    said = f"{runs} a class {where}: {classes}. Tables of such a run count it as 0"
    return [f"{said}, this mean leaves it out."]


def _of_cells_not_scored(key: Key, records: Sequence[RunRecord]) -> str:
    is_of_cells = key.is_of_cells or key.name.startswith(_OF_CELLS)
    if not is_of_cells or any(record.evaluations.get(key.side) for record in records):
        return ""
    command = f"`python -m tissueseg.evaluate run=… side={key.side}` (or study.evaluate={key.side})"
    return f" Cells are scored by {command}."


def _by_number(fold: str) -> tuple[int, str]:
    return (int(fold) if fold.isdecimal() else 0, fold)


def _seed(run: RunRecord) -> int:
    return run.seed
