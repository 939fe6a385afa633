"""The moving average: by hand, in the place of the weights when an epoch is scored, and resumed."""

import pytest
import torch
from lightning.pytorch import Callback

from tissueseg.errors import ConfigError
from tissueseg.modules.averaging import Averaging, averaged
from tissueseg.modules.checkpoint import load_decoder
from tissueseg.modules.scoring import count


class Watcher(Callback):
    """Keeps what the module's weights were after every step, and when they were scored."""

    def __init__(self):
        self.steps, self.scored, self.during = [], [], []

    def on_train_start(self, trainer, pl_module):
        self.steps.append(self.state(pl_module))

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.steps.append(self.state(pl_module))

    def on_validation_batch_end(self, trainer, pl_module, *_, **__):
        self.during.append(self.state(pl_module))

    def on_validation_end(self, trainer, pl_module):
        self.scored.append(self.state(pl_module))

    def state(self, module):
        return {n: t.detach().clone() for n, t in module.state_dict().items() if "decoder" in n}


def by_hand(steps, decay, names):
    """The average after the last of these states, counted from the first."""
    average = {n: steps[0][n].double() for n in names}
    for n, state in enumerate(steps[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        average = {k: d * v + (1 - d) * state[k].double() for k, v in average.items()}
    return average


def assert_close(state, expected):
    for name, value in expected.items():
        torch.testing.assert_close(state[name].double(), value, atol=1e-6, rtol=1e-4)


@pytest.fixture
def averaging_run(make_run):
    run, watcher = make_run("ema=0.4", "epochs=2", "data.batch_size=2"), Watcher()
    run.averaging = Averaging(run.config.ema)
    run.trained = run.fit(watcher, run.averaging)
    return run, watcher


def test_an_epoch_is_scored_with_the_average_and_training_goes_on_from_the_weights(averaging_run):
    run, seen = averaging_run
    names = list(averaged(run.module))
    per_epoch = (len(seen.steps) - 1) // 2
    for epoch in (1, 2):
        expected = by_hand(seen.steps[: 1 + epoch * per_epoch], 0.4, names)
        assert_close(seen.scored[epoch - 1], expected)
        moved = seen.steps[epoch * per_epoch]
        assert any(not torch.equal(moved[n], seen.scored[epoch - 1][n]) for n in names)
    assert all(seen.during[0][n].equal(seen.scored[0][n]) for n in names)
    last = {n: t for n, t in run.module.state_dict().items() if n in names}
    assert all(torch.equal(last[n], seen.steps[-1][n]) for n in names)


def test_the_kept_decoder_is_the_average_and_its_score_is_the_one_logged(averaging_run):
    run, seen = averaging_run
    kept = load_decoder(run.folder / "decoder.ckpt")
    state = seen.scored[kept.epoch]
    assert all(torch.equal(state[f"decoder.{n}"], t) for n, t in kept.state.items())
    kept.restore(run.module.decoder, run.module.encoder)
    trainer = run.trainer([])
    count(trainer, run.module, run.data, "val")
    assert float(trainer.callback_metrics[run.config.monitor]) == pytest.approx(kept.score)


def test_batch_statistics_are_averaged_and_other_buffers_are_current(averaging_run):
    run, seen = averaging_run
    names = averaged(run.module)
    assert any(n.endswith("running_var") for n in names)
    assert not any(n.startswith(("loss", "metrics", "encoder")) for n in names)
    others = [n for n in seen.scored[-1] if n not in names]
    assert any(n.endswith("num_batches_tracked") for n in others)
    assert all(torch.equal(seen.scored[-1][n], seen.steps[-1][n]) for n in others)


def test_averaging_does_not_touch_the_weights_that_are_trained(averaging_run, make_run):
    _, seen = averaging_run
    plain, watcher = make_run("epochs=2", "data.batch_size=2", folder="plain"), Watcher()
    plain.fit(watcher)
    for one, two in zip(seen.steps, watcher.steps, strict=True):
        assert all(torch.equal(one[n], two[n]) for n in one)


def test_a_run_that_goes_on_ends_as_one_that_never_stopped(make_run):
    whole = make_run("ema=0.4", folder="whole")
    whole_average = Averaging(0.4)
    whole.fit(whole_average)
    first = make_run("ema=0.4", "epochs=1", "optim.scheduler.period=2", folder="first")
    first.fit(Averaging(0.4)).save_checkpoint(first.folder / "last.ckpt")
    resumed, average = make_run("ema=0.4", folder="resumed"), Averaging(0.4)
    resumed.fit(average, ckpt_path=first.folder / "last.ckpt")
    one, two = whole_average.state_dict(), average.state_dict()
    assert one["steps"] == two["steps"] > 0
    assert one["average"].keys() == two["average"].keys()
    for name, value in one["average"].items():
        assert torch.equal(value, two["average"][name])
    rows = [(r.folder / "metrics.csv").read_text().splitlines() for r in (whole, resumed)]
    assert rows[0] == rows[1]


def test_steps_that_gather_gradients_are_not_counted(make_run):
    run = make_run("epochs=1", "data.batch_size=2", "data.at_a_time=1")
    averaging = Averaging(0.9)
    trainer = run.fit(averaging)
    batches = len(run.data.train_dataloader())
    assert averaging.state_dict()["steps"] == trainer.global_step == -(-batches // 2) < batches


def test_what_learns_of_an_encoder_is_averaged_too(make_run):
    run = make_run("ema=0.4", "epochs=1", "finetune.blocks=1")
    names = averaged(run.module)
    assert "encoder.blocks.3.norm1.weight" in names
    assert not any(n.startswith("encoder.blocks.2") for n in names)


def test_it_refuses_to_stand_before_what_keeps_the_decoder(make_run):
    run = make_run("epochs=1")
    trainer = run.trainer([Averaging(0.9), run.best])
    with pytest.raises(RuntimeError, match="behind BestDecoder"):
        trainer.fit(run.module, datamodule=run.data)


def test_a_run_that_breaks_off_in_a_validation_keeps_its_own_weights(make_run):
    class Breaks(Watcher):
        def on_validation_epoch_end(self, trainer, pl_module):
            raise KeyError("broken")

    run, watcher = make_run("epochs=1"), Breaks()
    with pytest.raises(KeyError, match="broken"):
        run.fit(watcher, Averaging(0.9))
    state = run.module.state_dict()
    assert all(torch.equal(state[n], value) for n, value in watcher.steps[-1].items())


@pytest.mark.parametrize("decay", [0, 1, 1.5, -0.1, True, "slow", float("nan")])
def test_decays_that_average_nothing_are_refused(decay):
    with pytest.raises(ConfigError, match=r"ema=.*0\.999, or null"):
        Averaging(decay)
