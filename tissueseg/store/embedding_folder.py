"""A folder of stored features: which stores there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tissueseg.errors import TissuesegError
from tissueseg.store.embeddings import EmbeddingStore, is_remote

SUFFIX = ".zarr"


def embedding_stores(folder: str) -> Iterator[EmbeddingStore | TissuesegError]:
    """All stores of features in a folder, and what is wrong with those that cannot be opened."""
    if is_remote(folder) or folder.endswith(SUFFIX):
        paths = [folder]
    else:
        paths = sorted(str(p) for p in Path(folder).glob(f"*{SUFFIX}") if p.name[0] != ".")
    for path in paths:
        try:
            yield EmbeddingStore(path)
        except TissuesegError as error:
            yield error
