"""The module: it counts what the datamodule yields and logs scores of the whole side."""

import numpy as np
import pytest
import torch

from tissueseg.contracts import IGNORE
from tissueseg.errors import FeatureOverflowError
from tissueseg.metrics.semantic import semantic_scores
from tissueseg.modules.scoring import count


def test_a_fit_logs_the_loss_and_the_pooled_scores_of_every_class(fitted):
    logged = set(fitted.last.callback_metrics)
    names = [c.name for c in fitted.store.classes]
    for stage in ("train", "val"):
        assert {f"{stage}/loss"} | {f"{stage}/loss/{t}" for t in fitted.config.loss.terms} <= logged
    macros = ("macro", "macro_foreground")
    scores = {f"val/{kind}/{n}" for kind in ("dice", "iou") for n in (*names, *macros)}
    assert scores <= logged


@pytest.mark.parametrize("side", ["val", "test"])
def test_scores_are_those_of_a_pass_by_hand(fitted, side):
    trainer = fitted.trainer([])
    counts = count(trainer, fitted.module, fitted.data, side)
    n = len(fitted.store.classes)
    expected = np.zeros((1, n, n), int)
    fitted.module.eval()
    for batch in getattr(fitted.data, f"{side}_dataloader")():
        with torch.no_grad():
            predicted = fitted.module(batch.image)["classes"].argmax(1)
        kept = batch.classes != IGNORE
        np.add.at(expected[0], (batch.classes[kept].numpy(), predicted[kept].numpy()), 1)
    np.testing.assert_array_equal(counts, expected)
    assert counts.sum() == 64 * 64
    scores = semantic_scores(counts.sum(0))
    logged = trainer.callback_metrics
    assert logged[f"{side}/dice/macro_foreground"] == pytest.approx(scores.macro_dice_foreground)
    assert logged[f"{side}/iou/tumor"] == pytest.approx(scores.iou[1])


def test_a_second_pass_starts_from_nothing(fitted):
    once, twice = (count(fitted.trainer([]), fitted.module, fitted.data, "val") for _ in range(2))
    np.testing.assert_array_equal(once, twice)


def test_scoring_does_not_hang_on_the_batch_size(fitted, make_run):
    other = make_run("data.batch_size=3", "data.eval_edge=shift", "data.tile_px=32")
    other.module.load_state_dict(fitted.module.state_dict())
    one, two = (count(r.trainer([]), r.module, r.data, "val") for r in (fitted, other))
    np.testing.assert_array_equal(one, two)


def test_only_the_decoder_is_optimised_and_its_rate_follows_the_schedule(make_run):
    module = make_run("optim.scheduler.period=4").module
    set_up = module.configure_optimizers()
    given = {id(p) for group in set_up["optimizer"].param_groups for p in group["params"]}
    assert given == {id(p) for p in module.decoder.parameters()}
    assert set_up["lr_scheduler"]["interval"] == "epoch"


def test_weights_between_heads_learn_without_decay(make_run):
    run = make_run("loss.uncertainty=true", "epochs=1")
    decoder, between = run.module.configure_optimizers()["optimizer"].param_groups
    assert {id(p) for p in between["params"]} == {id(p) for p in run.module.loss.parameters()}
    assert (decoder["weight_decay"] > 0, between["weight_decay"]) == (True, 0)
    assert between["lr"] == decoder["lr"]
    run.fit()
    assert all(bool(p != 0) for p in run.module.loss.parameters())


def test_training_goes_on_from_a_lightning_checkpoint(make_run, store):
    """Strict loading without the encoder's keys, rows that continue, and the same end."""
    first = make_run("epochs=1", "optim.scheduler.period=9", folder="first")
    first.fit().save_checkpoint(first.folder / "last.ckpt")
    stored = torch.load(first.folder / "last.ckpt", weights_only=True)["state_dict"]
    assert stored
    assert all(name.startswith(("decoder.", "means.")) for name in stored)

    resumed = make_run("optim.scheduler.period=9", folder="resumed")
    resumed.fit(ckpt_path=first.folder / "last.ckpt")
    rows = (resumed.folder / "metrics.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "0", "1"]
    assert rows[:2] == (first.folder / "metrics.csv").read_text().splitlines()
    assert resumed.best.best_epoch in (0, 1)
    assert resumed.best.best_score >= first.best.best_score


def test_an_encoder_that_learns_goes_on_from_a_lightning_checkpoint(make_run):
    words = ("finetune.lora=2", "finetune.lr_factor=1", "optim.scheduler.period=2")
    whole, first = make_run(*words), make_run(*words, "epochs=1", folder="first")
    whole.fit()
    first.fit().save_checkpoint(first.folder / "last.ckpt")
    stored = torch.load(first.folder / "last.ckpt", weights_only=True)["state_dict"]
    kept = {name for name in stored if name.startswith("encoder.")}
    assert kept == {n for n in first.module.learning() if n.startswith("encoder.")} != set()
    resumed = make_run(*words, folder="resumed")
    resumed.fit(ckpt_path=first.folder / "last.ckpt")
    rows = [(run.folder / "metrics.csv").read_text() for run in (whole, resumed)]
    assert rows[0] == rows[1]


def test_batch_norm_of_the_decoder_is_frozen_when_scoring(fitted):
    before = {name: value.clone() for name, value in fitted.module.state_dict().items()}
    count(fitted.trainer([]), fitted.module, fitted.data, "test")
    after = fitted.module.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_features_that_are_not_finite_stop_the_run_and_name_the_tile(make_run):
    module = make_run().module
    batch = next(iter(make_run(folder="other").data.val_dataloader()))
    spoilt = batch._replace(image=batch.image.clone())
    spoilt.image[2, 0, 5, 5] = float("inf")
    y, x = batch.origin[2].tolist()
    with pytest.raises(FeatureOverflowError, match=rf"tissue b, tile at row {y}, column {x}.*bf16"):
        module.validation_step(spoilt, 0)
