"""`python -m tissueseg.pretrain`: stores of images in, labelled or not, and a learned encoder out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from tissueseg.command import run_command
from tissueseg.job import Job, in_ranks
from tissueseg.store.processes import end_with_starter
from tissueseg.sweep import start_apart

if TYPE_CHECKING:
    from tissueseg.pretraining_parts import PretrainingParts
    from tissueseg.run_folder import Folder


def pretrain(config: DictConfig) -> None:
    """Check, open, fit, leave the encoder and its scores; in as many processes as there are devices."""
    in_ranks("pretrain", config, _run)


def _run(job: Job) -> int:
    """Open and train; the exit code if it was stopped, else 0."""
    from tissueseg.pretraining_job import Pretraining
    from tissueseg.pretraining_parts import open_parts

    opened = partial(open_parts, job.config, job.named, job.rank, job.console)
    return job.run(opened, Pretraining, partial(_announce, job), _next_steps)


def _announce(job: Job, parts: PretrainingParts, folder: Folder) -> None:
    parameters = sum(p.numel() for p in parts.module.autoencoder.parameters()) / 1e6
    job.console.print(
        f"[bold]{parts.name}[/bold]: encoder and decoder of {parameters:.2f} M parameters"
    )
    for store, split in zip(parts.stores, parts.splits, strict=True):
        said = f"{len(split.train)} train, {len(split.val)} val"
        said += f", {len(split.test)} test left alone" if split.test else ""
        job.say(f"store: {store.address} (tissues: {said})")
    job.say(f"{len(parts.data.train)} training tiles of {parts.config.data.tile_px} px")
    job.say(f"run folder: {folder.path}")
    for line in (*parts.notes, *folder.notes):
        job.say(line)


def _next_steps(parts: PretrainingParts, folder: Path, stopped: bool) -> Iterable[str]:
    if stopped:
        return
    name = parts.module.autoencoder.encoder.spec.name
    words = f"encoder={name} encoder.random_init=false encoder.weights={folder}/encoder.safetensors"
    yield "an encoder for training, evaluation and prediction:"
    yield f"  python -m tissueseg.train {words}"


if __name__ == "__main__":
    end_with_starter()
    run_command("pretrain", pretrain, start_apart)
