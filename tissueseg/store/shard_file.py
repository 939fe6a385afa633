"""One shard of an uncompressed Zarr v3 array, written in one go.

Chunks one after another, each at an aligned place and followed by its CRC32C, then the index (offset and
length of every chunk, little-endian uint64, and a CRC32C of its own), as the `sharding_indexed` codec
lays them out:
https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

from __future__ import annotations

import os
from pathlib import Path

import google_crc32c
import numpy as np

from tissueseg.store.shard_layout import NO_CHUNK

CHECKSUM_BYTES = 4
ALIGNED_BYTES = 64  # where chunks begin: copies between aligned places are up to twice as fast


def write_shard(path: Path, chunks: np.ndarray, count: int) -> None:
    """Write the first chunks of a shard; the others are missing.

    Args:
        path: of a file that does not exist yet.
        chunks: (n, …) C-contiguous, little-endian: chunks in the order of their places.
        count: chunks that a whole shard has.
    """
    index = np.full((count, 2), NO_CHUNK, "<u8")
    offset = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        for i, chunk in enumerate(chunks):
            raw = chunk.reshape(-1).view(np.uint8)
            gap = -offset % ALIGNED_BYTES
            file.write(bytes(gap))
            offset += gap
            file.write(raw.data)
            file.write(checksum(raw))
            index[i] = offset, raw.nbytes + CHECKSUM_BYTES
            offset += raw.nbytes + CHECKSUM_BYTES
        raw = index.reshape(-1).view(np.uint8)
        file.write(raw.data)
        file.write(checksum(raw))
        file.flush()
        os.fsync(file.fileno())


def checksum(raw: np.ndarray) -> bytes:
    """CRC32C of bytes, as it stands behind them."""
    return google_crc32c.value(raw).to_bytes(CHECKSUM_BYTES, "little")  # pyright: ignore[reportArgumentType]
