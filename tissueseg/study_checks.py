"""What a study is refused for: arms that cannot be, or are alike, and runs that were made otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from tissueseg.composition import plain, task_words
from tissueseg.errors import ConfigError
from tissueseg.reporting import runs
from tissueseg.reporting.records.run_search import is_looked_into
from tissueseg.store.checks import is_plain_name
from tissueseg.store.tissues import TissueStore
from tissueseg.study import SIDES, StudyRun, arm_words, is_study, parted, read_record

SWEPT = ("study.arm", "split.fold", "seed")
"""What the runs of a study differ in."""


def check_study(config: DictConfig) -> None:
    """Refuse a study whose arms, sides or folder are not what they should be.

    Raises:
        ConfigError: naming the key.
    """
    study = config.study
    arms = plain(study.arms)
    if not isinstance(arms, dict) or not arms:
        raise ConfigError(f"study.arms={arms}: wanted the words of every arm by its name.")
    for arm, words in arms.items():
        if not is_plain_name(arm) or not is_looked_into(arm):
            raise ConfigError(
                f"study.arms has {arm!r}: choose another name, for it names a folder."
            )
        if not isinstance(words, list) or not all(isinstance(w, str) and "=" in w for w in words):
            raise ConfigError(f"study.arms.{arm}={words}: wanted words such as [decoder=boundary].")
    if study.baseline is not None and study.baseline not in arms:
        raise ConfigError(f"study.baseline={study.baseline}: choose from {', '.join(arms)}.")
    if study.evaluate is not None and study.evaluate not in SIDES:
        raise ConfigError(f"study.evaluate={study.evaluate}: wanted {', '.join(SIDES)} or null.")
    if not isinstance(study.resume, bool):
        raise ConfigError(f"study.resume={study.resume}: wanted true or false.")
    if not (isinstance(study.out, str) and study.out):
        raise ConfigError(f"study.out={study.out}: wanted a folder.")
    runs.check_writable(Path(study.out), "study.out")


def check_shared(config: DictConfig, words: Sequence[str], swept: Sequence[str]) -> None:
    """Refuse words for all runs that would make arms alike, and sweeps over more than runs differ in.

    Args:
        config: of the study.
        words: for all runs.
        swept: keys that are swept over.

    Raises:
        ConfigError: naming the word.
    """
    arms = {arm: dict(map(parted, arm_words(config, arm))) for arm in config.study.arms}
    for key, value in map(parted, words):
        if len({said.get(key) for said in arms.values()}) > 1:
            raise ConfigError(
                f"{key}={value} is what the arms of study {config.study.name} differ in: choose arms "
                "with study.arm=…, or make one with '+study.arms.<name>=[\"key=value\"]'."
            )
    for key in (key for key in swept if key not in SWEPT):
        raise ConfigError(
            f"{key} is swept over, but runs of a study differ in {', '.join(SWEPT)} alone: make arms of "
            "its values with '+study.arms.<name>=[\"key=value\"]'."
        )


def check_different(recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse arms that come to the same.

    Args:
        recipes: arm -> what its words compose.

    Raises:
        ConfigError: naming two of them.
    """
    seen: dict[str, str] = {}
    for arm, made in recipes.items():
        text = json.dumps({k: v for k, v in made.items() if k != "study"}, sort_keys=True)
        if (other := seen.setdefault(text, arm)) != arm:
            raise ConfigError(
                f"study.arms: {other} and {arm} come to the same with these words. Leave out the words "
                "that say what they differ in."
            )


def check_single(config: DictConfig) -> None:
    """Refuse a study without a sweep, and an arm's name without its words.

    Raises:
        ConfigError: with the words to give.
    """
    if not is_study(config):
        return
    if config.study.arm is None:
        raise ConfigError(
            f"+study={config.study.name} is many runs: start it with -m, or choose one of them "
            f"(study.arm=…, with its words)."
        )
    said = task_words()
    if missing := [w for w in arm_words(config, config.study.arm) if w not in said]:
        raise ConfigError(
            f"study.arm={config.study.arm} is made by words that are not given: add {' '.join(missing)}."
        )


def check_kept(run: StudyRun, made: Mapping[str, Any], store: str | None) -> None:
    """Refuse to keep a finished run that another composition made, or of other pixels.

    Args:
        run: whose folder holds scores.
        made: its recipe as it is now.
        store: of its tissues; None: the demo, of which the recipe tells.

    Raises:
        ConfigError: naming what differs.
    """
    if not run.resume:
        raise ConfigError(
            f"{run.folder} holds a finished run: keep it with study.resume=true, or choose another "
            "study.out."
        )
    before = read_record(run.record).get("recipe")
    if before is None:
        raise ConfigError(f"{run.folder}: {run.record} does not say how it was made. Remove them.")
    now = json.loads(json.dumps(made))
    if changed := differing(before, now):
        key = min(changed, key=lambda key: (key.count("."), len(key)))  # others follow from it
        was, wanted = changed[key]
        raise ConfigError(
            f"{run.folder} was made with {key}={was}, now {wanted} is asked for: choose another "
            "study.out, or remove that folder."
        )
    if store is not None:
        trained = read_record(run.folder / runs.ENVIRONMENT).get("digests") or {}
        there = TissueStore(store).digests()
        if others := [t for t, digest in trained.items() if there.get(t) != digest]:
            raise ConfigError(
                f"{run.folder} was made when {', '.join(others[:3])} had other pixels or labels in "
                f"{store}: choose another study.out, or remove that folder."
            )


def differing(before: Any, now: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Key -> values that differ between two configurations, or what lies at a key of them."""
    if isinstance(before, dict) and isinstance(now, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in dict.fromkeys([*before, *now]):
            below = f"{key}.{name}" if key else name
            found |= differing(before.get(name), now.get(name), below)
        return found
    return {} if before == now else {key: (before, now)}
