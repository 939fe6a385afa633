"""Batches made ahead: the plain loader's in all respects, few at a time, and no thread left behind."""

import gc
import signal
import subprocess
import sys
import threading
import time
import traceback
import weakref
from contextlib import nullcontext, suppress
from itertools import islice

import pytest
import torch
from lightning.fabric.utilities.data import _replace_dunder_methods, _set_sampler_epoch
from lightning.pytorch.utilities.data import _update_dataloader
from torch.utils.data import DataLoader, Dataset, IterableDataset, SequentialSampler

from tissueseg.data.loading import THREAD, PrefetchLoader
from tissueseg.data.sampling import EpochShuffle
from tissueseg.errors import ConfigError


class Numbers(Dataset):
    """Item i is the number i; `on` says what else happens when an item is read."""

    def __init__(self, count=20, on=None):
        self.count, self.on = count, on or {}

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.on.get(index, int)()
        return torch.tensor(index)


def threads():
    return [thread for thread in threading.enumerate() if thread.name == THREAD]


def wait_until(condition):
    """Events that another thread brings about; the limit is for a broken loader alone."""
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.001)


class Stack:
    """Collates, and knows which of its batches are still held by anyone."""

    def __init__(self):
        self.made, self.alive, self.peak = 0, weakref.WeakSet(), 0

    def __call__(self, items):
        batch = torch.stack(items)
        self.alive.add(batch)
        self.made, self.peak = self.made + 1, max(self.peak, len(self.alive))
        return batch


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert threads() == []


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(7))


def drawing_epoch(loader):
    """Batches of an epoch, what a step draws beside each, and the global generator afterwards."""
    torch.manual_seed(5)
    seen = [(batch.tolist(), torch.rand(()).item()) for batch in loader]
    return seen, torch.get_rng_state().tolist()


LOADERS = {
    "a shorter last batch": (Numbers(), {"batch_size": 3}),
    "torch's shuffle": (Numbers(), {"batch_size": 4, "shuffle": True}),
    "our shuffle": (Numbers(), {"collate_fn": torch.stack, "sampler": EpochShuffle(range(20), 3)}),
    "batches of its own": (Numbers(), {"batch_sampler": [[3, 1], [7]]}),
    "no batches": (Numbers(), {"batch_size": None}),
    "nothing": (Numbers(0), {}),
    "a stream": (Stream(), {"batch_size": 2}),
}


@pytest.mark.parametrize(("data", "options"), LOADERS.values(), ids=LOADERS)
@pytest.mark.parametrize("depth", [1, 2, 50])
def test_batches_and_random_numbers_are_those_of_the_plain_loader(data, options, depth):
    loader, plain = PrefetchLoader(data, depth=depth, **options), DataLoader(data, **options)
    assert drawing_epoch(loader) == drawing_epoch(loader) == drawing_epoch(plain)


def test_what_samplers_draw_and_the_first_batch_are_made_in_the_callers_thread():
    drawn, read = [], []

    class Drawing(SequentialSampler):
        def __iter__(self):
            drawn.append(threading.current_thread().name)
            yield from super().__iter__()

    data = Numbers(5, {i: lambda: read.append(threading.current_thread().name) for i in range(5)})
    list(PrefetchLoader(data, sampler=Drawing(data)))
    assert (drawn, read) == (["MainThread"], ["MainThread"] + [THREAD] * 4)


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_than_depth_batches_are_made_ahead(depth):
    stack = Stack()
    loader = PrefetchLoader(Numbers(12), depth=depth, collate_fn=stack)
    for taken, _batch in enumerate(loader, start=1):
        ahead = min(taken + depth, 12)
        wait_until(lambda ahead=ahead: stack.made >= ahead)
        time.sleep(0.002)  # for one too many, if there were one
        assert stack.made == ahead
    assert stack.peak <= depth + 2  # with the one held here and the one about to replace it


@pytest.mark.parametrize("bad", [0, 1, 5])
def test_errors_arrive_in_their_turn_and_with_their_origin(bad):
    def torn():
        raise OSError("shard is torn")

    batches = iter(PrefetchLoader(Numbers(9, {bad: torn}), depth=9))
    seen = list(islice(batches, bad > 0))
    wait_until(lambda: threads() == [])  # nothing is read beyond the error
    with pytest.raises(OSError, match="shard is torn") as caught:
        seen.extend(batches)
    assert [int(batch) for batch in seen] == list(range(bad))
    assert "torn" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert list(batches) == []


def hide_in_a_cycle(batches):
    batches = iter(batches)
    next(batches)
    batches.itself = batches


ABANDONED = {
    "left": lambda loader: list(islice(loader, 2)),
    "by an error": lambda loader: [1 // 0 for _ in loader],
    "in a cycle": lambda loader: (hide_in_a_cycle(loader), gc.collect()),
}


@pytest.mark.parametrize("abandon", ABANDONED.values(), ids=ABANDONED)
def test_an_abandoned_epoch_ends_the_thread(abandon):
    with suppress(ZeroDivisionError):
        abandon(PrefetchLoader(Numbers()))
    assert threads() == []


def test_a_closed_iterator_reads_no_further_and_holds_nothing():
    stack, slow = Stack(), {i: lambda: time.sleep(0.03) for i in range(2, 20)}
    batches = iter(PrefetchLoader(Numbers(20, slow), depth=20, collate_fn=stack))
    next(batches)
    wait_until(lambda: stack.made == 2)
    batches.close()
    batches.close()
    assert (threads(), list(batches), len(stack.alive), stack.made < 20) == ([], [], 0, True)


def test_a_collection_in_the_thread_itself_ends_it():
    dropped, collected = threading.Event(), []

    def collect():
        dropped.wait(20)
        collected.append((threading.current_thread().name, gc.collect() > 0))

    gc.disable()
    try:
        hide_in_a_cycle(PrefetchLoader(Numbers(5, {1: collect})))
        dropped.set()
        wait_until(lambda: not threads())
    finally:
        gc.enable()
    assert collected == [(THREAD, True)]


def test_an_interrupted_wait_ends_the_thread():
    main = threading.main_thread().ident
    data = Numbers(9, {3: lambda: signal.pthread_kill(main, signal.SIGINT)})
    with pytest.raises(KeyboardInterrupt):
        list(PrefetchLoader(data))
    assert threads() == []


AT_EXIT = f"""
import atexit, threading, time
from tissueseg.data.loading import PrefetchLoader
atexit.register(lambda: print("{THREAD}" in [t.name for t in threading.enumerate()]))
batches = iter(PrefetchLoader(range(9), collate_fn=lambda items: time.sleep(0.05)))
next(batches)
raise SystemExit(3)
"""


def test_nothing_hangs_at_exit_and_libraries_close_after_the_thread():
    command = [sys.executable, "-c", AT_EXIT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "False\n", "")


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_thread_works_in_the_callers_modes(mode):
    def state(_items):
        return torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    ahead, plain = (make(Numbers(4), collate_fn=state) for make in (PrefetchLoader, DataLoader))
    with mode():
        assert list(ahead) == list(plain)


def test_worker_processes_are_left_alone():
    loader = PrefetchLoader(Numbers(2), num_workers=1, persistent_workers=True)
    assert [batch.tolist() for batch in loader] == [[0], [1]]
    workers = loader._iterator
    assert workers is not None
    assert [batch.tolist() for batch in loader] == [[0], [1]]
    assert loader._iterator is workers  # they persist
    assert threads() == []


def test_a_depth_without_work_ahead_is_refused():
    with pytest.raises(ConfigError, match="depth=0 batches made ahead, wanted 1"):
        PrefetchLoader(Numbers(), depth=0)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("sizes", [((), {"batch_size": 4}), ((4,), {})])
def test_lightning_builds_it_anew_with_another_sampler(watched, sizes):
    data, options = Numbers(10), {"depth": 5, "drop_last": True, "collate_fn": torch.stack}
    with _replace_dunder_methods(DataLoader, "dataset") if watched else nullcontext():
        loader = PrefetchLoader(data, *sizes[0], **sizes[1], **options)
    again = _update_dataloader(loader, EpochShuffle(data, 7))
    assert (type(again), again.depth, again.collate_fn) == (PrefetchLoader, 5, torch.stack)
    assert torch.cat(list(again)).tolist() == list(EpochShuffle(data, 7))[:8]


def test_lightning_sets_the_samplers_epoch():
    data = Numbers(30)
    loader, orders = PrefetchLoader(data, 30, sampler=EpochShuffle(data, 1)), []
    for epoch in (0, 1, 0):
        _set_sampler_epoch(loader, epoch)
        orders.append(next(iter(loader)).tolist())
    assert orders[0] == orders[2] != orders[1]
