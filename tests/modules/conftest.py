from __future__ import annotations

from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from rich.console import Console
from stores import (
    TINY,
    compose,
    three_tissues,
    write_store,
)

from tissueseg import assembly, preflight
from tissueseg.features import open_features
from tissueseg.modules.callbacks import BestDecoder
from tissueseg.modules.history import History
from tissueseg.store.tissues import TissueStore
from tissueseg.trainer import build_trainer


class TinyRun:
    """Everything of a run on the synthetic store but the command around it."""

    def __init__(self, store: TissueStore, folder: Path, *overrides: str) -> None:
        self.folder, self.store = folder, store
        self.config = compose(*TINY, "+experiment=boundary_att", "epochs=2", *overrides)
        preflight.check(self.config)
        split = assembly.open_split(self.config, store)
        features = open_features(self.config, store, split)
        self.data = assembly.open_data(self.config, store, split, features)
        preflight.settle_class_weights(self.config, self.data)
        torch.manual_seed(self.config.seed)
        self.module = assembly.build_module(self.config, features, self.data)
        self.history = History(folder)
        save = assembly.keep_decoder(self.config, self.data, self.module, folder / "decoder.ckpt")
        self.best = BestDecoder(self.config.monitor, save)

    def trainer(self, callbacks: Sequence[Callback]) -> Trainer:
        return build_trainer(self.config, Console(file=StringIO()), callbacks)

    def fit(self, *more: Callback, ckpt_path: Path | None = None) -> Trainer:
        trainer = self.trainer([self.best, *more, self.history])
        trainer.fit(self.module, datamodule=self.data, ckpt_path=ckpt_path)
        return trainer


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    return write_store(tmp_path_factory.mktemp("modules") / "s.zarr", three_tissues())


@pytest.fixture
def make_run(store: TissueStore, tmp_path: Path) -> Callable[..., TinyRun]:
    def make(*overrides: str, folder: str = "run", **changes: Any) -> TinyRun:
        (tmp_path / folder).mkdir()
        return TinyRun(changes.get("store", store), tmp_path / folder, *overrides)

    return make


@pytest.fixture(scope="package")
def fitted(store: TissueStore, tmp_path_factory: pytest.TempPathFactory) -> TinyRun:
    """A run of two epochs that has ended well, with panels; only to be looked at."""
    run = TinyRun(store, tmp_path_factory.mktemp("fitted"))
    run.last = run.fit(assembly.build_panels(run.config, run.data, run.folder / "panels"))
    return run
