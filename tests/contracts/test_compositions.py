"""What every composition in configs/ promises, through the module that trains it."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from stores import TINY, choices, compose, three_tissues, write_store
from torch import nn
from torchmetrics import Metric

from tissueseg import assembly, preflight
from tissueseg.building import build
from tissueseg.composition import plain
from tissueseg.contracts import IGNORE
from tissueseg.data.dataset import collate
from tissueseg.features import FeatureSource, open_features

COMPOSITIONS = [f"+experiment={name}" for name in choices("experiment")]
COMPOSITIONS += [f"decoder={name}" for name in choices("decoder")]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("compositions") / "s.zarr", three_tissues())


@pytest.fixture(scope="module", params=COMPOSITIONS)
def config(request):
    return compose(*TINY, request.param)


@pytest.fixture(scope="module")
def data(config, store):
    return open_data(config, store)


def open_data(config, store):
    spec = preflight.check(config)
    split = assembly.open_split(config, store)
    data = assembly.open_data(config, store, split, FeatureSource(spec, None, None))
    preflight.settle_class_weights(config, data)
    return data


def scalar(value):
    return float(value.compute() if isinstance(value, Metric) else value)


@pytest.fixture
def module(config, data):
    """Fresh, in training mode; what it logs is kept in `module.logged`."""
    torch.manual_seed(0)
    features = open_features(config, data.store, data.split)
    built = assembly.build_module(config, features, data)
    built.logged = {}
    built.decoder.set_progress(1.0)  # gates are open: what they do is part of the promise
    built._trainer = SimpleNamespace(accumulate_grad_batches=1)
    built.log = lambda name, value, **how: built.logged.update({name: scalar(value)})
    return built.train()


@pytest.fixture
def batch(data):
    return next(iter(data.train_dataloader()))


def biases_before_batch_norm(module: nn.Module) -> set[int]:
    """BN subtracts them again: their true gradient is 0, what is computed is rounding."""
    rows = [list(m) for m in module.modules() if isinstance(m, nn.Sequential)]
    pairs = [pair for row in rows for pair in pairwise(row)]
    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    return {
        id(a.bias)
        for a, b in pairs
        if isinstance(a, convolutions) and isinstance(b, nn.BatchNorm2d)
    }


def assert_finite(module, loss):
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    loss.backward()
    for name, parameter in module.decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_every_trainable_parameter_learns(module, batch):
    assert_finite(module, module.training_step(batch, 0))
    silent = biases_before_batch_norm(module.decoder)
    still = [
        name
        for name, parameter in module.decoder.named_parameters()
        if id(parameter) not in silent and not parameter.grad.any()
    ]
    assert not still


def test_an_empty_tile_stays_finite(module, batch):
    """Background alone, as most of a slide is; the study's masked attention would have given NaN."""
    empty = batch._replace(
        image=torch.zeros_like(batch.image),
        classes=torch.zeros_like(batch.classes),
        labels=torch.zeros_like(batch.labels),
        targets={head: torch.zeros_like(target) for head, target in batch.targets.items()},
    )
    assert_finite(module, module.training_step(empty, 0))
    module.zero_grad()
    unknown = empty._replace(classes=torch.full_like(batch.classes, IGNORE))
    loss = module.training_step(unknown, 0)
    assert_finite(module, loss)
    assert loss == 0


@pytest.mark.parametrize("tile_px", [48, 64])
def test_other_tile_sizes(config, store, module, tile_px):
    other = config.copy()
    other.data.tile_px = tile_px
    batch = next(iter(open_data(other, store).train_dataloader()))
    assert batch.image.shape[-1] == tile_px
    assert_finite(module, module.training_step(batch, 0))


def test_a_batch_of_one(module, data):
    one = collate([data._datasets["train"][0]])
    assert_finite(module, module.training_step(one, 0))


def test_bfloat16_autocast(module, batch):
    exact = module.eval().training_step(batch, 0).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = module.training_step(batch, 0).item()
        loss = module.train().training_step(batch, 0)
    assert rough == pytest.approx(exact, rel=0.05)
    assert_finite(module, loss)


def test_every_term_of_the_loss_is_logged_and_adds_up(config, module, batch):
    total = module.training_step(batch, 0).item()
    terms = config.loss.terms
    assert module.logged.keys() == {"train/loss"} | {f"train/loss/{name}" for name in terms}
    weighted = sum(
        term.weight * module.logged[f"train/loss/{name}"] for name, term in terms.items()
    )
    assert total == pytest.approx(weighted, rel=1e-5)
    module.logged.clear()
    module.eval().validation_step(batch, 0)
    assert {f"val/loss/{name}" for name in terms} < module.logged.keys()


def test_a_step_changes_the_decoder_and_not_a_bit_of_the_encoder(module, batch):
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = module.configure_optimizers()["optimizer"]
    module.training_step(batch, 0).backward()
    optimizer.step()
    changed = [n for n, value in module.state_dict().items() if not torch.equal(value, before[n])]
    assert changed
    assert not [name for name in changed if name.startswith("encoder.")]
    still = {id(p) for p in module.encoder.parameters()}
    assert not [p for group in optimizer.param_groups for p in group["params"] if id(p) in still]


def test_checkpoints_hold_no_encoder_and_load_strictly(module):
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    kept = checkpoint["state_dict"]
    parts = {"decoder": module.decoder, "means": module.means}
    assert kept.keys() == {f"{key}.{name}" for key in parts for name in parts[key].state_dict()}
    module.on_load_checkpoint(checkpoint)
    module.load_state_dict(checkpoint["state_dict"], strict=True)
    del checkpoint["state_dict"][next(iter(kept))]
    with pytest.raises(RuntimeError, match="Missing key"):
        module.load_state_dict(checkpoint["state_dict"], strict=True)


GROUPS = (
    "setting",
    "modality",
    "encoder",
    "decoder",
    "loss",
    "split",
    "sampling",
    "augmentation",
    "optim",
    "trainer",
    "logger",
)


@pytest.mark.parametrize(
    "override",
    [f"{group}={name}" for group in GROUPS for name in choices(group)]
    + [f"+debug={name}" for name in choices("debug")]
    + [f"+experiment={name}" for name in choices("experiment")],
)
def test_every_choice_composes_and_resolves(override, monkeypatch):
    monkeypatch.setenv("TISSUESEG_STORE", "somewhere.zarr")
    setting = () if override.startswith("setting=") else ("setting=demo",)
    config = compose(*setting, override, "name=test")
    assert plain(config)["monitor"]
    for node in (config.encoder, *(config.encoder.get(part, {}) for part in ("he", "sp"))):
        if "random_init" in node:
            node.random_init = True
            if "weights" in node:
                node.weights = None
    if override.startswith("encoder="):
        config.modality = build(config.encoder.spec).modalities[0].value
    if not override.startswith(("decoder=", "loss=")):
        preflight.check(config)


def test_what_the_command_line_says_wins_over_the_experiment():
    config = compose("setting=demo", "+experiment=boundary_att", "modality=sp", "epochs=3")
    assert (config.modality, config.trainer.max_epochs) == ("sp", 3)
