"""One process that imports everything once and forks a child for each command, to be ended at will.

Run as a script this is that process; `Commands` talks to it. A child is killed after some time, before a
certain change of a file or in the midst of the write that follows it; or it finds the disk full from
there on.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

KILLED = {-signal.SIGKILL, -signal.SIGXFSZ}
NAMES = ("train", "embed", "predict")
ANSWER_S = 200.0
PATIENCE_S = 20.0
ROOM = 64  # bytes that a file still takes when the disk is full
_CHANGES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.utime", "os.link"}


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    said: str  # on standard output and error
    seconds: float
    changes: int  # of files below its folder, if it came so far as to tell


class Commands:
    """Runs commands in folders.

    Args:
        environment: beside this process's own.
    """

    def __init__(self, **environment: str) -> None:
        pipe = subprocess.PIPE
        command = [sys.executable, __file__]
        environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
        given: Any = {"env": environment, "text": True, "start_new_session": True}
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, **given)
        self._answer()

    def run(self, folder: Path, name: str, *words: str, **moment: Any) -> Ended:
        """Run one command.

        Args:
            folder: to run it in.
            name: of the command.
            words: of its command line.
            moment: `kill_s`: killed after so many seconds; `kill_at`: before this change of a file below
                the folder, from 1 on; `cut_at`: by the first write behind it, of which a part arrives;
                `full_at`: no file takes more from there on, or the `<event> <expression for its end>`;
                `send`: epoch, batch and the signal that comes to a training then; `spoil`: epoch and
                batch whose last tile becomes no number, which is said; `patience_s`: with
                other processes of a job; `environment`: on top.
        """
        return self.at_once([order(folder, name, *words, **moment)])[0]

    def at_once(self, orders: Sequence[Mapping[str, Any]]) -> list[Ended]:
        """Run several commands, each as `order` says, that begin at the same moment."""
        assert self._process.stdin is not None
        print(json.dumps(orders), file=self._process.stdin, flush=True)
        return [Ended(*given) for given in json.loads(self._answer())]

    def close(self) -> None:
        """Let the process end, with what it may have left."""
        try:
            self._process.communicate(timeout=PATIENCE_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], ANSWER_S)[0]:
            os.killpg(self._process.pid, signal.SIGKILL)
            raise TimeoutError(f"commands that ended within {ANSWER_S} s were expected")
        return self._process.stdout.readline()


def order(folder: Path, name: str, *words: str, **moment: Any) -> dict[str, Any]:
    """What `Commands.run` is given, as a message."""
    return {"folder": str(folder), "name": name, "words": words, **moment}


def serve() -> None:
    """Answer each line of orders with how their commands ended."""
    import torch

    from tissueseg.modules import resumption

    torch.set_num_threads(1)
    resumption._SHARE = 0  # states of a run this small take more time than its steps
    for name in NAMES:
        importlib.import_module(f"tissueseg.{name}")
    for part in ("training", "run_folder", "features", "modules.embedding", "prediction_job"):
        importlib.import_module(f"tissueseg.{part}")
    print("ready", flush=True)
    for line in sys.stdin:
        children = [Child(order) for order in json.loads(line)]
        print(json.dumps([child.wait() for child in children]), flush=True)
        for name in {name for child in children for name in child.imported} - {*sys.modules}:
            importlib.import_module(name)  # late there, and early in those to come


class Child:
    """A command that runs."""

    def __init__(self, order: dict[str, Any]) -> None:
        self._order, self._began = order, time.monotonic()
        self.imported: list[str] = []
        self._said, say = os.pipe()  # a pipe takes what is said when no file takes anything
        self._told, tell = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            run_forked(order, say, tell)
        os.close(say)
        os.close(tell)

    def wait(self) -> Ended:
        """Kill it if it is to be, and wait for its end and that of those it started."""
        if kill_s := self._order.get("kill_s"):
            time.sleep(max(self._began + kill_s - time.monotonic(), 0))
            os.kill(self.pid, signal.SIGKILL)
        if self._order.get("send", [])[2:] == [signal.SIGSTOP]:  # those before it have ended
            os.kill(self.pid, signal.SIGKILL)
        with os.fdopen(self._said, encoding="utf-8") as said, os.fdopen(self._told) as told:
            text, (changes, *self.imported) = said.read(), told.read().split() or ["0"]
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return Ended(code, text, time.monotonic() - self._began, int(changes))


def run_forked(order: dict[str, Any], say: int, tell: int) -> None:
    """Run the command and end."""
    code, seen, known = 1, Changes(order), {*sys.modules}
    try:
        os.chdir(order["folder"])
        os.environ.update(order.get("environment", {}))
        os.dup2(say, 1)
        os.dup2(say, 2)
        if "cut_at" in order:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.addaudithook(seen)
        befall(order)
        run_command_line(order["name"], order["words"])
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        late = [n for n, m in [*sys.modules.items()] if n not in known and found_again(n, m)]
        with os.fdopen(tell, "w") as told:
            told.write(" ".join([str(seen.count), *(late if code == 0 else [])]))
        os._exit(code)


def found_again(name: str, module: Any) -> bool:
    """Whether another process can import a module by its name."""
    spec = getattr(module, "__spec__", None)
    return spec is not None and spec.name == name and bool(spec.has_location)


def run_command_line(name: str, words: Sequence[str]) -> None:
    """As from the shell."""
    from tissueseg.command import run_command

    job = getattr(importlib.import_module(f"tissueseg.{name}"), name)
    sys.argv = [f"tissueseg.{name}", *words]
    run_command(name, job)


def befall(order: Mapping[str, Any]) -> None:
    """Let something happen before a batch that is trained on."""
    from tissueseg.modules import group
    from tissueseg.modules.segmentation import SegmentationModule

    step, send, spoil = SegmentationModule.training_step, order.get("send"), order.get("spoil")

    def noting(self: SegmentationModule, batch: Any, batch_idx: int) -> Any:
        place = [self.current_epoch, batch_idx]
        if send and place == send[:2]:
            os.kill(os.getpid(), send[2])
        if spoil == place:
            print("spoilt: row {}, column {}".format(*batch.origin[-1].tolist()), flush=True)
            self.decoder.register_forward_hook(no_numbers)
        return step(self, batch, batch_idx)

    SegmentationModule.training_step = noting
    if patience_s := order.get("patience_s"):
        group.PATIENCE = timedelta(0, patience_s)


def no_numbers(decoder: Any, given: Any, outputs: Mapping[str, Any]) -> None:
    """Spoil what a decoder made of a batch's last tile."""
    for logits in outputs.values():
        logits.data[-1] = float("nan")


class Changes:
    """Counts changes of files below the folder, and does what is to be done before one of them."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self.count = 0
        moments = {"kill_at": _die, "cut_at": _fill_the_disk, "full_at": _fill_the_disk}
        self._at = {order[key]: do for key, do in moments.items() if key in order}
        self._below = os.path.realpath(order["folder"])

    def __call__(self, event: str, given: tuple[Any, ...]) -> None:
        changes = event in _CHANGES or (
            event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if not changes or not isinstance(given[0], str | os.PathLike):
            return
        path = str(Path.cwd() / given[0])
        if path.startswith(self._below):
            self.count += 1
            for at, do in self._at.items():
                if at == self.count or (isinstance(at, str) and is_moment(at, event, path)):
                    do()


def is_moment(said: str, event: str, path: str) -> bool:
    """Whether a change is the one that is said as `<event> <expression that the path's end matches>`."""
    wanted, _, end = said.partition(" ")
    return event == wanted and re.search(f"/{end}$", path) is not None


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fill_the_disk() -> None:
    """No file grows any more, be it written by C++; to try is the end where SIGXFSZ is not ignored."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, most))


if __name__ == "__main__":
    serve()
