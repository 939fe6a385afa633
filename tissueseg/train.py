"""`python -m tissueseg.train`: a store and a composition in, a decoder with its numbers out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from tissueseg.command import run_command
from tissueseg.job import Job, in_ranks
from tissueseg.options import builtin_encoders
from tissueseg.store.processes import end_with_starter
from tissueseg.study_checks import check_single
from tissueseg.sweep import start_apart

if TYPE_CHECKING:
    from tissueseg.run_folder import Folder
    from tissueseg.training_parts import Parts


def train(config: DictConfig) -> None:
    """Check, open, fit, score the best epoch, report; in as many processes as there are devices."""
    check_single(config)
    in_ranks("train", config, _run)


def _run(job: Job) -> int:
    """Open and train; the exit code if it was stopped, else 0."""
    from tissueseg.training import Training
    from tissueseg.training_parts import open_parts

    opened = partial(open_parts, job.config, job.named, job.group, job.rank, job.console)
    return job.run(opened, Training, partial(_announce, job), _next_steps)


def _announce(job: Job, parts: Parts, folder: Folder) -> None:
    data, module = parts.data, parts.module
    sides = ", ".join(f"{len(t)} {side}" for side, t in data.split._asdict().items() if t)
    parameters = sum(p.numel() for p in module.decoder.parameters()) / 1e6
    job.console.print(f"[bold]{parts.name}[/bold]: decoder of {parameters:.2f} M parameters")
    job.console.print(f"store: {data.store.address} (tissues: {sides})", soft_wrap=True)
    job.console.print(f"run folder: {folder.path}", soft_wrap=True)
    for line in (*parts.notes, *folder.notes, *module.describe()):
        job.say(line)
    for part in (part for part in module.spec.parts or (module.spec,) if part.random_init):
        job.warn(
            f"encoder={part.name} has random weights and has learnt nothing: these scores say what the "
            "decoder makes of the image, not what an encoder is worth"
        )
    for part in builtin_encoders(parts.config):
        job.warn(
            f"{part} has learnt from drawn tissue alone: weights that have seen real tissue are given "
            "with encoder=… encoder.weights=…"
        )
    for line in (*data.describe_scaling(), *data.describe_augmentation(), *data.sampling.notes):
        job.warn(line)


def _next_steps(_: Parts, folder: Path, stopped: bool) -> Iterable[str]:
    if stopped:
        yield "or score the best decoder so far with"
        yield f"  python -m tissueseg.evaluate run={folder}"
        return
    yield "cells of whole tissues, and their scores:"
    for command in ("predict", "evaluate"):
        yield f"  python -m tissueseg.{command} run={folder}"


def main() -> None:
    """The command: a training here, or each one of a sweep in a process of its own."""
    end_with_starter()
    run_command("train", train, start_apart)


if __name__ == "__main__":
    main()
