"""`train resume=…`: a run that was stopped ends as one that never was, bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from stopped_runs import (
    EPOCHS,
    STEPS,
    WORDS,
    Command,
    Place,
    Uninterrupted,
    assert_same_run,
    interrupted_run,
    stopped_at,
    write_training_store,
)

LAST = STEPS - 1


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_store(tmp_path_factory.mktemp("resumed") / "store")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    return Uninterrupted(tmp_path_factory.mktemp("uninterrupted"))


BOUNDARY = 2, "val"
"""The last batch that is scored of an epoch: told to stop there, a run stops when the epoch is over."""

PLACES = {
    "in its first batch": [Place(0, 0)],
    "in some batch": [Place(1, 1)],
    "in the last batch but one": [Place(1, LAST - 1)],
    "between two epochs": [Place(0, *BOUNDARY)],
    "when the last epoch is over": [Place(EPOCHS - 1, *BOUNDARY)],
    "three times within an epoch": [Place(1, 0), Place(1, 1), Place(1, 2)],
    "between and within epochs": [Place(0, *BOUNDARY), Place(1, *BOUNDARY), Place(2, 0)],
}


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_a_stopped_run_takes_every_batch_once_and_ends_the_same(
    command: Command,
    store: Path,
    uninterrupted: Uninterrupted,
    tmp_path: Path,
    places: list[Place],
) -> None:
    words = (*WORDS, f"store.path={store}")
    whole, batches = uninterrupted.run(command, words)
    assert interrupted_run(command, words, tmp_path / "run", stopped_at(*places)) == batches
    assert_same_run(tmp_path / "run", whole)
    assert not (tmp_path / "run/state").exists()


@pytest.mark.parametrize("place", [Place(1, LAST), Place(1, 0, "val")])
def test_stopped_before_it_is_scored_an_epoch_is_done_again(
    command: Command, store: Path, uninterrupted: Uninterrupted, tmp_path: Path, place: Place
) -> None:
    words = (*WORDS, f"store.path={store}")
    whole, batches = uninterrupted.run(command, words)
    first, again = Place(1, 0), batches.index(place) + 1
    taken = interrupted_run(command, words, tmp_path / "run", stopped_at(place))
    assert taken == batches[:again] + batches[batches.index(first) :]
    assert_same_run(tmp_path / "run", whole)


VARIANTS = {
    "ema": ["ema=0.9"],
    "oversampled": ["sampling=oversample"],
    "augmented": ["augmentation=strong"],
    "weighted": ["loss.uncertainty=true", "decoder=boundary"],
    "attention warmed up": ["decoder=boundary_masked_att"],
    "gates warmed up": ["decoder=boundary_att", "decoder.boundary_attention.warmup=0.5"],
    "early stopping": ["patience=1", "optim.optimizer.lr=0", "epochs=6"],
    "workers": ["data.num_workers=2"],
    "by shards": ["data.shuffle=shard"],
    "gathered": ["data.batch_size=4", "data.at_a_time=2"],
    "tuned": ["finetune.lora=2"],
    "dropout": ["decoder.dropout=0.5"],
    "restarts": [
        "optim=adamw_warm_restarts",
        "optim.scheduler.warmup=1",
        "optim.scheduler.period=1",
    ],
    "drop last": ["data.drop_last=true"],
    "eight views": ["views=8"],
}


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_everything_that_changes_while_training_is_gone_on_with(
    command: Command,
    store: Path,
    uninterrupted: Uninterrupted,
    tmp_path: Path,
    options: list[str],
) -> None:
    words = (*WORDS, f"store.path={store}", "epochs=2", *options)
    whole, batches = uninterrupted.run(command, words)
    boundary = [place for place in batches if place.epoch == 0][-1]
    stops = stopped_at(boundary, Place(1, 0))
    assert interrupted_run(command, words, tmp_path / "run", stops) == batches
    assert_same_run(tmp_path / "run", whole)


def test_stopped_when_patience_is_out_a_run_is_scored_without_training_on(
    command: Command, store: Path, tmp_path: Path
) -> None:
    words = (*WORDS, f"store.path={store}", "patience=1", "optim.optimizer.lr=0", "epochs=9")
    assert command("train", *words, f"run_dir={tmp_path / 'whole'}").code == 0
    stop = stopped_at(Place(1, *BOUNDARY))
    taken = interrupted_run(command, words, tmp_path / "run", stop)
    assert {place.epoch for place in taken if place.side == "train"} == {0, 1}
    assert_same_run(tmp_path / "run", tmp_path / "whole")
