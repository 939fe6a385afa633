"""What is done with batches last: once for each, in this process, wherever they were made."""

import os
import threading
import time
from contextlib import suppress

import pytest
import torch
from lightning.pytorch.utilities.data import _update_dataloader
from torch.utils.data import Dataset

from tissueseg.data.loading import THREAD, PrefetchLoader
from tissueseg.data.sampling import EpochShuffle

WORKERS = pytest.mark.parametrize("workers", [0, 2])


class Numbers(Dataset):
    def __len__(self):
        return 9

    def __getitem__(self, index):
        return torch.tensor([index, os.getpid()])


class Finish:
    """Squares, and remembers what it was given, where; `on` says what else happens to a batch."""

    def __init__(self, on=None):
        self.seen, self.threads, self.on = [], [], on or {}

    def __call__(self, batch):
        numbers = batch[:, 0].tolist()
        self.seen.append(numbers)
        self.threads.append((os.getpid(), threading.current_thread().name))
        self.on.get(len(self.seen) - 1, int)()
        return [number**2 for number in numbers], batch[0, 1].item()


def threads():
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


def make(finish, workers=0, **options):
    kept = {"persistent_workers": True} if workers else {}
    return PrefetchLoader(
        Numbers(), 2, num_workers=workers, collate_fn=torch.stack, finish=finish, **kept | options
    )


EPOCH = [[0, 1], [2, 3], [4, 5], [6, 7], [8]]
SQUARES = [[n**2 for n in numbers] for numbers in EPOCH]


@WORKERS
@pytest.mark.parametrize("depth", [1, 20])
def test_every_batch_is_finished_once_in_its_turn(workers, depth):
    finish = Finish()
    loader = make(finish, workers, depth=depth)
    for _ in range(2):
        assert [numbers for numbers, _ in loader] == SQUARES
    assert finish.seen == EPOCH * 2


@WORKERS
def test_it_is_done_in_this_process_and_the_first_in_the_callers_thread(workers):
    finish = Finish()
    made_in = {process for _, process in make(finish, workers)}
    assert (os.getpid() in made_in) == (workers == 0)
    assert len(made_in) == max(workers, 1)
    assert finish.threads == [(os.getpid(), n) for n in ("MainThread", *[THREAD] * 4)]


@WORKERS
def test_batches_are_finished_ahead_of_the_step(workers):
    finish = Finish()
    batches = iter(make(finish, workers, depth=2))
    next(batches)
    limit = time.monotonic() + 20
    while len(finish.seen) < 3 and time.monotonic() < limit:
        time.sleep(0.001)
    time.sleep(0.01)  # for one too many, if there were one
    assert finish.seen == EPOCH[:3]
    batches.close()


def torn():
    raise OSError("features are torn")


@WORKERS
@pytest.mark.parametrize("bad", [0, 1, 4])
def test_its_errors_arrive_in_their_turn_and_end_the_epoch(workers, bad):
    loader, seen = make(Finish({bad: torn}), workers), []
    batches = iter(loader)
    with pytest.raises(OSError, match="features are torn"):
        seen.extend(numbers for numbers, _ in batches)
    assert seen == SQUARES[:bad]
    assert list(batches) == []
    loader.finish.on = {}
    assert [numbers for numbers, _ in loader] == SQUARES  # the next epoch is whole


def test_lightning_builds_it_anew_with_what_finishes():
    finish = Finish()
    loader = make(finish, depth=5)
    again = _update_dataloader(loader, EpochShuffle(Numbers(), 7))
    assert (again.finish, again.depth) == (finish, 5)
    order = list(EpochShuffle(Numbers(), 7))
    assert [n for numbers, _ in again for n in numbers] == [n**2 for n in order]


def leave(batches, finish):
    next(batches)
    next(batches)


def leave_while_it_waits(batches, finish):
    """The thread sits in the third batch when the next epoch begins."""
    waits = threading.Event()
    finish.on[len(finish.seen) + 2] = lambda: (waits.set(), time.sleep(0.05))
    next(batches)
    next(batches)
    assert waits.wait(20)


def take_all(batches, finish):
    with suppress(StopIteration):
        while True:
            next(batches)


@WORKERS
@pytest.mark.parametrize("before", [leave, leave_while_it_waits, take_all])
def test_an_epoch_left_unfinished_takes_nothing_from_the_next(workers, before):
    """Persistent workers serve one epoch at a time, even if the one before is still held."""
    finish = Finish()
    loader = make(finish, workers, depth=3)
    held = []
    for _ in range(3):
        held.append(iter(loader))
        before(held[-1], finish)
    finish.on.clear()
    assert [numbers for numbers, _ in loader] == SQUARES
    assert finish.seen[-5:] == EPOCH or not workers
    if workers:
        assert [list(batches) for batches in held] == [[], [], []]
    for batches in held:
        batches.close()


def test_an_epoch_without_persistent_workers_goes_on_beside_the_next():
    loader = make(Finish())
    first, second = iter(loader), iter(loader)
    assert [next(first)[0], next(second)[0], next(first)[0]] == [SQUARES[0], SQUARES[0], SQUARES[1]]
    assert [[numbers for numbers, _ in rest] for rest in (first, second)] == [
        SQUARES[2:],
        SQUARES[1:],
    ]
