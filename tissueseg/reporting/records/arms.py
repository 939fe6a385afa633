"""Which runs are of one arm, and whether arms can be compared.

Runs of a study say their arm. Others belong together when their configurations differ in nothing but
seed, fold and machine. Either way runs that are averaged must be of one recipe: an average over two is
a score of neither.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tissueseg.errors import ConfigError
from tissueseg.reporting.fingerprint import what_matters
from tissueseg.reporting.records.run_record import RunRecord

Recipe = Mapping[str, Any]
"""Key of a configuration -> its value, of what makes an arm."""

_OF_A_RUN = ("seed", "study", "split.fold", "split.name", "embeddings.check")
_OF_THE_TRAINER = ("accumulate_grad_batches", "gradient_clip", "limit_", "precision")
"""How its words begin that shape numbers; the others say which machine trains, and what it prints."""


def with_arms(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The runs, each with the name of its arm: of its study, or as told apart by configurations.

    Args:
        records: as read.

    Raises:
        ConfigError: an arm has a fold and seed twice, or runs that were made otherwise than others.
    """
    studies = {record.study for record in records}
    plain = [record for record in records if not record.study]
    labels = {id(record): label for record, label in zip(plain, _labels(plain), strict=True)}
    named = []
    for record in records:
        arm = labels.get(id(record), record.arm)
        prefix = f"{record.study}/" if record.study and len(studies) > 1 else ""
        named.append(replace(record, arm=prefix + arm))
    for runs_of_arm in by_arm(named).values():
        _check_once(runs_of_arm)
        _check_alike(runs_of_arm)
    return named


def by_arm(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Arm -> its runs: arms as their study lists them, else as they come."""
    found: dict[str, list[RunRecord]] = defaultdict(list)
    for record in records:
        found[record.arm].append(record)
    return dict(sorted(found.items(), key=lambda item: _rank(item[1][0])))


def recipe(record: RunRecord) -> Recipe:
    """What of a run's configuration makes its arm, flat."""
    flat = _flat(what_matters(record.config))
    return {key: _without_place(value) for key, value in flat.items() if _makes_an_arm(key)}


def differing(recipes: Sequence[Recipe]) -> list[str]:
    """Keys whose values are not the same everywhere, the shortest first; missing is null."""
    keys = {key for found in recipes for key in found}
    return sorted(
        (key for key in keys if any(r.get(key) != recipes[0].get(key) for r in recipes)),
        key=lambda key: (key.count("."), len(key), key),
    )


def _rank(record: RunRecord) -> int:
    arms = list((record.config.get("study") or {}).get("arms") or ())
    arm = record.arm.removeprefix(f"{record.study}/")
    return arms.index(arm) if arm in arms else len(arms)


def _labels(records: Sequence[RunRecord]) -> list[str]:
    """Names of runs, with the keys that tell arms of one name apart."""
    groups = _grouped(records)
    names: dict[str, set[int]] = defaultdict(set)
    for record, group in zip(records, groups, strict=True):
        names[str(record.metrics["run"])].add(group)
    labels: dict[int, str] = {}
    for name, of_name in names.items():
        firsts = {group: recipe(records[groups.index(group)]) for group in sorted(of_name)}
        keys = _telling_apart(list(firsts.values()))
        for group, found in firsts.items():
            labels[group] = ", ".join([name, *(f"{key}={_said(found.get(key))}" for key in keys)])
    return [labels[group] for group in groups]


def _grouped(records: Sequence[RunRecord]) -> list[int]:
    """Number of the group of every run.

    Class weights made of the training tissues differ between folds of one arm. So they are left aside,
    unless that leaves a group with a fold and seed twice: then they were set by hand.
    """
    rough = [_key(record, settled=True) for record in records]
    times = Counter(
        (key, record.fold, record.seed) for key, record in zip(rough, records, strict=True)
    )
    twice = {key for (key, _, _), count in times.items() if count > 1}
    keys = [
        _key(record, settled=False) if key in twice else key
        for key, record in zip(rough, records, strict=True)
    ]
    order = list(dict.fromkeys(keys))
    return [order.index(key) for key in keys]


def _key(record: RunRecord, settled: bool) -> tuple[Any, ...]:
    found = recipe(record)
    found = _settled(found) if settled else found
    said = sorted((key, repr(value)) for key, value in found.items() if value is not None)
    return (str(record.metrics["run"]), *said)


def _telling_apart(recipes: Sequence[Recipe]) -> list[str]:
    """The fewest keys, taken greedily, by which no two recipes are the same."""
    chosen: list[str] = []
    left = differing(recipes)

    def kinds(keys: Sequence[str]) -> int:
        return len({tuple(repr(r.get(key)) for key in keys) for r in recipes})

    while left and kinds(chosen) < len(recipes):
        best = max(left, key=lambda key: kinds([*chosen, key]))  # of equals, the shortest
        chosen.append(best)
        left.remove(best)
    return chosen


def _check_once(records: Sequence[RunRecord]) -> None:
    places: dict[tuple[str, int], str] = {}
    for record in records:
        before = places.setdefault((record.fold, record.seed), record.place)
        if before != record.place:
            fold = f" on fold {record.fold}" if record.fold else ""
            raise ConfigError(
                f"runs: arm {record.arm} was trained{fold} with seed {record.seed} twice, in {before} "
                f"and {record.place}: leave one of them out."
            )


def _check_alike(records: Sequence[RunRecord]) -> None:
    """Refuse an arm whose runs were made in two ways."""
    first = records[0]
    of_fold: dict[str, RunRecord] = {}
    for record in records:
        for other, settled in ((first, True), (of_fold.setdefault(record.fold, record), False)):
            pair = [recipe(other), recipe(record)]
            pair = [_settled(found) for found in pair] if settled else pair
            if keys := differing(pair):
                was, found = (_said(r.get(keys[0])) for r in pair)
                raise ConfigError(
                    f"runs: arm {record.arm} was made with {keys[0]}={was} in {other.place}, but with "
                    f"{found} in {record.place}: report one of them, or train the other again."
                )


def _makes_an_arm(key: str) -> bool:
    if key.startswith("trainer."):
        return key.removeprefix("trainer.").startswith(_OF_THE_TRAINER)
    return not any(key == left or key.startswith(f"{left}.") for left in _OF_A_RUN)


def _settled(found: Recipe) -> dict[str, Any]:
    """Lists of class weights, which training tissues may have made, are all the same."""
    return {
        key: "of its classes"
        if key.endswith("class_weights") and isinstance(value, list)
        else value
        for key, value in found.items()
    }


def _flat(node: Mapping[str, Any], key: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in node.items():
        below = f"{key}.{name}" if key else str(name)
        found |= _flat(value, below) if isinstance(value, Mapping) else {below: value}
    return found


def _without_place(value: Any) -> Any:
    """A file lies elsewhere on every machine; its name stays."""
    if not isinstance(value, str) or not (value.startswith(("/", "~")) or "://" in value):
        return value
    return value.rstrip("/").rpartition("/")[2]


def _said(value: Any) -> str:
    text = (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
    return text if len(text) <= 60 else f"{text[:57]}…"
