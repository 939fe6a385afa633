"""One process that imports everything once and forks a child for each `embed`, to be killed at will.

It is killed from outside in the midst of its work, or kills itself between two changes of files. Run as
a script this is that process; `Forks` talks to it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

KILLED = -signal.SIGKILL
SLOW_S = 0.004  # for each batch that is encoded and each chunk that is written
CHANGES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.utime"}


class Forks:
    """Runs `embed` in the folders of cohorts."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, __file__]
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self._answer()

    def embed(self, folder: Path, words: Sequence[str], count: int = 1) -> list[int]:
        """Exit codes of so many commands at once; each prints into `out.<number>` there."""
        return self._ask(folder, words, "whole", 0, count)

    def kill(self, folder: Path, words: Sequence[str], when: str, number: float) -> int:
        """Exit code of a command that is killed.

        Args:
            folder: to run in.
            words: of the command line.
            when: `at work`: after so many batches and chunks; `changing`: before that change of a file;
                `publishing`: so many changes behind the one by which a tissue appears.
            number: of these.
        """
        return self._ask(folder, words, when, number, 1)[0]

    def close(self) -> None:
        """Let the process end."""
        self.process.communicate()

    def _ask(self, *given: Any) -> list[int]:
        folder, words, when, number, count = given
        assert self.process.stdin is not None
        print(folder, when, number, count, *words, sep="\t", file=self.process.stdin, flush=True)
        return [int(word) for word in self._answer().split()]

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


def serve() -> None:
    """Answer each line with exit codes."""
    import pytest
    import torch
    from quick_composing import compose_quickly

    from tissueseg import assembly, embed, embedding_job, features, preflight
    from tissueseg.modules import embedding
    from tissueseg.store import embedding_writer

    torch.set_num_threads(1)
    compose_quickly(pytest.MonkeyPatch())
    job = (embedding_job, embedding, embedding_writer)
    print("ready with", assembly, embed, features, preflight, *job, flush=True)
    for line in sys.stdin:
        folder, when, number, count, *words = line.rstrip("\n").split("\t")
        told, tell = os.pipe()
        given = (folder, words, when, float(number), tell)
        children = [fork(f"out.{i}", *given) for i in range(int(count))]
        os.close(tell)
        if when == "at work" and all(os.read(told, 1) for _ in range(int(float(number)))):
            time.sleep(SLOW_S * (float(number) % 1))
            os.kill(children[0], signal.SIGKILL)
        ends = [os.waitpid(child, 0)[1] for child in children]
        print(*map(os.waitstatus_to_exitcode, ends), flush=True)
        os.close(told)


def fork(*given: Any) -> int:
    """The id of a child that runs the command."""
    if child := os.fork():
        return child
    code = 1
    try:
        run(*given)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def run(out: str, folder: str, words: list[str], when: str, number: float, tell: int) -> None:
    """The command, slowed down, with whatever is to kill it."""
    from tissueseg.command import run_command
    from tissueseg.embed import embed
    from tissueseg.encoders.tiny import TinyEncoder
    from tissueseg.store import shard_file

    os.chdir(folder)
    sink = os.open(out, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    TinyEncoder.encode = slowly(TinyEncoder.encode, tell)
    shard_file.checksum = slowly(shard_file.checksum, tell)
    if when == "changing":
        kill_before(Countdown(number))
    if when == "publishing":
        kill_before(Behind(number))
    sys.argv = ["tissueseg.embed", *words]
    run_command("embed", embed)


def slowly(what: Callable[..., Any], tell: int) -> Any:
    """The same, told to the parent and then slowed down."""

    def slow(*given: Any) -> Any:
        os.write(tell, b".")
        time.sleep(SLOW_S)
        return what(*given)

    return slow


def kill_before(is_moment: Callable[[str, Sequence[str]], bool]) -> None:
    """Ask before every change in the folder of features whether that is the moment."""

    def audit(event: str, given: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (event == "open" and given[2] & (os.O_WRONLY | os.O_RDWR))
        ours = changes and "_embeddings" in str(given[0])
        if ours and is_moment(event, [str(part) for part in given]):
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(audit)


class Countdown:
    """The change of this number, from 1 on."""

    def __init__(self, number: float) -> None:
        self._left = number

    def __call__(self, event: str, given: Sequence[str]) -> bool:
        self._left -= 1
        return self._left == 0


class Behind:
    """So many changes behind the rename by which a tissue appears, which is 0."""

    def __init__(self, steps: float) -> None:
        self._left: float | None = None
        self._steps = steps

    def __call__(self, event: str, given: Sequence[str]) -> bool:
        if self._left is not None:
            self._left -= 1
        elif event == "os.rename" and "/tissues/" in given[0] and ".work" not in given[1]:
            self._left = self._steps
        return self._left == 0


if __name__ == "__main__":
    serve()
