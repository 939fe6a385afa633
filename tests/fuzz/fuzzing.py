"""Reads spoilt files for as long as is asked, and tells clear errors from crashes.

Input n is made from seed n alone. Reading happens in a child process, so that one that dies, hangs
or eats the memory is an input like any other. An error of `tissueseg.errors` refuses an input; whatever
else is raised is a crash, counted once per line that raises it.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from tissueseg.errors import TissuesegError

PATIENCE_S = 20
ROOM_BYTES = 6 << 30
_NUMBERS = (b"\0", b"\xff", b"\x7f", b"\x80", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f")
_WORDS = (
    b"-1",
    b"0",
    b"nan",
    b"1e308",
    b"99999999999",
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"\xc3\xa9",
    b"\n",
)

Make = Callable[[Random, Path], Any]
Read = Callable[[Any], object]


class Crash(NamedTuple):
    """An input that was neither read nor refused."""

    number: int
    where: str  # its error and the line that raised it, or the signal the process died of
    trace: str


class Fuzzed(NamedTuple):
    """What became of the inputs."""

    seconds: float  # of CPU time
    read: int
    refused: int
    reasons: dict[str, str]  # by the kind of error and the line that raised it, one message each
    crashes: dict[str, Crash]


def minutes() -> float:
    """Minutes of CPU time for a kind of file: FUZZ_MINUTES, or a tenth."""
    return float(os.environ.get("FUZZ_MINUTES", 0.1))


def spoil(random: Random, data: bytes, others: Sequence[bytes] = (), words: bool = False) -> bytes:
    """Change bytes at up to eight places, now and then none at all.

    Args:
        random: decides.
        data: of a good file.
        others: files that pieces are taken from.
        words: whether to put in words of text as well as bytes.
    """
    spoilt = bytearray(data)
    for _ in range(random.choice((0, 1, 1, 1, 2, 4, 8))):
        start = random.randrange(len(spoilt) + 1)
        length = min(random.choice((1, 1, 2, 4, 16, 256)), len(spoilt) - start)
        end = start + length
        match random.randrange(8):
            case 0 if length:
                spoilt[start] ^= 1 << random.randrange(8)
            case 1:
                spoilt[start:end] = random.randbytes(length)
            case 2:
                number = random.choice(_NUMBERS)
                spoilt[start : start + len(number)] = number
            case 3:
                del spoilt[start:end]
            case 4:
                spoilt[start:start] = spoilt[start:end]
            case 5:
                del spoilt[start:]
            case 6 if others:
                other = random.choice(others)
                at = random.randrange(len(other) + 1)
                spoilt[start:end] = other[at : at + length]
            case 7 if words:
                spoilt[start:end] = random.choice(_WORDS)
    return bytes(spoilt)


def fuzz(make: Make, read: Read, folder: Path, first: int = 0, count: int | None = None) -> Fuzzed:
    """Make and read inputs until `minutes` are over, or `count` of them.

    Args:
        make: writes an input below a folder and returns what `read` is given.
        read: reads it.
        folder: for inputs; those that crash are kept.
        first: number of the first input.
        count: of inputs; None: as many as fit.
    """
    context = multiprocessing.get_context("fork")
    folder.mkdir(parents=True, exist_ok=True)
    total, number = Fuzzed(0.0, 0, 0, {}, {}), first
    last = None if count is None else first + count
    while (left := minutes() * 60 - total.seconds) > 0 and (last is None or number < last):
        at = context.RawValue("q", number)
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(make, read, folder, at, last, left, sender))
        child.start()
        sender.close()
        with receiver:
            for found in _received(receiver):
                total = _sum(total, found)
        child.join()
        if child.exitcode:
            code = child.exitcode
            where = f"process ended by {signal.Signals(-code).name if code < 0 else code}"
            total.crashes.setdefault(where, Crash(at.value, where, ""))
        number = at.value + 1
    return total


def _received(receiver: Any) -> Iterator[Fuzzed]:
    with suppress(EOFError):
        while True:
            yield receiver.recv()


def _sum(one: Fuzzed, other: Fuzzed) -> Fuzzed:
    numbers = (a + b for a, b in zip(one[:3], other[:3], strict=True))
    return Fuzzed(*numbers, other.reasons | one.reasons, other.crashes | one.crashes)


def _child(
    make: Make, read: Read, folder: Path, at: Any, last: int | None, left: float, sender: Any
) -> None:
    """Tell of every input before the next: one that ends the process takes nothing along."""
    resource.setrlimit(resource.RLIMIT_AS, (ROOM_BYTES, ROOM_BYTES))
    signal.signal(signal.SIGALRM, _too_long)
    known: set[str] = set()
    told = 0.0  # starting counts, or a rest too small to start in would never be used up
    while told < left and (last is None or at.value < last):
        place = folder / str(at.value)
        place.mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # a reader's warnings are errors here, a maker's are not
            given = make(Random(at.value), place)
        found = _tried(read, given, at.value)
        where = [*found.reasons, *found.crashes]
        if not (found.crashes and known.isdisjoint(where)):
            shutil.rmtree(place)
        if not known.isdisjoint(where):
            found = found._replace(reasons={}, crashes={})
        known |= {*where}
        now = time.process_time()
        sender.send(found._replace(seconds=now - told))
        told = now
        at.value += 1
    at.value -= 1


def _tried(read: Read, given: Any, number: int) -> Fuzzed:
    signal.alarm(PATIENCE_S)
    try:
        read(given)
        return Fuzzed(0.0, 1, 0, {}, {})
    except TissuesegError as error:
        return Fuzzed(0.0, 0, 1, {_where(error): str(error)}, {})
    except BaseException as error:
        where = _where(error)
        return Fuzzed(0.0, 0, 0, {}, {where: Crash(number, where, traceback.format_exc())})
    finally:
        signal.alarm(0)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"{PATIENCE_S} s were not enough")


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "tissueseg" in frame.filename] or list(frames)
    frame = ours[-1]
    return f"{type(error).__name__} {Path(frame.filename).name}:{frame.lineno}"
