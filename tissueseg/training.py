"""One training in its folder: the fit, and the scores of the decoder it kept."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import EarlyStopping

from tissueseg import assembly
from tissueseg.fitting import Fitting, interruptible
from tissueseg.modules.averaging import Averaging
from tissueseg.modules.callbacks import BestDecoder
from tissueseg.modules.checkpoint import AS_LOADED, DecoderCheckpoint, load_decoder
from tissueseg.modules.cost import Cost
from tissueseg.modules.history import History
from tissueseg.modules.resumption import StopsScoring
from tissueseg.modules.scoring import PixelCalibration, StudyDice, count
from tissueseg.modules.tracking import close_tracking
from tissueseg.reporting import runs
from tissueseg.reporting.outcomes import outcome_of
from tissueseg.reporting.scores import run_metrics, side_scores
from tissueseg.reporting.tables import class_table
from tissueseg.trainer import build_trainer
from tissueseg.training_parts import Parts

_SHOWN = ("val", "test")


class Training(Fitting[Parts]):
    """A training that may begin, or go on."""

    def _fit(self) -> bool:
        """Train; whether it was stopped."""
        if self.parts.config.epochs:
            return super()._fit()
        self._keep_decoder(self.parts.module, AS_LOADED, math.nan)
        return False

    def _score(self) -> bool:
        """Score the kept decoder, not the last one; whether it was stopped."""
        config, module, data = self.parts.config, self.parts.module, self.parts.data
        self.group.highest(0)  # the first process has written it
        checkpoint = load_decoder(self.folder.path / runs.DECODER)
        checkpoint.restore(module.decoder, module.encoder)
        study = StudyDice(len(checkpoint.scored_classes), config.data.batch_size)
        calibration = PixelCalibration()
        panels = assembly.build_panels(config, data, self._panels, _SHOWN, self.group)
        # Several take different numbers of batches: they stop together, between two sides.
        stops = [StopsScoring(self.signals)] if self.group.of == 1 else []
        callbacks = [*stops, panels, study, calibration]
        trainer = build_trainer(config, self.console, callbacks, every_tile=True, rank=self.rank)
        sides = {}
        for side in (side for side in _SHOWN if getattr(data.split, side)):
            if self._is_told_to_stop():
                return True
            with interruptible(trainer):
                counts = count(trainer, module, data, side)
            if trainer.interrupted:
                return True
            sides[side] = side_scores(counts, getattr(data.split, side), checkpoint.train_pixels)
            sides[side] |= {"study": study.scores(), "calibration": calibration.scores()}
            if self.group.leads:
                runs.save_confusion(self.folder.path, side, counts)
        if self.group.leads:
            self._tell(checkpoint, sides)
        return False

    def _tell(self, checkpoint: DecoderCheckpoint, sides: dict[str, Any]) -> None:
        """Leave the scores, show them, and send them to trackers."""
        about = checkpoint.about(self.parts.config.name)
        runs.write_json(self.folder.path / runs.METRICS, run_metrics(about, sides))
        self.console.print(class_table(about, sides))
        stored = self.parts.features
        outcome = outcome_of(self.folder.path, checkpoint, about, sides, stored)
        close_tracking(self.loggers, outcome)

    def _callbacks(self) -> list[Any]:
        """What happens around the fit, in this order; the average is the last to see a validation."""
        config, path = self.parts.config, self.folder.path
        callbacks = [
            Cost(partial(runs.write_json, path / runs.COST), self.group),
            BestDecoder(config.monitor, self._keep_decoder),
            EarlyStopping(config.monitor, mode="max", patience=config.patience, check_finite=False),
            assembly.build_panels(config, self.parts.data, self._panels, group=self.group),
            History(path, echo=not self.console.is_terminal),
        ]
        return callbacks if config.ema is None else [*callbacks, Averaging(config.ema)]

    @property
    def _keep_decoder(self) -> Any:
        path = self.folder.path / runs.DECODER
        return assembly.keep_decoder(self.parts.config, self.parts.data, self.parts.module, path)

    @property
    def _panels(self) -> Path:
        return self.folder.path / runs.PANELS
