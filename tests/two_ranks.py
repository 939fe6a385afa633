"""Training by two processes, to be run by itself: each writes which tiles it was given.

Arguments: the store, and the folder that takes `<rank>.json`: side -> epoch -> (tissue, row, column).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch
from stores import TINY, compose

from tissueseg import assembly, preflight
from tissueseg.building import build
from tissueseg.features import FeatureSource


class Recorder(pl.LightningModule):
    """Learns nothing; its BatchNorm has statistics that processes share, as decoders do."""

    def __init__(self, out: Path) -> None:
        super().__init__()
        self.norm, self._out = torch.nn.BatchNorm2d(3), out
        self._seen = {"train": [[], []], "val": [[], []]}

    def training_step(self, batch, batch_idx):
        self._note("train", batch)
        return self.norm(batch.image).mean()

    def validation_step(self, batch, batch_idx):
        self._note("val", batch)
        self.norm(batch.image)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

    def on_fit_end(self):
        (self._out / f"{self.global_rank}.json").write_text(json.dumps(self._seen))

    def _note(self, side, batch):
        places = torch.cat([batch.tissue[:, None], batch.origin], 1)
        self._seen[side][self.current_epoch] += places.tolist()


def main(store: str, out: str) -> None:
    """Fit for two epochs, as `train` would."""
    words = (*TINY, f"store.path={store}", "modality=he", "epochs=2", "data.batch_size=4")
    config = compose(*words, "trainer.devices=2", "+trainer.strategy=ddp_fork")
    spec = preflight.check(config)
    opened = assembly.open_store(config, None)
    split = assembly.open_split(config, opened)
    data = assembly.open_data(config, opened, split, FeatureSource(spec, None, None))
    trainer = build(
        config.trainer,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        sync_batchnorm=False,  # torch's refuses a CPU
    )
    trainer.fit(Recorder(Path(out)), datamodule=data)


if __name__ == "__main__":
    main(*sys.argv[1:])
