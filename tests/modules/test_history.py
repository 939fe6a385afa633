"""`metrics.csv` and `history.npz`: every epoch, exact, and the same for equal runs."""

import csv
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tissueseg.modules.history import History


class Epochs:
    """Ends of epochs, without a fit."""

    def __init__(self, folder, **options):
        folder.mkdir(exist_ok=True)
        self.folder, self.history = folder, History(folder, **options)

    def end(self, epoch, **metrics):
        trainer = SimpleNamespace(
            callback_metrics={k.replace("__", "/"): torch.tensor(v) for k, v in metrics.items()},
            optimizers=[SimpleNamespace(param_groups=[{"lr": 0.5 / (1 + epoch)}])],
            current_epoch=epoch,
            max_epochs=9,
            is_global_zero=True,
        )
        self.history.on_train_epoch_start(trainer, None)
        self.history.on_train_epoch_end(trainer, None)

    def rows(self):
        with (self.folder / "metrics.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def columns(self):
        with np.load(self.folder / "history.npz") as stored:
            return dict(stored)


@pytest.fixture
def epochs(tmp_path):
    return Epochs(tmp_path / "run")


def test_a_row_per_epoch_as_soon_as_it_ends(epochs):
    epochs.end(0, train__loss=0.1, val__loss=2.0)
    assert epochs.rows() == [
        {"epoch": "0", "lr": "0.5", "train/loss": repr(float(torch.tensor(0.1))), "val/loss": "2.0"}
    ]
    epochs.end(1, train__loss=0.05, val__loss=1.0)
    assert [row["epoch"] for row in epochs.rows()] == ["0", "1"]
    np.testing.assert_array_equal(epochs.columns()["lr"], [0.5, 0.25])
    assert {path.name for path in epochs.folder.iterdir()} == {"metrics.csv", "history.npz"}


def test_what_is_undefined_is_an_empty_cell_and_nan(epochs):
    epochs.end(0, val__dice=math.nan)
    epochs.end(1, val__dice=0.25, val__late=1.0)
    assert [row["val/dice"] for row in epochs.rows()] == ["", "0.25"]
    assert [row["val/late"] for row in epochs.rows()] == ["", "1.0"]
    np.testing.assert_array_equal(epochs.columns()["val/dice"], [math.nan, 0.25])
    np.testing.assert_array_equal(epochs.columns()["val/late"], [math.nan, 1.0])


def test_a_run_that_continues_keeps_its_rows(epochs, tmp_path):
    epochs.end(0, val__dice=0.5)
    after = Epochs(tmp_path / "after")
    after.history.load_state_dict(epochs.history.state_dict())
    after.end(1, val__dice=0.75)
    assert [(row["epoch"], row["val/dice"]) for row in after.rows()] == [
        ("0", "0.5"),
        ("1", "0.75"),
    ]
    assert len(epochs.rows()) == 1
    assert len(epochs.history.state_dict()["rows"]) == 1


def test_a_line_per_epoch_for_logs(tmp_path, capsys):
    Epochs(tmp_path / "run", echo=True).end(2, train__loss=0.5, val__loss=0.25, other=1.0)
    said = capsys.readouterr().out
    assert said.startswith("epoch 3/9  train/loss 0.5000  val/loss 0.2500")
    assert said.count("\n") == 1


def test_quiet_unless_asked(epochs, capsys):
    epochs.end(0, train__loss=0.5)
    assert capsys.readouterr().out == ""


def test_equal_runs_write_equal_files(fitted, make_run):
    again = make_run()
    again.fit()
    one, two = ((run.folder / "metrics.csv").read_bytes() for run in (fitted, again))
    assert one == two
    other = make_run("seed=1", folder="other")
    other.fit()
    assert (other.folder / "metrics.csv").read_bytes() != one


def test_a_fit_s_rows(fitted):
    stored = np.load(fitted.folder / "history.npz")
    rate = fitted.config.optim.optimizer.lr
    assert stored["epoch"].tolist() == [0, 1]
    assert stored["lr"][0] == pytest.approx(rate)  # of the epoch, not of the next
    assert stored["lr"][1] == pytest.approx((rate + 1e-6) / 2)  # half of the cosine
    assert np.isfinite(stored["train/loss"]).all()
    assert np.isfinite(stored["val/loss"]).all()
    assert not np.array_equal(stored["val/loss"][:1], stored["val/loss"][1:])


def test_the_curves_that_the_study_kept_are_there(fitted):
    with np.load(fitted.folder / "history.npz") as stored:
        curves = {n: stored[n] for n in ("train/loss", "val/loss", "val/dice/macro_foreground")}
        assert stored["epoch"].shape == (2,)
    assert all(curve.shape == (2,) for curve in curves.values())
    assert all(np.isfinite(curve).all() for curve in curves.values())
