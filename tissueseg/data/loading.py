"""A dataloader whose batches one thread makes ahead of the training step.

Reading and stacking release the interpreter's lock, so that one thread hides them behind the step.
Worker processes hand every batch over through shared memory instead, at some 1 GB/s: too slow for
features that come from disk as they are.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from tissueseg.errors import ConfigError

T_co = TypeVar("T_co", covariant=True)

THREAD = "tissueseg-prefetch"
"""Name of the thread, as debuggers show it."""

PATIENCE_S = 5.0
"""How long an abandoned epoch waits for the read under way; a read that hangs must not hang us."""


class PrefetchLoader(DataLoader[T_co]):
    """A `DataLoader` that works ahead without worker processes too.

    Batches, their order and what is drawn from torch's global generator are the plain loader's,
    provided that the dataset itself draws nothing from it. An error ends the epoch.

    Args:
        dataset: read by one thread at a time, which is not always the caller's.
        args: of `DataLoader`, after the dataset.
        depth: batches made ahead, the one being made included. Worker processes work ahead themselves:
            with `num_workers` > 0 it counts those being finished, and has no part without `finish`.
        finish: what is still to be done with each batch, in this process, wherever it was made: on the
            thread, the first one in the caller's. None: nothing.
        kwargs: of `DataLoader`; with `persistent_workers` an epoch ends when the next one begins, as
            both read from the same workers.

    Raises:
        ConfigError: depth is less than 1.
    """

    def __init__(
        self,
        dataset: Dataset[T_co],
        *args: Any,
        depth: int = 2,
        finish: Callable[[T_co], T_co] | None = None,
        **kwargs: Any,
    ) -> None:
        if depth < 1:
            raise ConfigError(
                f"depth={depth} batches made ahead, wanted 1 or more: choose depth=2, or a DataLoader."
            )
        super().__init__(dataset, *args, **kwargs)
        self.finish = finish
        self.depth = depth  # Lightning builds loaders anew from attributes named like arguments
        self._reader: _Reader[T_co] | None = None  # of persistent workers
        self._handed = 0  # batches of this epoch
        self._skipped = 0  # of the next

    def state_dict(self) -> dict[str, Any]:
        """How many batches of this epoch were handed over, those that were skipped included."""
        return {"batches": self._handed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin the next epoch behind so many batches; the sampler must be able to."""
        self._skipped = state_dict["batches"]
        skip: Callable[[int], None] = self.sampler.skip  # pyright: ignore[reportAttributeAccessIssue]
        skip(self._skipped * (self.batch_size or 1))

    def __iter__(self) -> Iterator[T_co]:
        if self._reader is not None:
            self._reader.stop(patience_s=None)  # it must not take what its workers make next
        self._handed, self._skipped = self._skipped, 0
        batches = super().__iter__()
        if self.finish is not None:
            batches = map(self.finish, batches)
        elif self.num_workers:
            return map(self._count, batches)
        reader = _Reader(batches, self.depth, self.pin_memory)
        if self.persistent_workers:
            self._reader = reader
        return PrefetchIterator(reader, self._count)

    def _count(self, batch: T_co) -> T_co:  # pyright: ignore[reportGeneralTypeIssues]
        self._handed += 1
        return batch


class PrefetchIterator(Iterator[T_co]):
    """One epoch of a `PrefetchLoader`; its thread ends with it, however it ends."""

    def __init__(self, reader: _Reader[T_co], hand: Callable[[T_co], T_co]) -> None:
        self._reader, self._hand = reader, hand
        self._finish = weakref.finalize(self, reader.stop)

    def __next__(self) -> T_co:
        try:
            return self._hand(self._reader.take())
        except BaseException:  # the end, an error of the dataset's, or Ctrl-C
            self.close()
            raise

    def close(self) -> None:
        """End the thread, and let go of the batches that were made ahead."""
        self._finish()


class _Made(NamedTuple):
    """What one turn of the thread came to."""

    batch: Any
    error: BaseException | None  # StopIteration at the end


class _Modes(NamedTuple):
    """What torch keeps for every thread apart."""

    grad: bool
    inference: bool
    device: int | None  # None: nothing is pinned

    @classmethod
    def current(cls, pin_memory: bool) -> _Modes:
        """Those of the calling thread."""
        pins = pin_memory and torch.accelerator.is_available()
        device = torch.accelerator.current_device_index() if pins else None
        return cls(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), device)


class _Reader(Generic[T_co]):
    """What iterator and thread share; it knows no iterator, which could never be collected else.

    `SimpleQueue` is the one queue that may be used while garbage is collected, in whatever thread.
    """

    def __init__(self, batches: Iterator[T_co], depth: int, pin_memory: bool) -> None:
        self._batches, self._depth = batches, depth
        self._wanted: SimpleQueue[bool] = SimpleQueue()  # one entry for every batch to make
        self._made: SimpleQueue[_Made] = SimpleQueue()
        self._modes = _Modes.current(pin_memory)
        self._thread: threading.Thread | None = None
        self._stopped = False

    def take(self) -> T_co:
        """The next batch, or the error that the thread met.

        The first is made here. It has to be waited for anyway, and samplers draw their seeds with it:
        these come from the global generator when the plain loader takes them, not at some later time.
        """
        if self._stopped:
            raise StopIteration
        if self._thread is None:
            batch = next(self._batches)
            self._start()
            return batch
        batch, error = self._made.get()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame
        self._wanted.put(True)
        return batch

    def stop(self, patience_s: float | None = PATIENCE_S) -> None:
        """End the thread once the read under way is done; again is harmless."""
        self._stopped = True
        self._wanted.put(False)
        atexit.unregister(self.stop)
        # The thread itself comes here when garbage is collected in it.
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(patience_s)
        self._made = SimpleQueue()

    def _start(self) -> None:
        for _ in range(self._depth):
            self._wanted.put(True)
        # A daemon, since others are joined before any handler runs at exit, parked as they are. The
        # handler is registered late to run before those of the libraries that the thread reads with.
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def _run(self) -> None:
        grad, inference, device = self._modes
        if device is not None:
            torch.accelerator.set_device_index(device)  # else device 0 is woken by every process
        with torch.inference_mode(inference), torch.set_grad_enabled(grad):
            going = True
            while going and self._wanted.get() and not self._stopped:
                going = self._make()

    def _make(self) -> bool:
        """Make one batch, which nothing here holds afterwards; whether there may be another."""
        try:
            self._made.put(_Made(next(self._batches), None))
        except BaseException as error:  # the caller's to handle
            self._made.put(_Made(None, error))
            return False
        return True
