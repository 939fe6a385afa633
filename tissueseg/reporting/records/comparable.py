"""What a reader must know before comparing arms: whether their runs had the same code, data and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from tissueseg.errors import ConfigError
from tissueseg.reporting.records.arms import by_arm
from tissueseg.reporting.records.run_record import RunRecord

_Value = Callable[[RunRecord], object]


def check_comparable(records: Sequence[RunRecord]) -> list[str]:
    """Cautions, each a sentence; empty where all runs had the same.

    Args:
        records: with their arms.

    Raises:
        ConfigError: a tissue of one name was not the same tissue everywhere.
    """
    _check_tissues(records)
    notes = [
        *_different(records, "commits", lambda r: r.environment.get("commit")),
        *_changed_code(records),
        *_packages(records),
        *_stores(records),
        *_features(records),
        *_of_arms(records),
        *_different(records, "machines, so their costs differ for that too", _machine),
    ]
    as_loaded = [r for r in records if r.metrics.get("epoch", 0) < 0]
    if as_loaded:
        notes.append(f"{_some(as_loaded)} kept the decoder as it was loaded: none of its epochs.")
    return notes


def random_parts(record: RunRecord) -> list[str]:
    """Names of a run's encoders, or of their parts, that have learnt nothing."""
    encoder = record.environment.get("encoder") or {}
    parts = encoder.get("parts") or [encoder]
    return [str(part.get("name")) for part in parts if part.get("random_init")]


def _check_tissues(records: Sequence[RunRecord]) -> None:
    seen: dict[str, tuple[str, RunRecord]] = {}
    for record in records:
        for tissue, digest in (record.environment.get("digests") or {}).items():
            before, other = seen.setdefault(tissue, (digest, record))
            if before != digest:
                two = " and ".join(" ".join(known.split())[:12] for known in (before, digest))
                raise ConfigError(
                    f"runs: tissue {tissue} was not the same in {other.place} and {record.place} "
                    f"(digest {two}): report runs on one store."
                )


def _different(records: Sequence[RunRecord], what: str, value: _Value) -> list[str]:
    counts = Counter("unknown" if (found := value(r)) is None else str(found) for r in records)
    if len(counts) < 2:
        return []
    said = ", ".join(f"{found} ({_runs(n)})" for found, n in counts.most_common())
    return [f"Runs are of different {what}: {said}."]


def _changed_code(records: Sequence[RunRecord]) -> list[str]:
    changed = sum(str(r.environment.get("commit")).endswith("-dirty") for r in records)
    said = f"{changed} of {_runs(len(records))} had code that is in no commit (-dirty)."
    return [said] if changed else []


def _packages(records: Sequence[RunRecord]) -> list[str]:
    def versions(record: RunRecord) -> Mapping[str, Any]:
        own = {"tissueseg": record.environment.get("tissueseg")}
        return own | dict(record.environment.get("packages") or {})

    names = dict.fromkeys(name for record in records for name in versions(record))
    return [
        line
        for name in names
        for line in _different(records, f"{name} versions", lambda r, n=name: versions(r).get(n))
    ]


def _stores(records: Sequence[RunRecord]) -> list[str]:
    """By their names, as far as digests do not prove that their tissues are the same."""
    if all(record.environment.get("digests") for record in records):
        return []
    return _different(
        records, "stores", lambda r: PurePath(str(r.environment.get("store")).rstrip("/")).name
    )


def _features(records: Sequence[RunRecord]) -> list[str]:
    """Where features came from: stored ones were never augmented, and another store has others."""
    notes = _different(records, "sources of features", _source)
    stores: dict[str, dict[str, set[str]]] = {}
    for record in records:
        if found := record.environment.get("embeddings"):
            encoder = str((record.environment.get("encoder") or {}).get("name"))
            of_arms = stores.setdefault(encoder, {})
            of_arms.setdefault(record.arm, set()).add(str(found)[:12])
    for encoder, arms in stores.items():
        if len(set(map(frozenset, arms.values()))) > 1:
            said = "; ".join(f"{arm} {', '.join(sorted(found))}" for arm, found in arms.items())
            notes.append(f"Arms had other stores of features of encoder {encoder}: {said}.")
    return notes


def _source(record: RunRecord) -> str | None:
    """Paths are left out: a copied store is the same."""
    told = record.environment.get("features")
    is_stored = record.environment.get("embeddings") or str(told).startswith("stored")
    return "stored" if is_stored else told


def _of_arms(records: Sequence[RunRecord]) -> list[str]:
    """What is the same for every run of an arm, but not for every arm."""
    arms = by_arm(records)
    epochs = {arm: runs[0].config.get("epochs") for arm, runs in arms.items()}
    trainings = {arm: len(runs) for arm, runs in arms.items()}
    return [
        f"Arms differ in their number of {what}: {', '.join(f'{a} {n}' for a, n in found.items())}."
        for what, found in (("epochs", epochs), ("trainings", trainings))
        if len(set(found.values())) > 1
    ]


def _machine(record: RunRecord) -> str:
    machine = record.environment.get("machine") or {}
    gpus = Counter(machine.get("gpus") or ())
    named = " + ".join(f"{n} × {gpu}" for gpu, n in gpus.items())
    return named or f"{machine.get('cpus', 'unknown')} CPU cores"


def _some(records: Sequence[RunRecord]) -> str:
    named = ", ".join(record.place for record in records[:3])
    return f"{named} and {len(records) - 3} more" if len(records) > 3 else named


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"
