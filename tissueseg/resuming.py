"""Which run a training goes on with: the one that is named, or the one its job has begun before."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from tissueseg.composition import plain, task_words
from tissueseg.errors import ConfigError, RunFolderError, in_one_line
from tissueseg.reporting import runs
from tissueseg.reporting.fingerprint import what_matters
from tissueseg.run_config import read_config, require_options
from tissueseg.study import parted
from tissueseg.study_checks import differing

AUTO = "auto"

_MACHINE = ("trainer.devices", "trainer.num_nodes", "trainer.accelerator")
"""What may be another when a run goes on: its numbers stay the same but for rounding."""

_ITS_OWN = ("resume", "trainer", *_MACHINE)


def named_run(config: DictConfig) -> Path | None:
    """The folder that `resume=FOLDER` names.

    Raises:
        ConfigError: words that would change the run.
        RunFolderError: no folder of a run.
    """
    said = config.resume
    if said == AUTO and config.run_dir is None and slurm_job() is None:
        raise ConfigError("resume=auto goes on with what is in run_dir: give run_dir=… too.")
    if said is None or said == AUTO:
        return None
    check_folder("resume", said)
    if others := [w for w in task_words() if parted(w)[0] not in _ITS_OWN]:
        raise ConfigError(
            f"resume={said} goes on with a run as it was configured: leave out {' '.join(others)}. "
            f"Only {', '.join(_MACHINE)} may be others."
        )
    return runs.open_run_folder(Path(said).expanduser())


def config_of(folder: Path, config: DictConfig, command: str) -> DictConfig:
    """A run's configuration, on the machine that the command line says.

    Args:
        folder: of the run.
        config: as composed from the command line.
        command: train or pretrain.

    Raises:
        RunFolderError: another command began the run.
    """
    since = {key: config[key] for key in ("state", "kept") if key in config}  # options of late
    found = read_config(folder)
    groups = OmegaConf.to_container(config, resolve=False)
    assert isinstance(groups, dict)
    grouped = [str(key) for key, options in groups.items() if isinstance(options, dict)]
    require_options(found, folder, *(key for key in grouped if key in found))
    kept = OmegaConf.merge(since, found)
    assert isinstance(kept, DictConfig)
    began = "pretrain" if "autoencoder" in kept else "train"
    if began != command:
        raise RunFolderError(
            f"{folder} was begun by {began}: python -m tissueseg.{began} resume={folder}"
        )
    given = {parted(word)[0] for word in task_words()}
    for key in _MACHINE:
        if given & {key, "trainer"}:
            OmegaConf.update(kept, key, OmegaConf.select(config, key), force_add=True)
    OmegaConf.update(kept, "run_dir", str(folder), force_add=True)
    OmegaConf.update(kept, "resume", str(folder), force_add=True)
    return kept


def default_folder(config: DictConfig, name: str) -> Path:
    """Where a run goes: a SLURM job that is put back into the queue finds it again."""
    if config.run_dir is not None:
        return Path(check_folder("run_dir", config.run_dir))
    return Path("runs") / name / (slurm_job() or time.strftime("%Y-%m-%d_%H-%M-%S"))


def check_folder(key: str, value: object) -> str:
    """Refuse what Hydra does not read as a path.

    Raises:
        ConfigError: a number, for one.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key}={value}: wanted a folder, in quotes if it looks like a number.")
    return value


def slurm_job(environment: Mapping[str, str] = os.environ) -> str | None:
    """`slurm-<job>`, or `slurm-<array>_<task>`; None where this is no job, or one of a sweep's."""
    if "SUBMITIT_EXECUTOR" in environment or "SLURM_JOB_ID" not in environment:
        return None
    array, task = (environment.get(f"SLURM_ARRAY_{key}") for key in ("JOB_ID", "TASK_ID"))
    return f"slurm-{array}_{task}" if array and task else f"slurm-{environment['SLURM_JOB_ID']}"


def finds_its_folder(config: DictConfig) -> bool:
    """Whether the same command, started again, goes on in the same folder without being told to."""
    return config.resume == AUTO or (config.run_dir is None and slurm_job() is not None)


def begun_before(config: DictConfig, folder: Path) -> bool:
    """Whether a folder holds the run that a configuration asks for, begun before and to be gone on with.

    Args:
        config: settled: its paths, split and class weights are those that would be kept.
        folder: where the run would go.

    Raises:
        RunFolderError: with `resume=auto`, it holds another run.
    """
    if not finds_its_folder(config) or not (folder / runs.CONFIG).is_file():
        return False
    kept = read_config(folder)
    changed = differing(what_matters(plain(kept)), what_matters(plain(config)))
    differ = [key for key in changed if key not in _ITS_OWN]
    if differ := sorted(differ, key=lambda key: (key.count("."), len(key))):  # others follow
        raise RunFolderError(
            f"{folder} holds a run that was configured otherwise ({', '.join(differ[:3])}): choose "
            "another run_dir."
        )
    return True


def requeue() -> None:
    """Put this SLURM job back into its queue, if it still runs: not what somebody has cancelled."""
    job = os.environ.get("SLURM_JOB_ID")
    if slurm_job() is None or job is None:
        return
    try:
        shown = _scontrol("show", "job", "-o", job)
        if "JobState=RUNNING" not in shown:  # cancelled; or pre-empted, and put back already
            return
        _scontrol("requeue", job)
    except (OSError, subprocess.SubprocessError) as error:
        print(
            f"notice: job {job} was not put back into the queue: {in_one_line(error)}", flush=True
        )
        return
    print(f"job {job} is in the queue again, and will go on", flush=True)


def _scontrol(*words: str) -> str:
    command = ["scontrol", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    return done.stdout
