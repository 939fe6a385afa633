"""A study: arms × folds × seeds, each run with a folder and a record of its own.

An arm is the words that make it, as on a command line, so a run of a study is a line anyone can type
again; `sweep.py` starts those lines. Runs that are finished are kept as long as nothing that shapes
their numbers has changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from tissueseg.command import plain, task_words
from tissueseg.errors import ConfigError
from tissueseg.reporting import runs
from tissueseg.reporting.fingerprint import what_matters
from tissueseg.store.checks import is_plain_name

JOBS = "jobs"
"""Folder of the records, in the study's."""

SIDES = ("val", "test")


@dataclass(frozen=True)
class StudyRun:
    """One run of a study: an arm on a fold with a seed."""

    study: str
    arm: str
    label: str  # `<fold>-<seed>`, as far as there are folds
    out: Path  # of the study
    words: tuple[str, ...]  # the command line that makes it, but for the folder
    evaluate: str | None  # side whose cells are scored, too
    resume: bool
    trainer: str  # choice of the group, which scoring cells takes, too

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.out / self.arm / self.label

    @property
    def name(self) -> str:
        """In the study: `<arm>.<label>`."""
        return f"{self.arm}.{self.label}"

    @property
    def record(self) -> Path:
        """What became of it."""
        return self.out / JOBS / f"{self.name}.json"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.out / JOBS / f"{self.name}.log"

    def steps(self) -> dict[str, Path]:
        """Command -> the file that stands when it is done."""
        steps = {"train": self.folder / runs.METRICS}
        if self.evaluate:
            steps["evaluate"] = self.folder / "evaluation" / self.evaluate / runs.METRICS
        return steps

    def command(self, step: str) -> list[str]:
        """The words of a step."""
        if step == "train":
            return [*self.words, f"run_dir={self.folder}"]
        return [f"run={self.folder}", f"side={self.evaluate}", f"trainer={self.trainer}"]

    def recipe(self) -> dict[str, Any]:
        """The composition, as far as it shapes numbers; interpolations stand as they are."""
        config = OmegaConf.to_container(compose("train", list(self.words)), resolve=False)
        assert isinstance(config, dict)
        return what_matters({str(key): value for key, value in config.items()})


def is_study(config: DictConfig) -> bool:
    """Whether a composition belongs to a study."""
    return "study" in config


def study_run(config: DictConfig, choices: Mapping[str, str]) -> StudyRun:
    """The run that a job of a sweep stands for.

    Args:
        config: of the job.
        choices: Hydra's, of groups.

    Raises:
        ConfigError: the study or the arm is not as it should be.
    """
    study, arm = config.study, config.study.arm
    parts = {"fold": OmegaConf.select(config, "split.fold"), "seed": config.seed}
    return StudyRun(
        study=study.name,
        arm=arm,
        label="-".join(f"{key}_{value}" for key, value in parts.items() if value is not None),
        out=Path(study.out),
        words=(*arm_words(config, arm), *task_words()),
        evaluate=study.evaluate,
        resume=study.resume,
        trainer=choices["trainer"],
    )


def arm_words(config: DictConfig, arm: str) -> list[str]:
    """The words of an arm, less those that the protocol leaves out, and with its own.

    Raises:
        ConfigError: there is no such arm.
    """
    arms = plain(config.study.arms)
    if arm not in arms:
        raise ConfigError(f"study.arm={arm} is unknown: choose from {', '.join(arms)}.")
    left_out = tuple(plain(config.protocol.leave_out))
    kept = [word for word in arms[arm] if not _is_on(word, left_out)]
    return [*kept, *plain(config.protocol.also)]


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
        if not is_plain_name(arm):
            raise ConfigError(
                f"study.arms has {arm!r}: wanted a plain name, for it names a folder."
            )
        if not isinstance(words, list) or not all(isinstance(w, str) and "=" in w for w in words):
            raise ConfigError(f"study.arms.{arm}={words}: wanted words such as [decoder=boundary].")
    if study.baseline is not None and study.baseline not in arms:
        raise ConfigError(f"study.baseline={study.baseline}: choose from {', '.join(arms)}.")
    if study.evaluate is not None and study.evaluate not in SIDES:
        raise ConfigError(f"study.evaluate={study.evaluate}: wanted {', '.join(SIDES)} or null.")
    if not isinstance(study.resume, bool):
        raise ConfigError(f"study.resume={study.resume}: wanted true or false.")
    runs.check_writable(Path(study.out))


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


def check_kept(run: StudyRun, recipe: Mapping[str, Any]) -> None:
    """Refuse to keep a finished run that another composition made.

    Args:
        run: whose folder holds scores.
        recipe: it has now.

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
    now = json.loads(json.dumps(recipe))
    if differing := _differing(before, now):
        key, (was, wanted) = next(iter(differing.items()))
        raise ConfigError(
            f"{run.folder} was made with {key}={was}, now {wanted} is asked for: choose another "
            "study.out, or remove that folder."
        )


def write_record(run: StudyRun, **said: Any) -> None:
    """Note what becomes of a run."""
    run.record.parent.mkdir(parents=True, exist_ok=True)
    about = {"study": run.study, "arm": run.arm, "label": run.label, "folder": str(run.folder)}
    runs.write_json(run.record, about | said)


def read_record(path: Path) -> dict[str, Any]:
    """A record; empty where there is none or it is broken."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_on(word: str, keys: Sequence[str]) -> bool:
    """Whether a word is on one of some keys, or on what lies below it."""
    said = word.partition("=")[0].lstrip("+~")
    return any(said == key or said.startswith((f"{key}.", f"{key}@")) for key in keys)


def _differing(before: Any, now: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Key -> values that differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in dict.fromkeys([*before, *now]):
            below = f"{key}.{name}" if key else name
            found |= _differing(before.get(name), now.get(name), below)
        return found
    return {} if before == now else {key: (before, now)}
