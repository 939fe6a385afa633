"""Two processes that train as one: loss, gradients and normalisation of the whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from gloo_pair import in_two
from stores import choices, compose
from torch import Tensor, nn

from tissueseg.building import build
from tissueseg.contracts import IGNORE, Batch, Outputs
from tissueseg.losses.weighted_sum import WeightedSum
from tissueseg.modules.group import ALONE, Group
from tissueseg.modules.whole_batch import (
    SharedBatchNorm,
    share_batch_norm,
    share_loss_parameters,
    share_statistics,
    whole_batch,
    window_share,
)

TILES = 4
CHANNELS = {"classes": 3, "foreground": 1, "boundary": 1, "hv": 2}
COARSE = {"boundary_stride2": 2, "boundary_stride4": 4} | {
    "foreground_stride1": 1,
    "foreground_stride4": 4,
}
HEADS = [f"+loss/heads@loss.terms.{head}={head}" for head in choices("loss/heads")]
Numbers = dict[str, list[float]]


def batch_of(tiles: slice) -> Batch:
    """Some of four tiles that have more of one class and less known pixels from one to the next."""
    draw = torch.Generator().manual_seed(0)
    classes = torch.randint(0, 3, (TILES, 8, 8), generator=draw)
    for tile in range(TILES):
        classes[tile, :tile] = 0
        classes[tile, :, 8 - 2 * tile :] = IGNORE
    inside = (classes > 0).float().unsqueeze(1)
    hv = torch.rand(TILES, 2, 8, 8, generator=draw) * inside
    targets = {"hv": hv, "foreground": inside, "boundary": 1 - inside}
    numbers = torch.arange(TILES)
    return Batch(
        image=torch.rand(TILES, 5, 8, 8, generator=draw)[tiles],
        present=torch.ones(TILES, 1, dtype=torch.bool)[tiles],
        classes=classes[tiles],
        labels=(classes > 0).int()[tiles],
        targets={head: target[tiles] for head, target in targets.items()},
        tissue=numbers[tiles],
        origin=torch.stack([numbers, 8 * numbers], 1)[tiles],
        view=numbers[tiles],
    )


class Heads(nn.Module):
    """One linear layer a head, behind a normalisation; coarse heads see pixels averaged."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        channels = CHANNELS | dict.fromkeys(COARSE, 1)
        self.heads = nn.ModuleDict({head: nn.Conv2d(5, c, 1) for head, c in channels.items()})
        self.norm = nn.BatchNorm2d(5)

    def forward(self, image: Tensor) -> Outputs:
        values = self.norm(image)
        return {
            head: layer(nn.functional.avg_pool2d(values, COARSE.get(head, 1)))
            for head, layer in self.heads.items()
        }


def built_loss(words: Sequence[str]) -> WeightedSum:
    return build(compose("class_weights=[1,4,20]", *words).loss)


def learnt(words: Sequence[str], group: Group) -> tuple[float, Numbers, Numbers]:
    """Loss, gradients and batch statistics of one step, as a module and DDP come to them."""
    net, loss = Heads(), built_loss(words)
    own = TILES // group.of
    batch = batch_of(slice(group.number * own, (group.number + 1) * own))
    if group.of > 1:
        share_batch_norm(net)
    share_loss_parameters(loss, group)
    total = loss(*whole_batch(net(batch.image), batch, group)).total
    (total * group.of).backward()
    found: Numbers = {}
    for name, parameter in (*net.named_parameters(), *loss.named_parameters()):
        assert parameter.grad is not None, name
        if group.of > 1:
            dist.all_reduce(parameter.grad)
        found[name] = (parameter.grad / group.of).flatten().tolist()
    return float(total.detach()), found, {n: b.tolist() for n, b in net.norm.named_buffers()}


@pytest.mark.parametrize("uncertainty", ["false", "true"])
@pytest.mark.parametrize("name", sorted({*choices("loss")} - {"none"}))
def test_the_loss_and_its_gradients_are_those_of_one_process(
    tmp_path: Path, name: str, uncertainty: str
) -> None:
    words = [f"loss={name}", f"loss.uncertainty={uncertainty}", *HEADS]
    assert len(built_loss(words).losses) >= len(HEADS) + 2
    total, gradients, statistics = learnt(words, ALONE)
    assert all(any(abs(value) > 1e-9 for value in found) for found in gradients.values())
    for of_two, found, seen in in_two(partial(learnt, words), tmp_path):
        assert of_two == pytest.approx(total, rel=1e-6)
        assert found.keys() == gradients.keys()
        for key, values in found.items():
            assert values == pytest.approx(gradients[key], rel=1e-5, abs=1e-6), key
        assert seen["running_mean"] == pytest.approx(statistics["running_mean"])
        assert seen["running_var"] == pytest.approx(statistics["running_var"])


def test_the_mean_of_two_losses_would_be_another() -> None:
    """Else the test above would show nothing."""
    net, loss = Heads(), built_loss(["loss=ce_dice_ft", *HEADS])
    net.eval()
    sides = (slice(TILES), slice(TILES // 2), slice(TILES // 2, TILES))
    batches = [batch_of(side) for side in sides]
    whole, *parts = (float(loss(net(batch.image), batch).total.detach()) for batch in batches)
    assert sum(parts) / 2 != pytest.approx(whole, rel=1e-3)


def test_whole_batches_hold_all_tiles_in_order_and_the_own_graph(tmp_path: Path) -> None:
    def job(group: Group) -> Any:
        batch = batch_of(slice(2 * group.number, 2 * group.number + 2))
        outputs = {"a": torch.full((2, 1), float(group.number), requires_grad=True)}
        whole, truth = whole_batch(outputs, batch, group)
        whole["a"].sum().backward()
        assert truth.features is None
        assert len(truth.image) == 0
        assert outputs["a"].grad is not None
        return whole["a"].tolist(), truth.classes.tolist(), truth.labels.tolist()

    every = batch_of(slice(4))
    expected = ([[0.0], [0.0], [1.0], [1.0]], every.classes.tolist(), every.labels.tolist())
    assert in_two(job, tmp_path) == [expected, expected]


def test_one_process_alone_keeps_its_own() -> None:
    batch, outputs = batch_of(slice(2)), {"a": torch.zeros(2)}
    assert whole_batch(outputs, batch, ALONE) == (outputs, batch)


OPTIONS = {
    "usual": {},
    "averaged": {"momentum": None},
    "plain": {"affine": False},
    "without statistics": {"track_running_stats": False},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_shared_normalisation_is_one_over_all_tiles(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    """Forward, backward and what it remembers; then with what it remembers."""

    def normalised(group: Group) -> Any:
        draw = torch.Generator().manual_seed(3)
        sheet = torch.randn(2, 4, 3, 5, 5, generator=draw, dtype=torch.float64) * 9 + 100
        pull = torch.randn(4, 3, 5, 5, generator=draw, dtype=torch.float64)
        own = slice(2 * group.number, 2 * group.number + 2) if group.of > 1 else slice(4)
        layer = nn.BatchNorm2d(3, **options).double()
        if group.of > 1:
            share_batch_norm(layer)
            assert type(layer) is SharedBatchNorm
        for values in sheet:  # two steps
            values = values[own].requires_grad_()
            made = layer(values)
            (made * pull[own]).sum().backward()
        layer.eval()
        scored = layer(sheet[0]) if options.get("track_running_stats", True) else sheet[0]
        parameters = [p.grad for p in layer.parameters()]
        if group.of > 1:
            for gradient in parameters:
                dist.all_reduce(gradient)  # each has those of its own tiles
        kept = [made.detach(), values.grad]
        same = [scored.detach(), *parameters, *(b.double() for b in layer.buffers())]
        return [t.numpy() for t in kept], [t.numpy() for t in same]

    own, same = normalised(ALONE)
    parts = in_two(normalised, tmp_path)
    for number, (values, gradient) in enumerate(part[0] for part in parts):
        tiles = slice(2 * number, 2 * number + 2)
        assert values == pytest.approx(own[0][tiles], abs=1e-9)
        assert gradient == pytest.approx(own[1][tiles], abs=1e-9)
    for _, found in parts:
        assert len(found) == len(same)
        for left, right in zip(found, same, strict=True):
            assert left == pytest.approx(right, abs=1e-9)


def test_statistics_of_the_first_process_are_sent_around(tmp_path: Path) -> None:
    def remembered(group: Group) -> Any:
        layer = nn.BatchNorm2d(2)
        layer(torch.full((2, 2, 3, 3), 1.0 + group.number))
        share_statistics(layer, group)
        return layer.running_mean.tolist(), layer.running_var.tolist()

    first, second = in_two(remembered, tmp_path)
    assert first == second == (pytest.approx([0.1, 0.1]), pytest.approx([0.9, 0.9]))


@pytest.mark.parametrize("gathered", [1, 2, 3, 5])
@pytest.mark.parametrize("tiles", [1, 4, 7, 9, 10])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_gathered_batches_weigh_as_if_they_were_one(
    gathered: int, tiles: int, batch_size: int
) -> None:
    losses = torch.rand(tiles, generator=torch.Generator().manual_seed(4)).split(batch_size)
    for first in range(0, len(losses), gathered):
        step = range(first, min(first + gathered, len(losses)))
        sizes = gathered, batch_size, tiles, len(losses)
        shares = [window_share(i, len(losses[i]), *sizes) for i in step]
        divided = sum(losses[i].mean() * s / gathered for i, s in zip(step, shares, strict=True))
        assert float(divided) == pytest.approx(float(torch.cat([losses[i] for i in step]).mean()))
