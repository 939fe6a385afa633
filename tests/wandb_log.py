"""Reads an offline W&B run back, as `wandb sync` would send it.

A `.wandb` file is a log framed as LevelDB's: 7 bytes of header, then blocks of 32 KiB holding chunks,
each with a checksum, a length and whether it begins or ends a record. A record is a message of W&B's.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32 * 1024
FILE_HEADER = struct.Struct("<4sHB")  # ":W&B", magic, version
HEADER = struct.Struct("<IHB")  # checksum, length, type
TRIES, PAUSE_S = 500, 0.02
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class OfflineRun:
    """What a run sent, or will."""

    folder: Path
    about: Any = None  # RunRecord: run_group, job_type, display_name, tags, project
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)  # last values
    metrics: dict[str, Any] = field(default_factory=dict)  # name or pattern -> MetricRecord
    artifacts: list[Any] = field(default_factory=list)  # ArtifactRecord
    exit_code: int | None = None

    @property
    def keys(self) -> set[str]:
        """All that was logged or stands in the summary."""
        return {key for row in self.history for key in row} | set(self.summary)

    def artifact(self, kind: str) -> Any:
        """The one of a type."""
        (found,) = (artifact for artifact in self.artifacts if artifact.type == kind)
        return found

    def table(self, key: str) -> dict[str, Any]:
        """One that was logged once: `columns` and `data`."""
        (path,) = (row[f"{key}/path"] for row in self.history if f"{key}/path" in row)
        return json.loads((self.folder / "files" / path).read_text())

    def images(self, key: str) -> list[list[Path]]:
        """Files of the images of every row that has some."""
        rows = (row.get(f"{key}/filenames") for row in self.history)
        return [[self.folder / "files" / name for name in names] for names in rows if names]


def read_offline(run_folder: Path) -> OfflineRun:
    """The only offline run in a run folder, which has ended: W&B's process may still be writing it."""
    (path,) = run_folder.glob("wandb/offline-run-*/run-*.wandb")
    for _ in range(TRIES):
        run = OfflineRun(path.parent)
        for record in records(path):
            _take(run, record)
        if run.exit_code is not None:
            return run
        time.sleep(PAUSE_S)
    raise AssertionError(f"{path} has no end")


def records(path: Path) -> Iterator[Record]:
    """Every message of a log, in order."""
    gathered = b""
    for kind, part in _chunks(path.read_bytes()):
        gathered = part if kind in (FULL, FIRST) else gathered + part
        if kind in (FULL, LAST):
            yield Record.FromString(gathered)


def _chunks(content: bytes) -> Iterator[tuple[int, bytes]]:
    assert content[:4] in (b":W&B", b"")
    at = FILE_HEADER.size
    while at + HEADER.size <= len(content):
        left = BLOCK - at % BLOCK
        if left < HEADER.size:  # nothing begins so near the end of a block
            at += left
            continue
        checksum, length, kind = HEADER.unpack_from(content, at)
        part = content[at + HEADER.size : at + HEADER.size + length]
        if len(part) < length:  # not all there yet
            return
        assert checksum == zlib.crc32(bytes([kind]) + part), f"damaged at {at}"
        yield kind, part
        at += HEADER.size + length


def _take(run: OfflineRun, record: Record) -> None:
    kind = record.WhichOneof("record_type")
    if kind == "run":
        run.about = record.run
        run.config |= _values(record.run.config.update)
    elif kind == "config":
        run.config |= _values(record.config.update)
    elif kind == "history":
        run.history.append(_values(record.history.item))
    elif kind == "summary":
        run.summary |= _values(record.summary.update)
    elif kind == "metric":
        run.metrics[record.metric.name or record.metric.glob_name] = record.metric
    elif kind == "artifact":
        run.artifacts.append(record.artifact)
    elif kind == "exit":
        run.exit_code = record.exit.exit_code


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
