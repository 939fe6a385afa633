"""Processes that do one job together, and what they tell each other; one alone tells itself.

They meet before anything is opened, so that the first looks at everything first: what is wrong is then
said once, and what has to be made once (a demo, counts of a store, the run folder) is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from tissueseg.errors import PeerLostError, TissuesegError, UnreachableError, in_one_line

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""With one that does not answer; the first look at a large cohort takes a while. One that ends is missed
at once, as its connections are closed."""

_GONE = (
    "closed by peer",
    "reset by peer",
    "broken pipe",
    "connection closed",
    "connection refused",
)


class Group:
    """The processes of a job, of which this is one.

    Args:
        number: of this process; 0 speaks and writes for all.
        of: how many there are.
    """

    def __init__(self, number: int = 0, of: int = 1) -> None:
        self.number, self.of = number, of

    @property
    def leads(self) -> bool:
        """Whether this is the one that speaks and writes."""
        return self.number == 0

    def told(self, value: T) -> T:
        """What the leader gives here; the others' own is not heard."""
        if self.of == 1:
            return value
        heard = [value]
        dist.broadcast_object_list(heard, src=0, device=torch.device("cpu"))
        return heard[0]

    def gathered(self, value: T) -> list[T]:
        """What each gives here, by number."""
        if self.of == 1:
            return [value]
        heard: list[Any] = [None] * self.of
        dist.all_gather_object(heard, value)
        return heard

    def highest(self, value: int) -> int:
        """The highest that any of them gives here."""
        if self.of == 1:
            return value
        found = torch.tensor(value)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def in_turn(self, job: Callable[[], T]) -> T:
        """What a job makes, done by the leader first and then by the others.

        Raises:
            PeerLostError: in the others, when the leader could not do it.
        """
        if not self.leads:
            if not self.told(False):
                raise PeerLostError("the first process of this job has ended: see what it says.")
            return job()
        try:
            made = job()
        except BaseException:
            self.told(False)
            raise
        self.told(True)
        return made


ALONE = Group()


@contextmanager
def joined(number: int, of: int, local: int, cuda: bool) -> Iterator[Group]:
    """Meet the other processes, under the address that the environment names; part at the end.

    Args:
        number: of this process.
        of: how many there are; with 1 there is nobody to meet.
        local: number of its CUDA device.
        cuda: whether it computes on one.

    Raises:
        PeerLostError: another process is gone.
    """
    if of == 1:
        yield ALONE
        return
    if cuda:
        torch.cuda.set_device(local)
    met = False
    try:
        # What processes tell each other goes by gloo; gradients by what their device has.
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            rank=number,
            world_size=of,
            timeout=PATIENCE,
        )
        met = True
        yield Group(number, of)
        dist.destroy_process_group()  # after an error, it would wait for those that are gone
    except TissuesegError:
        raise
    except RuntimeError as error:
        said = in_one_line(error)
        if not (isinstance(error, dist.DistError) or "gloo" in said.lower()):
            raise
        if any(words in said.lower() for words in _GONE):
            raise PeerLostError(
                "another process of this job has ended: see what it says."
            ) from error
        if met and "timed out" in said.lower():
            raise PeerLostError(
                f"another process of this job has not answered for {PATIENCE}: it hangs, or its machine "
                "does."
            ) from error
        raise UnreachableError(
            f"the processes of this job do not reach each other ({said[:300]}): if machines have several "
            "networks, name the one to take in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME."
        ) from error


def seed_draws(seed: int, epoch: int, number: int) -> None:
    """Let what networks draw (dropout) follow seed, epoch and process alone.

    A run that goes on with an epoch then draws what it would have drawn, whatever was drawn before.
    """
    key = np.random.SeedSequence((seed, epoch, number))
    torch.manual_seed(int(key.generate_state(1, np.uint64)[0] >> np.uint64(1)))


def rank_draws() -> dict[str, Any]:
    """Where torch's generators stand in this process."""
    found: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        found["cuda"] = torch.cuda.get_rng_state()
    return found


def set_draws(found: dict[str, Any]) -> None:
    """Go on drawing where `rank_draws` saw the generators."""
    torch.set_rng_state(found["cpu"])
    if "cuda" in found and torch.cuda.is_available():
        torch.cuda.set_rng_state(found["cuda"])
