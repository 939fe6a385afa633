"""The best decoder is kept whatever ends a run; panels are drawn when they are due."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from PIL import Image

from tissueseg import assembly
from tissueseg.modules.callbacks import BestDecoder, Panels
from tissueseg.modules.checkpoint import load_decoder

MONITOR = "val/score"


class Epochs:
    """Validations of a made-up fit, and what was saved."""

    def __init__(self, module):
        self.saved = []
        self.best = BestDecoder(MONITOR, lambda _, epoch, score: self.saved.append((epoch, score)))
        self.module = module
        self.trainer = SimpleNamespace(
            sanity_checking=False, state=SimpleNamespace(fn="fit"), is_global_zero=True
        )

    def validate(self, epoch, score):
        self.trainer.current_epoch = epoch
        metrics = {} if score is None else {MONITOR: torch.tensor(score)}
        self.trainer.callback_metrics = metrics
        self.best.on_validation_end(self.trainer, self.module)

    def run(self, *scores):
        for epoch, score in enumerate(scores):
            self.validate(epoch, score)
        return [epoch for epoch, _ in self.saved]


@pytest.fixture
def epochs(fitted):
    return Epochs(fitted.module)


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([0.1, 0.3, 0.2, 0.4, 0.4], [0, 1, 3]),
        ([0.5, 0.4], [0]),
        ([math.nan, math.nan, 0.0, 0.1], [0, 2, 3]),
        ([0.2, math.nan, 0.3], [0, 2]),
        ([-1.0, -2.0], [0]),
        ([None, None], [0]),
    ],
)
def test_an_epoch_is_kept_when_it_is_the_best_so_far(epochs, scores, kept):
    assert epochs.run(*scores) == kept
    assert epochs.best.best_epoch == kept[-1]


def test_only_validations_of_a_fit_count(epochs):
    epochs.trainer.sanity_checking = True
    assert epochs.run(0.9) == []
    epochs.trainer.sanity_checking, epochs.trainer.state.fn = False, "validate"
    assert epochs.run(0.9) == []


def test_other_processes_write_nothing(epochs):
    epochs.trainer.is_global_zero = False
    assert epochs.run(0.1, 0.2) == []
    assert epochs.best.best_epoch == 1


def test_a_run_that_continues_knows_what_to_beat(epochs):
    epochs.run(0.1, 0.5)
    after = Epochs(epochs.module)
    after.best.load_state_dict(epochs.best.state_dict())
    after.validate(2, 0.4)
    after.validate(3, 0.6)
    assert after.saved == [(3, pytest.approx(0.6))]


def test_an_interruption_after_a_validation_keeps_the_best(epochs):
    epochs.run(0.5)
    epochs.best.on_exception(epochs.trainer, epochs.module, KeyboardInterrupt())
    assert len(epochs.saved) == 1


def test_a_fit_keeps_the_epoch_with_the_highest_score(fitted):
    curve = np.load(fitted.folder / "history.npz")[fitted.config.monitor]
    checkpoint = load_decoder(fitted.folder / "decoder.ckpt")
    assert checkpoint.epoch == np.nanargmax(curve) == fitted.best.best_epoch
    assert checkpoint.score == pytest.approx(np.nanmax(curve))


class Breaks(Callback):
    """Fails in the middle of the first epoch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        raise RuntimeError("the GPU fell out")


def test_a_run_that_breaks_before_its_first_validation_leaves_a_decoder(make_run):
    run = make_run()
    with pytest.raises(RuntimeError, match="the GPU fell out"):
        run.fit(Breaks())
    checkpoint = load_decoder(run.folder / "decoder.ckpt")
    assert checkpoint.epoch == 0
    assert math.isnan(checkpoint.score)
    trained = run.module.decoder.state_dict()
    assert all(torch.equal(trained[name], value) for name, value in checkpoint.state.items())


def test_panels_of_a_fit_are_pictures(fitted):
    paths = list((fitted.folder / "panels").iterdir())
    assert [path.name for path in paths] == ["b.png"]
    with Image.open(paths[0]) as picture:
        assert picture.mode == "RGB"
        assert picture.width > 3 * 64


def draws(every, epoch, fn="fit", sanity=False):
    panels = Panels({}, Path(), every)
    state = SimpleNamespace(fn=fn)
    return panels._due(SimpleNamespace(sanity_checking=sanity, state=state, current_epoch=epoch))


def test_panels_are_drawn_every_so_many_epochs_and_at_every_scoring():
    assert [epoch for epoch in range(9) if draws(3, epoch)] == [2, 5, 8]
    assert draws(3, 0, fn="validate")
    assert not draws(1, 0, sanity=True)


def test_panels_show_what_the_module_predicts(make_run):
    run = make_run("panels={count: 1, size_px: 48, every_n_epochs: 1}")
    panels = assembly.build_panels(run.config, run.data, run.folder / "panels")
    run.trainer([panels]).validate(run.module, run.data.val_dataloader(), verbose=False)
    (panel,) = panels._fields["val"]
    assert (panel.y, panel.x, panel.labels.shape) == (8, 8, (48, 48))
    whole = torch.zeros(64, 64, dtype=torch.long)
    run.module.eval()
    for batch in run.data.val_dataloader():
        with torch.no_grad():
            predicted = run.module(batch.image)["classes"].argmax(1)
        for tile, (y, x) in zip(predicted, batch.origin.tolist(), strict=True):
            whole[y : y + 32, x : x + 32] = tile
    np.testing.assert_array_equal(panel.maps["classes"], whole[8:56, 8:56])


def test_a_field_that_no_batch_reached_is_not_drawn(make_run):
    """limit_val_batches=1 stops before the second tissue."""
    run = make_run(
        "split={train: 1, val: 2, test: 0}",
        "panels.count=2",
        "trainer.limit_val_batches=1",
    )
    panels = assembly.build_panels(run.config, run.data, run.folder / "panels")
    run.trainer([panels]).validate(run.module, run.data.val_dataloader(), verbose=False)
    assert [path.name for path in (run.folder / "panels").iterdir()] == ["b.png"]


def test_each_side_s_pass_draws_its_own_tissues(make_run):
    """Both sides count their tissues from 0."""
    run = make_run("panels={count: 1, size_px: 48, every_n_epochs: 1}")
    folder = run.folder / "panels"
    panels = assembly.build_panels(run.config, run.data, folder, ("val", "test"))
    trainer = run.trainer([panels])
    trainer.validate(run.module, datamodule=run.data, verbose=False)
    assert [path.name for path in folder.iterdir()] == ["b.png"]
    (val,), (test,) = panels._fields["val"], panels._fields["test"]
    before = val.maps["classes"].copy()
    assert not test.maps
    trainer.test(run.module, datamodule=run.data, verbose=False)
    assert sorted(path.name for path in folder.iterdir()) == ["b.png", "c.png"]
    np.testing.assert_array_equal(val.maps["classes"], before)
    whole = torch.zeros(64, 64, dtype=torch.long)
    run.module.eval()
    for batch in run.data.test_dataloader():
        with torch.no_grad():
            predicted = run.module(batch.image)["classes"].argmax(1)
        for tile, (y, x) in zip(predicted, batch.origin.tolist(), strict=True):
            whole[y : y + 32, x : x + 32] = tile
    np.testing.assert_array_equal(test.maps["classes"], whole[8:56, 8:56])


def test_a_fit_reads_no_test_tissue_for_its_panels(make_run):
    run = make_run()
    assert list(assembly.build_panels(run.config, run.data, run.folder)._fields) == ["val"]


def test_a_side_without_tissues_has_no_panels(make_run):
    run = make_run("split={train: 1, val: 2, test: 0}")
    panels = assembly.build_panels(run.config, run.data, run.folder, ("val", "test"))
    assert list(panels._fields) == ["val"]


def test_panels_hold_their_fields_and_nothing_else(make_run):
    """Memory of a pass is that of the fields, however many tiles go by."""
    run = make_run("split={train: 1, val: 2, test: 0}", "panels.count=1", "panels.size_px=16")
    panels = assembly.build_panels(run.config, run.data, run.folder / "panels")
    run.trainer([panels]).validate(run.module, datamodule=run.data, verbose=False)
    (panel,) = panels._fields["val"]
    assert {values.nbytes for values in panel.maps.values()} == {16 * 16}
