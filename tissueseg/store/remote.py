"""Stores on other machines: any address that fsspec opens, read through zarr's store API.

A server that has no such file is told apart from one that gives no answer: the first means that
something was not made, the second never does. Time limits, retries and credentials are the business of
the file system, which takes them from fsspec's own configuration.
"""

from __future__ import annotations

from asyncio import gather
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.storage import FsspecStore, StorePath

from tissueseg.errors import UnreachableError, in_one_line

if TYPE_CHECKING:
    from zarr.abc.buffer import Buffer
    from zarr.core.buffer import BufferPrototype

AT_ONCE = 32
"""Requests under way: each takes a trip to the server, whatever it fetches."""

_FILE_SYSTEMS: set[Any] = set()
"""All that were opened, never let go: in a fork of this process, closing inherited connections would
take them from the parent's event loop, which then waits for ever."""

_DENIED, _BEYOND_END = (401, 403), 416  # HTTP, https://www.rfc-editor.org/rfc/rfc9110#section-15.5


class RemoteStore(FsspecStore):
    """Read access for zarr; what goes wrong on the way is an `UnreachableError`."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """A file or a part of it; None: there is none, as far as the server tells."""
        try:
            found = await super().get(key, prototype, byte_range)
        except Exception as error:  # of any class: each file system has its own
            if getattr(error, "status", None) == _BEYOND_END:  # a file cut short
                return prototype.buffer.from_bytes(b"")
            raise UnreachableError(_says(f"{self._address}/{key}", error)) from error
        if found is not None and len(found) > _most(byte_range):
            raise UnreachableError(
                f"{self._address}/{key} comes whole where a part was asked for: serve it by a server "
                "that knows HTTP ranges, or copy the store to a disk."
            )
        return found

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several parts at once."""
        return await gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    @property
    def _address(self) -> str:
        return self.fs.unstrip_protocol(self.path).rstrip("/")


def is_remote(path: str | Path) -> bool:
    """Whether a path is an address such as `s3://…`."""
    return "://" in str(path)


def connect(path: str | Path) -> FsspecStore | None:
    """What zarr reads an address through, None for a local path; sends nothing yet.

    Call it anew after a fork: event loops and connections belong to their process.

    Raises:
        UnreachableError: fsspec, or the package that the protocol wants, is missing.
    """
    if not is_remote(path):
        return None
    try:
        store = RemoteStore.from_url(str(path), read_only=True)
    except ImportError as error:
        raise UnreachableError(
            f"{path} cannot be opened ({in_one_line(error)}): pip install 'tissueseg[remote]', and what "
            "the protocol wants besides (s3://: s3fs, gs://: gcsfs)."
        ) from error
    except Exception as error:  # as in `get`: options and credentials are looked at here
        raise UnreachableError(
            f"{path} cannot be opened ({in_one_line(error)}): mend the address, or copy the store to a "
            "disk."
        ) from error
    _FILE_SYSTEMS.add(store.fs)
    return store


def place(path: str | Path, remote: FsspecStore | None, name: str = "") -> StorePath | Path:
    """What zarr opens: a store or a part of it, wherever it is.

    Args:
        path: of the store, if it is local.
        remote: from `connect`.
        name: of the part, with slashes; empty for the store itself.
    """
    return Path(path) / name if remote is None else StorePath(remote, name)


def _most(part: ByteRequest | None) -> float:
    """Bytes that may come."""
    if isinstance(part, RangeByteRequest):
        return part.end - part.start
    return part.suffix if isinstance(part, SuffixByteRequest) else float("inf")


def _says(address: str, error: Exception) -> str:
    denied = isinstance(error, PermissionError) or getattr(error, "status", None) in _DENIED
    if denied:
        return (
            f"{address} may not be read, or is not there in a store that may not be listed "
            f"({in_one_line(error)}): give its file system credentials that may."
        )
    return (
        f"{address} cannot be reached ({in_one_line(error)}): see that its server answers, or copy the "
        "store to a disk."
    )
