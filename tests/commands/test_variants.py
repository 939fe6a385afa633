"""Decoder variants through the command: chosen by one word, warmed up, scored on equal terms."""

import csv
import re

import pytest
import torch
from omegaconf import OmegaConf
from stores import TINY

from tissueseg.modules.checkpoint import load_decoder

FAST = (*TINY, "store.demo={tissues: 3, size_px: 128}", "epochs=4", "trainer.limit_train_batches=2")


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_alpha_is_warmed_up_over_the_first_part_of_training_and_kept(command, tmp_path):
    run = tmp_path / "run"
    options = ("decoder=boundary_att", "decoder.boundary_attention.warmup=0.5", f"run_dir={run}")
    assert command("train", *FAST, *options).code == 0
    checkpoint = load_decoder(run / "decoder.ckpt")
    last_step = 2 * (checkpoint.epoch + 1) - 1  # of the best epoch, from 0
    assert checkpoint.state["boundary_attention.alpha"].item() == pytest.approx(
        min(1.0, last_step / 8 / 0.5)
    )
    assert command("evaluate", f"run={run}").code == 0
    terms = {"train/loss/ce", "train/loss/dice", "train/loss/boundary_att"}
    assert terms < set(rows(run)[0])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("+decoder/slots@decoder=[global_context,boundary]",), "baseline+global_context+boundary"),
        (("decoder=boundary", "+decoder/slots@decoder=global_context"), "boundary+global_context"),
        (("+experiment=boundary_att", "decoder=masked_attention"), "masked_attention"),
        (("+decoder/slots@decoder=global_context", "name=mine"), "mine"),
    ],
)
def test_a_run_is_called_what_it_is_made_of(command, tmp_path, monkeypatch, words, name):
    monkeypatch.chdir(tmp_path)
    few = [word for word in FAST if not word.startswith("name=")]
    done = command("train", *few, "epochs=1", "trainer.limit_train_batches=1", *words)
    assert done.code == 0, done.err
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith(f"{name}-he_sp-")
    assert OmegaConf.load(next(folder.glob("*/config.yaml"))).name == name


def test_nuclei_alone_are_trained_scored_drawn_and_evaluated(command, tmp_path):
    run = tmp_path / "run"
    done = command("train", *FAST, "decoder=instance", f"run_dir={run}", "panels.every_n_epochs=4")
    assert done.code == 0, done.err
    assert "nucleus" in done.out
    assert "tumor" not in done.out
    assert {"val/dice/nucleus", "val/loss/hv_mse"} < set(rows(run)[0])
    assert list((run / "panels").glob("*.png"))
    again = command("evaluate", f"run={run}", "side=test")
    assert again.code == 0, again.err
    assert "nucleus" in again.out


@pytest.mark.parametrize(
    "spoilt", ["loss.terms.dice.weight=1e38", "optim.optimizer.lr=1e30"], ids=["loss", "rate"]
)
def test_a_loss_that_is_not_finite_ends_the_run_and_no_such_decoder_is_kept(
    command, tmp_path, spoilt
):
    """Class 0 everywhere, which is what NaN amounts to, would be scored as if it were a result."""
    run = tmp_path / "run"
    more = ("loss.terms.ce.weight=1e38",) if "dice" in spoilt else ()
    done = command("train", *FAST, spoilt, *more, "loss=ce_dice", f"run_dir={run}")
    assert done.code == 2
    assert re.search(
        r"^error: (train|val)/loss is (nan|inf) in epoch 1, in its terms .*, at tissue demo_00\d, "
        r"tile at row \d+, column \d+: lower optim\.optimizer\.lr",
        done.err,
        re.MULTILINE,
    )
    assert "macro foreground" not in done.out
    if (run / "decoder.ckpt").exists():
        kept = load_decoder(run / "decoder.ckpt").state
        assert all(value.isfinite().all() for value in kept.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("trainer.num_nodes=2",), "start the command on every machine"),
        (("decoder=instance", "loss=ce_dice"), "loss has terms on ['classes']"),
        (("decoder=boundary", "~decoder.heads.classes", "loss=none"), "by none of which pixels"),
        (
            ("decoder=boundary", "loss.terms.boundary.weight=0"),
            "['boundary'] would never be trained",
        ),
        (("decoder=masked_attention", "decoder.refine.heads=0"), "decoder.refine.heads=0"),
        (
            ("decoder=boundary_att", "decoder.boundary_attention.alpha=0"),
            "0 would raise nothing",
        ),
        (("decoder=feature_gating", "decoder.skips=none"), "decoder.skips=none leaves out"),
        (("decoder=baseline", "+decoder.heads.boundary_stride3={}"), "'boundary_stride3'"),
        (("decoder.heads.classes=null",), "decoder.heads.classes=None, wanted options of a head"),
        (("+decoder.heads.classes.hidden=0",), "decoder.heads.classes.hidden=0"),
        (("+decoder.heads.classes.dropout=abc",), "decoder.heads.classes.dropout=abc"),
        (("decoder.width=true",), "decoder.width=true"),
        (("decoder.width=abc",), "decoder.width=abc"),
        (("decoder.dropout=nan",), "decoder.dropout=nan"),
        (("decoder.dropout=1",), "decoder.dropout=1"),
        (("decoder.context=true",), "decoder.context=True, wanted a _target_"),
        (
            ("decoder.boundary_attention=gelu",),
            "decoder.boundary_attention=gelu, wanted a _target_",
        ),
        (("decoder=instance", "monitor=val/dice/tumor"), "monitor=val/dice/tumor is unknown"),
    ],
)
def test_what_does_not_fit_is_one_line(command, options, said, tmp_path):
    done = command("train", *FAST, *options, f"run_dir={tmp_path / 'run'}")
    assert done.code == 2
    assert said in done.err
    assert done.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_variants_of_one_seed_start_from_one_trunk_and_see_the_same_tiles(command, tmp_path):
    """What they are trained on, and from, does not hang on their layers."""
    seen = {}
    for name in ("baseline", "global_context"):
        run = tmp_path / name
        options = (f"decoder={name}", "epochs=1", "optim.optimizer.lr=1e-30", f"run_dir={run}")
        assert command("train", *FAST, *options).code == 0
        seen[name] = load_decoder(run / "decoder.ckpt").state
    shared = [k for k in seen["baseline"] if k.endswith("weight") and "norm" not in k]
    assert shared
    assert all(torch.equal(seen["baseline"][k], seen["global_context"][k]) for k in shared)
    image = (
        "decoder0.0.block.1.running_mean"  # statistics of the images alone, in the order they came
    )
    assert torch.equal(seen["baseline"][image], seen["global_context"][image])
