"""A command in several processes, one a device: started here, by `srun` or by `torchrun`.

Every process runs the same command line. Those started elsewhere are found by their environment, as
torch and SLURM name things; started here, they are given torch's names, and end with this process.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple
from uuid import uuid4

from omegaconf import DictConfig

from tissueseg.composition import task_words
from tissueseg.errors import ConfigError, in_one_line
from tissueseg.store.processes import WATCHED, WITH, this_process

_HERE = "127.0.0.1"
_PATIENCE_S = 10.0  # with the others, when one has ended badly: their own message may be on its way
_POLL_S = 0.05
_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


class Rank(NamedTuple):
    """Which of the processes this is that do one job together."""

    number: int = 0
    of: int = 1
    local: int = 0  # on its machine, whose device of that number it has
    address: str = _HERE  # where rank 0 listens
    port: int = 0


def this_rank(environment: Mapping[str, str] = os.environ) -> Rank | None:
    """What the environment says of this process; None: nobody started it as one of several.

    A SLURM step of one task is none, as submitit starts them, and a script without `srun`; nor are
    pods of a training operator, which have no LOCAL_RANK: `torchrun` starts the processes in them.

    Raises:
        ConfigError: a SLURM step that does not say how many tasks a node has.
    """
    if "RANK" in environment and "LOCAL_RANK" in environment and "WORLD_SIZE" in environment:
        number, of, local = (int(environment[k]) for k in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        address, port = environment.get("MASTER_ADDR", _HERE), environment.get("MASTER_PORT", 29500)
        return Rank(number, of, local, address, int(port))
    if int(environment.get("SLURM_STEP_NUM_TASKS") or 1) < 2:
        return None
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    try:
        slurm = SLURMEnvironment(auto_requeue=False)
    except RuntimeError as error:  # --ntasks, where Lightning wants --ntasks-per-node
        raise ConfigError(f"SLURM: {in_one_line(error)}.") from error
    number, local = int(environment["SLURM_PROCID"]), int(environment["SLURM_LOCALID"])
    of = int(environment["SLURM_STEP_NUM_TASKS"])
    return Rank(number, of, local, slurm.main_address, slurm.main_port)


def begin_ranks(module: str, config: DictConfig) -> Rank | None:
    """Find this process's place among several, or start them and end with them.

    Args:
        module: of the command.
        config: with `trainer`.

    Returns:
        None: it is alone.

    Raises:
        ConfigError: machines that nobody started processes on, or another number of processes.
    """
    from tissueseg.devices import chosen_devices

    if count := ranks_to_start(config):
        sys.exit(start_ranks(module, task_words(), count))
    if (rank := this_rank()) is None:
        return None
    check_ranks(config, rank, len(chosen_devices(config)))
    return rank if rank.of > 1 else None


def ranks_to_start(config: DictConfig) -> int:
    """How many processes this one is to start; 0: it is one of them, or all there is.

    Args:
        config: with `trainer`.

    Raises:
        ConfigError: machines that nobody started processes on.
    """
    from tissueseg.devices import chosen_devices

    devices = len(chosen_devices(config))
    if this_rank() is not None:
        return 0
    if (nodes := config.trainer.get("num_nodes", 1)) > 1:
        raise ConfigError(
            f"trainer.num_nodes={nodes}: start the command on every machine, by srun (see slurm/) or "
            "torchrun."
        )
    return devices if devices > 1 else 0


def computes_on_cuda(config: DictConfig) -> bool:
    """Whether `trainer` means CUDA on this machine."""
    import torch

    return config.trainer.accelerator != "cpu" and torch.cuda.is_available()


def check_ranks(config: DictConfig, rank: Rank, devices: int) -> None:
    """Refuse processes that were started elsewhere in another number than the configuration says.

    Args:
        config: with `trainer`.
        rank: of this process.
        devices: that each machine gives.

    Raises:
        ConfigError: some would wait for others for ever.
    """
    nodes = config.trainer.get("num_nodes", 1)
    if devices * nodes != rank.of:
        raise ConfigError(
            f"{rank.of} processes were started, but trainer.devices={config.trainer.devices} and "
            f"trainer.num_nodes={nodes} make {devices * nodes}: with SLURM choose trainer=slurm, which "
            "takes both from the job; with torchrun give it what these say."
        )


def start_ranks(module: str, words: Sequence[str], count: int, together: bool = True) -> int:
    """Run a command in several processes of this machine, and wait for them.

    A signal to this process is passed on to all of them, once each time.

    Args:
        module: of the command.
        words: of its command line.
        count: of processes.
        together: when one ends badly, the others are given some seconds to do so too, and are then
            killed, as they would wait for it; False: they go on.

    Returns:
        The exit code of the first that ended badly, or the highest of those that went on; 128 + n
        where signal n ended it.
    """
    command = [sys.executable, "-m", module, *words]
    environment = os.environ | {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": _HERE,
        "MASTER_PORT": str(_free_port()),
        WATCHED: uuid4().hex,
        WITH: this_process(),
    }
    environment.setdefault("OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // count, 1)))
    started: list[subprocess.Popen[bytes]] = []
    with _forwarding(started) as passed_on:
        for number in range(count):
            place = {"RANK": str(number), "LOCAL_RANK": str(number)}
            # A group of its own: Ctrl-C in a terminal would reach it twice, from there and from here.
            started.append(
                subprocess.Popen(command, env=environment | place, process_group=0)  # noqa: S603
            )
        try:
            return _watched(started) if together else _waited_for(started, passed_on)
        finally:
            for process in started:
                process.kill()
                process.wait()


def _watched(started: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for all; kill those that are left some time after one has ended badly."""
    worst, until = 0, float("inf")
    while any(process.poll() is None for process in started) and time.monotonic() < until:
        worst = worst or _first_bad(started)
        if worst and until == float("inf"):
            until = time.monotonic() + _PATIENCE_S
        time.sleep(_POLL_S)
    return worst or _first_bad(started)


def _first_bad(started: Sequence[subprocess.Popen[bytes]]) -> int:
    for number, process in enumerate(started, 1):
        code = process.poll()
        if code is not None and code < 0:
            _tell(number, len(started), -code, "the others cannot go on, and are stopped")
            return 128 - code
        if code:
            return code
    return 0


def _waited_for(started: Sequence[subprocess.Popen[bytes]], passed_on: Container[int]) -> int:
    """Let each come to its end; the highest exit code."""
    running, codes = dict(enumerate(started, 1)), [0]
    while running:
        time.sleep(_POLL_S)
        for number, process in [*running.items()]:
            if (code := process.poll()) is None:
                continue
            del running[number]
            codes.append(128 - code if code < 0 else code)
            if code < 0 and -code not in passed_on:
                then = "the others go on. Start the same command again for what they leave"
                _tell(number, len(started), -code, then)
    return max(codes)


def _tell(number: int, count: int, sent: int, then: str) -> None:
    name = signal.Signals(sent).name
    out_of_memory = ", as systems do that are out of memory" if name == "SIGKILL" else ""
    sys.stderr.write(
        f"error: process {number} of {count} was ended by {name}{out_of_memory}: {then}.\n"
    )


@contextmanager
def _forwarding(started: Sequence[subprocess.Popen[bytes]]) -> Iterator[set[int]]:
    """Pass signals on, and go on waiting; the set is of those that were."""
    passed_on: set[int] = set()

    def forward(number: int, frame: FrameType | None) -> None:
        passed_on.add(number)
        for process in started:
            process.send_signal(number)  # does nothing to one that has ended

    before = {
        number: signal.signal(number, forward)
        for number in _FORWARDED
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield passed_on
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind((_HERE, 0))
        return found.getsockname()[1]
