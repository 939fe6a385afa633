"""Two processes of a group, forked from a test: what each makes, or what went wrong in one."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tissueseg.modules.group import Group

FORK = multiprocessing.get_context("fork")
PATIENCE_S = 60


def in_two(job: Callable[[Group], Any], folder: Path) -> list[Any]:
    """What a job makes in each of two processes; numbers and arrays, for they are sent back.

    Args:
        job: called in both, with their group.
        folder: where they meet.
    """
    pipes = [FORK.Pipe(duplex=False) for _ in range(2)]
    started = [
        FORK.Process(target=_member, args=(job, number, folder / "meeting", sender))
        for number, (_, sender) in enumerate(pipes)
    ]
    for process in started:
        process.start()
    made = [receiver.recv() if receiver.poll(PATIENCE_S) else None for receiver, _ in pipes]
    for process in started:
        process.kill()
        process.join()
    for answer in made:
        assert answer is not None, "a process did not answer"
        assert answer[0] == "made", answer[1]
    return [answer[1] for answer in made]


def _member(job: Callable[[Group], Any], number: int, meeting: Path, sender: Connection) -> None:
    try:
        wait = timedelta(seconds=PATIENCE_S)
        dist.init_process_group("gloo", f"file://{meeting}", wait, rank=number, world_size=2)
        sender.send(("made", job(Group(number, 2))))
        dist.destroy_process_group()
    except BaseException:
        sender.send(("failed", traceback.format_exc()))
    os._exit(0)  # nothing of the test that was forked is ended twice
