"""Whether a process still runs, told by its id and when it began: systems give ids out again."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

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
