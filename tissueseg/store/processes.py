"""Whether a process still runs, told by its id and when it began: systems give ids out again."""

from __future__ import annotations

import os
import platform
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

WITH = "TISSUESEG_WITH"
"""Environment variable: the process that this one ends with, as `this_process` names it."""

WATCHED = "TISSUESEG_WATCHED"
"""Environment variable: a process of ours started this one among others, and says so when one is lost."""

_POLL_S = 0.5
_PATIENCE_S = 30.0
_ENDED = 130  # exit code: interrupted
_ZOMBIE = -1  # stands for the start of a process that is dead, though its parent has not asked yet


def host() -> str:
    """Where process ids mean the same: containers may share a host's name and hosts an image's."""
    parts = [platform.node()]
    with suppress(OSError):  # only Linux tells
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def runs(pid: int, start: int | None = None) -> bool:
    """Whether a process of this host runs.

    Args:
        pid: its id.
        start: what `began` told of it; None: whatever process has the id.
    """
    try:
        with suppress(PermissionError):  # another user's
            os.kill(pid, 0)
    except ProcessLookupError:
        return False
    now = began(pid)
    return now is None or (now != _ZOMBIE and start in (None, now))


def began(pid: int) -> int | None:
    """When a process began, in clock ticks since boot: proc_pid_stat(5); None: not told."""
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    state, *fields = status.rpartition(b")")[2].split()  # before it, the program's own name
    return _ZOMBIE if state in (b"Z", b"X") else int(fields[18])


def this_process() -> str:
    """A name for this process that is given to no other of any host."""
    return f"{os.getpid()} {began(os.getpid()) or 0} {host()}"


def end_with_starter() -> None:
    """Let this process end when the one is gone that `WITH` names: killed, it cannot tell anyone."""
    said = os.environ.pop(WITH, "").split(" ", 2)
    if len(said) < 3 or said[2] != host():
        return

    def watch() -> None:
        while runs(int(said[0]), int(said[1]) or None):
            time.sleep(_POLL_S)
        os.write(2, b"the process that started this one is gone: it ends, too\n")
        os.kill(os.getpid(), signal.SIGTERM)  # a training keeps its state first
        time.sleep(_PATIENCE_S)
        os._exit(_ENDED)

    threading.Thread(target=watch, daemon=True).start()
