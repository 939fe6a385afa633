"""Jobs of a sweep, each in a process of its own, whatever launcher Hydra starts them with.

A process is the unit that fails, is killed or runs out of memory without taking others along, and it
keeps no state of the run before. A study's jobs print into logs, of which one line each is shown.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from tissueseg.composition import one_line, task_words
from tissueseg.errors import INTERRUPTED, STOPPED, USER_ERROR, JobFailedError, TissuesegError
from tissueseg.reporting import runs
from tissueseg.store.claims import Claims
from tissueseg.study import (
    JOBS,
    StudyRun,
    is_study,
    quoted,
    read_record,
    recipe,
    study_run,
    write_record,
)
from tissueseg.study_checks import check_kept


class _Ended(NamedTuple):
    """How a process ended."""

    code: int
    line: str | None  # the last error it printed, else its last line; None: it went well


def start_apart(config: DictConfig) -> None:
    """Run a job of a sweep of trainings in a process of its own, and wait for it.

    Raises:
        JobFailedError: it went wrong, and belongs to no study, which would record it.
    """
    if is_study(config):
        _start_run(config)
        return
    words = task_words()
    code = subprocess.run([*_program("train"), *words], env=_environment()).returncode  # noqa: S603
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code:
        raise JobFailedError(f"the job {' '.join(words)} ended with exit code {code}: see above.")


def _start_run(config: DictConfig) -> None:
    """Bring one run of a study to its end, unless it is there."""
    run = study_run(config, HydraConfig.get().runtime.choices)
    with Claims(run.out / JOBS / "claims") as claims:
        waited = False
        while (claim := claims.take(run.name)) is None:
            if not waited:
                _tell(run, "another process is at it: waiting")
            waited = True
            time.sleep(1)
        try:
            _bring_about(run, config.store.path)
        finally:
            claim.release()


def _bring_about(run: StudyRun, store: str | None) -> None:
    began_at, clock_s = time.time(), time.monotonic()
    try:
        made = recipe(run.words)
        left = [step for step, file in run.steps().items() if not file.is_file()]
        if "train" not in left:
            check_kept(run, made, store)
        if not left:
            before = {k: v for k, v in read_record(run.record).items() if k != "refused"}
            write_record(run, **(before | {"state": "kept", "ended": time.time()}))
            _tell(run, "kept")
            return
        going_on = "train" in left and _can_go_on(run, made)
        if "train" in left and not going_on:
            _clear(run)
        about = {"words": run.words, "recipe": made}
        write_record(run, state="running", began=began_at, ended=began_at, **about)
        ended = _run_steps(run, left, going_on)
    except KeyboardInterrupt:
        _note(run, state="interrupted", ended=time.time())
        raise
    except (TissuesegError, HydraException, OmegaConfBaseException, OSError) as error:
        line = one_line(error)
        finished = (run.folder / runs.METRICS).is_file()  # by other words: these are refused
        _note(run, ended=time.time(), **({"refused": line} if finished else _failure(2, line)))
        _tell(run, f"failed: {line}")
        return
    outcome = _failure(ended.code, ended.line) if ended.code else {"state": "finished", "code": 0}
    _note(run, **outcome, ended=time.time())
    took = f"{time.monotonic() - clock_s:.0f} s"
    _tell(run, f"failed after {took}: {ended.line}" if ended.code else f"finished in {took}")


def _failure(code: int, line: str | None) -> dict[str, Any]:
    return {"state": "failed", "code": code, "line": line}


def _note(run: StudyRun, **said: Any) -> None:
    """Add to a run's record, as far as the disk takes it."""
    try:
        write_record(run, **(read_record(run.record) | said))
    except OSError as error:
        _tell(run, f"its record cannot be written: {error}")


def _can_go_on(run: StudyRun, made: Mapping[str, Any]) -> bool:
    """Whether a training by the same words was stopped, and left a state to go on with."""
    there = (run.folder / runs.CONFIG).is_file() and any((run.folder / runs.STATE).glob("*.ckpt"))
    return there and run.resume and read_record(run.record).get("recipe") == made


def _run_steps(run: StudyRun, steps: Sequence[str], going_on: bool) -> _Ended:
    ended = _Ended(0, None)
    for step in steps:
        words = [f"resume={quoted(run.folder)}"] if step == "train" and going_on else None
        ended = _run_logged(run, step, words)
        # Refused for anything else (a full disk, a store out of reach), its state is kept.
        if words and ended.code == USER_ERROR and runs.BEGUN_WITH_OTHER in (ended.line or ""):
            _clear(run)
            ended = _run_logged(run, step)
        if ended.code == INTERRUPTED or ended.code > STOPPED:
            raise KeyboardInterrupt
        if ended.code:
            break
    return ended


def _run_logged(run: StudyRun, step: str, words: Sequence[str] | None = None) -> _Ended:
    """Run a step of a run, by its words unless others are given; what it prints goes to the log."""
    mode = "wb" if step == "train" and words is None else "ab"
    with run.log.open(mode) as log:
        command = [*_program(step), *(words or run.command(step))]
        code = subprocess.run(  # noqa: S603
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
        ).returncode
    if code == 0:
        return _Ended(0, None)
    lines = run.log.read_text(encoding="utf-8", errors="replace").splitlines()
    spoken = [line.strip() for line in lines if line.strip()] or ["it printed nothing"]
    errors = [line.removeprefix("error: ") for line in spoken if line.startswith("error: ")]
    line = (errors or spoken)[-1]
    if code == -signal.SIGKILL:
        line = "ended by SIGKILL, as systems do that are out of memory"
    elif code < 0:
        line = f"ended by {signal.Signals(-code).name}"
    return _Ended(code, line)


def _clear(run: StudyRun) -> None:
    """Remove what an unfinished run left, which nothing can be made of."""
    if not run.folder.exists():
        return
    ours = not any(run.folder.iterdir()) or (run.folder / runs.CONFIG).is_file()
    if not ours:
        raise JobFailedError(f"{run.folder} is no run's folder: choose another study.out.")
    shutil.rmtree(run.folder)


def _program(step: str) -> Sequence[str]:
    return sys.executable, "-m", f"tissueseg.{step}"


def _environment() -> Mapping[str, str]:
    """Jobs that run side by side share the CPU cores."""
    beside = int(HydraConfig.get().launcher.get("n_jobs") or 1)
    if beside < 2:
        return dict(os.environ)
    threads = max((os.cpu_count() or 1) // beside, 1)
    return {"OMP_NUM_THREADS": str(threads)} | os.environ


def _tell(run: StudyRun, what: str) -> None:
    print(f"{run.arm} {run.label.replace('-', ' ').replace('_', ' ')}: {what}", flush=True)
