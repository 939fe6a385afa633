"""One pre-training in its folder: the fit, the encoder it leaves, and how well markers are told."""

from __future__ import annotations

import csv
import json
import math
from functools import partial
from typing import Any

import torch
from lightning.pytorch.loggers import WandbLogger
from rich.table import Table
from safetensors.torch import save_file

from tissueseg.data.image_tiles import ImageBatch, collate_images
from tissueseg.devices import autocast_of, own_device
from tissueseg.fitting import Fitting
from tissueseg.modules.cost import Cost
from tissueseg.modules.history import History
from tissueseg.modules.marker_scores import MarkerScore, MarkerTally
from tissueseg.modules.reconstructions import Reconstructions
from tissueseg.pretraining_parts import PretrainingParts
from tissueseg.reporting import runs

MARKERS = "markers.csv"
_AT_A_TIME = 8  # tiles that are scored at once


class Pretraining(Fitting[PretrainingParts]):
    """A pre-training that may begin, or go on."""

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

    def _score(self) -> bool:
        """Leave the encoder, and say how well it fills in; whether it was stopped."""
        stopped = False
        if self.group.leads:
            self._keep_encoder()
            scores = self._marker_scores()
            stopped = scores is None
            if scores is not None:
                self._tell(scores)
        return bool(self.group.highest(int(stopped))) and self._is_told_to_stop()

    def _marker_scores(self) -> list[MarkerScore] | None:
        """Tell markers of held-out tiles from all others, on one device; None: it was stopped."""
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
            if self.signals.heard:
                return None
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
