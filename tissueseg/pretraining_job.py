"""One pre-training in its folder: the fit, the encoder it leaves, and how well markers are told."""

from __future__ import annotations

import csv
import json
import math
import signal
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, WandbLogger
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from tissueseg import assembly
from tissueseg.command import INTERRUPTED, STOPPED
from tissueseg.data.image_tiles import ImageBatch, collate_images
from tissueseg.devices import autocast_of, own_device
from tissueseg.modules.cost import Cost
from tissueseg.modules.group import Group
from tissueseg.modules.history import History
from tissueseg.modules.marker_scores import MarkerScore, MarkerTally
from tissueseg.modules.reconstructions import Reconstructions
from tissueseg.modules.resumption import Resumption, Signals
from tissueseg.modules.state_files import StateFiles
from tissueseg.pretraining_parts import PretrainingParts
from tissueseg.reporting import runs
from tissueseg.run_folder import Folder

if TYPE_CHECKING:
    from tissueseg.ranks import Rank

MARKERS = "markers.csv"
_AT_A_TIME = 8  # tiles that are scored at once


@dataclass(frozen=True)
class Pretraining:
    """A pre-training that may begin, or go on.

    Args:
        parts: opened and checked.
        folder: that this job holds.
        loggers: beside `metrics.csv`.
        console: quiet in all processes but the first.
        rank: of this process; None: it is alone.
        group: of the processes that train together.
        signals: that stop it.
    """

    parts: PretrainingParts
    folder: Folder
    loggers: list[Logger]
    console: Console
    rank: Rank | None
    group: Group
    signals: Signals

    def run(self) -> int:
        """Train and score; the exit code if it was stopped, else 0."""
        stopped = self._fit()
        if not stopped and self.group.leads:
            self._keep_encoder()
            self._tell(self._score())
        self.group.highest(0)  # the others wait for the first
        if not stopped:
            return 0
        heard = self.signals.heard
        return INTERRUPTED if heard in (None, signal.SIGINT) else STOPPED + heard

    def _fit(self) -> bool:
        """Train; whether it was stopped."""
        config = self.parts.config
        states = StateFiles(self.folder.path / runs.STATE)
        every_s = config.state.every_s
        resumption = Resumption(states, self.signals, config.seed, self.group, every_s)
        trainer = assembly.build_trainer(
            config,
            self.console,
            [*self._callbacks(), resumption],
            self.loggers,
            rank=self.rank,
            states=states,
        )
        data, state = self.parts.data, self.folder.state
        with runs.disk_errors(self.folder.path):
            _fit(trainer, self.parts.module, data, state)
        return resumption.stopped or trainer.interrupted

    def _callbacks(self) -> list[Any]:
        parts, path = self.parts, self.folder.path
        config, encoder = parts.config, parts.module.autoencoder.encoder
        found: list[Any] = [
            Cost(partial(runs.write_json, path / runs.COST), self.group),
            History(path, echo=not self.console.is_terminal),
        ]
        if parts.data.val is None or not config.panels.count:
            return found
        pictures = Reconstructions(
            parts.data.val,
            config.panels.count,
            path / runs.PANELS,
            config.panels.every_n_epochs,
            None if parts.vocabulary.vectors is None else parts.vocabulary.names,
            encoder.spec.normalisation,
        )
        return [pictures, *found]

    def _keep_encoder(self) -> None:
        """Write encoder and decoder as they are after the last epoch, whole or not at all."""
        path = self.folder.path / runs.ENCODER
        spec = self.parts.module.autoencoder.encoder.spec
        scaled = spec.normalisation
        about = {
            "transformations.normalize.mean": list(scaled.he_mean),
            "transformations.normalize.std": list(scaled.he_std),
            "trained_by": "tissueseg.pretrain",
            "mpp": spec.mpp,
            "epochs": self.parts.config.epochs,
        }
        told = {"config": json.dumps(about)}  # of several keys, safetensors draws the order
        kept = self.parts.config.kept
        tensors = {
            name: tensor.to(getattr(torch, kept.dtype)).contiguous()
            for name, tensor in self.parts.module.autoencoder.tensors().items()
            if kept.decoder or not name.startswith("decoder.")
        }
        with runs.disk_errors(self.folder.path), runs.written_whole(path) as partial_path:
            save_file(tensors, partial_path, told)

    def _score(self) -> list[MarkerScore]:
        """Tell markers of held-out tiles from all others, on this process's device."""
        tiles, parts = self.parts.data.val, self.parts
        tally = MarkerTally(parts.vocabulary.names)
        count = min(parts.config.score_tiles, 0 if tiles is None else len(tiles))
        if tiles is None or not count:
            return []
        device = own_device(parts.config)
        autoencoder = parts.module.autoencoder.to(device).eval()
        chosen = torch.linspace(0, len(tiles) - 1, count).round().long().tolist()
        autocast = autocast_of(parts.config.trainer.precision)
        for start in range(0, count, _AT_A_TIME):
            batch = collate_images([tiles[i] for i in chosen[start : start + _AT_A_TIME]])
            batch = ImageBatch(*(part.to(device) for part in batch))
            with (
                torch.no_grad(),
                torch.autocast(device.type, autocast, enabled=autocast is not None),
            ):
                tally.add(autoencoder.guesses(batch))
        return tally.scores()

    def _tell(self, scores: list[MarkerScore]) -> None:
        """Leave the scores, show them, and send them to trackers."""
        path, rows = self.folder.path, [score.row() for score in scores]
        if rows:
            with (
                runs.written_whole(path / MARKERS) as partial_path,
                partial_path.open("w", newline="") as f,
            ):
                writer = csv.DictWriter(f, rows[0].keys())
                writer.writeheader()
                writer.writerows(rows)
        summary = {f"val/correlation/{s.marker}": s.row()["correlation"] for s in scores}
        summary["val/correlation/mean"] = mean(s.correlation for s in scores)
        summary["val/correlation_baseline/mean"] = mean(s.baseline for s in scores)
        runs.write_json(path / runs.METRICS, {"name": self.parts.name, **summary, "markers": rows})
        if rows:
            self.console.print(marker_table(scores))
        for logger in self.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.summary.update(summary)
                logger.experiment.finish()
            else:
                logger.finalize("success")


def _fit(trainer: Trainer, module: Any, data: Any, state: Any) -> None:
    """Lightning ends an interrupted fit as it would end a program."""
    try:
        trainer.fit(module, datamodule=data, ckpt_path=state, weights_only=True)
    except SystemExit:
        if not trainer.interrupted:
            raise


def mean(values: Any) -> float | None:
    """Of those that are defined; None without any."""
    found = [value for value in values if not math.isnan(value)]
    return sum(found) / len(found) if found else None


def marker_table(scores: list[MarkerScore]) -> Table:
    """What was filled in against what is there, by marker."""
    table = Table(title="held-out tissues: what was filled in, against what is there (pixels)")
    table.add_column("marker")
    for name in ("correlation", "of the others' mean", "variance explained"):
        table.add_column(name, justify="right")
    for score in scores:
        numbers = (score.correlation, score.baseline, score.explained)
        table.add_row(score.marker, *("-" if math.isnan(n) else f"{n:.3f}" for n in numbers))
    return table
