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

from tissueseg.composition import plain, task_words
from tissueseg.errors import ConfigError
from tissueseg.reporting import runs
from tissueseg.reporting.fingerprint import what_matters
from tissueseg.reporting.records.run_search import JOBS

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
            return [*self.words, f"run_dir={quoted(self.folder)}"]
        return [f"run={quoted(self.folder)}", f"side={self.evaluate}", f"trainer={self.trainer}"]


def quoted(path: Path) -> str:
    """A path as a word of Hydra's grammar, whatever characters it has."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def recipe(words: Sequence[str]) -> dict[str, Any]:
    """What a command line composes, as far as it shapes numbers.

    Places are resolved: the same words stand for another store where a variable or folder is another.
    """
    config = compose("train", list(words))
    OmegaConf.update(config, "name", "")  # it asks Hydra for the job's, and shapes nothing
    if (store := config.store.path) is not None and "://" not in store:
        config.store.path = str(Path(store).resolve())
    found = OmegaConf.to_container(config, resolve=True)
    assert isinstance(found, dict)
    return what_matters({str(key): value for key, value in found.items()})


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
    if arm is None:
        raise ConfigError(f"+study={study.name} is one of several: start one study at a time.")
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


def parted(word: str) -> tuple[str, str]:
    """Key and value of a word."""
    key, _, value = word.partition("=")
    return key.lstrip("+~"), value


def _is_on(word: str, keys: Sequence[str]) -> bool:
    """Whether a word is on one of some keys, or on what lies below it."""
    said, _ = parted(word)
    return any(said == key or said.startswith((f"{key}.", f"{key}@")) for key in keys)
