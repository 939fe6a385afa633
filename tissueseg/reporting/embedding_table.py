"""Stores of features in the terminal: what they are of, how large, and what ails them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape  # names are the users', brackets and all
from rich.table import Table

from tissueseg.store.embedding_folder import Fault, StoreListing
from tissueseg.store.embeddings import EmbeddingStore

_SHOWN_DIGITS = 8
_SHOWN_TISSUES = 5


def show_stores(console: Console, found: Sequence[StoreListing]) -> None:
    """Print stores by the tissue store they were made from, then what ails them, then their size."""
    opened = sorted((s for s in found if s.store), key=lambda s: s.origin.path)
    for _, group in groupby(opened, lambda s: s.origin.path):
        stored = list(group)
        console.print(f"made from {_origin(stored[0])}:", markup=False, soft_wrap=True)
        console.print(embedding_table(stored))
    for line in complaints(found):
        console.print("[yellow]warning[/yellow]: ", end="")
        console.print(line, markup=False, soft_wrap=True)
    for line in _attempts(found):
        console.print(f"notice: {line}", markup=False, soft_wrap=True)
    total = sum(s.bytes + sum(s.unfinished.values()) for s in found)
    noun = "store" if len(found) == 1 else "stores"
    console.print(f"{len(found) or 'no'} {noun} of features, {shown_bytes(total)}")


def embedding_table(found: Sequence[StoreListing]) -> Table:
    """Stores that can be opened, a row each."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("store\nencoder, weights", overflow="fold")
    for title in ("images\ntile", "type\nprecision"):
        table.add_column(title, no_wrap=True)
    for title in ("views", "tissues\nfaulty", "size"):
        table.add_column(title, justify="right", no_wrap=True)
    for stored in found:
        assert stored.store is not None
        table.add_row(*_cells(stored, stored.store))
    return table


def store_line(stored: StoreListing, tissues: int) -> str:
    """One store that can be opened, in one line.

    Args:
        stored: held against a tissue store.
        tissues: which has so many.
    """
    store = stored.store
    assert store is not None
    known = frozenset(stored.origin.store.tissues) if stored.origin.store else ()
    complete = sum(t.name in known and not t.fault for t in stored.tissues)
    said = [
        f"{stored.path.name}: {store.spec.label}",
        store.fields["modality"],
        f"{store.views} view{'s' * (store.views > 1)}",
        store.dtype,
        f"{complete} of {tissues} tissues",
        *_faults(stored),
        shown_bytes(stored.bytes),
    ]
    if unfinished := sum(stored.unfinished.values()):
        said.append(f"unfinished {shown_bytes(unfinished)}")
    return ", ".join(said)


def complaints(found: Sequence[StoreListing]) -> Iterator[str]:
    """What ails stores, a line for each fault."""
    for stored in found:
        if stored.store is None:
            yield f"{stored.error} It takes {shown_bytes(stored.bytes)}"
        elif stored.fault:
            yield f"{stored.path.name}: its tissue store {stored.origin.path} is gone"
        for fault in Fault:
            if names := [t.name for t in stored.faulty if t.fault == fault]:
                more = ", …" * (len(names) > _SHOWN_TISSUES)
                shown = ", ".join(names[:_SHOWN_TISSUES]) + more
                yield f"{stored.path.name}: {_tissues(len(names))} {fault} ({shown})"


def shown_bytes(count: int) -> str:
    """A size in GB, small ones in MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def _cells(stored: StoreListing, store: EmbeddingStore) -> list[str]:
    fields = store.fields
    return [
        escape(f"{stored.path.name}\n{store.spec.label}, {_weights(store)}"),
        f"{fields['modality']}\n{fields['tiling']['tile_px']} px",
        f"{store.dtype}\n{fields['precision']}",
        str(store.views),
        f"{len(stored.tissues)}\n{len(stored.faulty) or ''}",
        shown_bytes(stored.bytes),
    ]


def _faults(stored: StoreListing) -> Iterator[str]:
    for fault in Fault:
        if count := sum(t.fault == fault for t in stored.tissues):
            yield f"{count} {fault}"


def _attempts(found: Sequence[StoreListing]) -> Iterator[str]:
    for stored in found:
        if stored.unfinished:
            size = shown_bytes(sum(stored.unfinished.values()))
            yield f"{stored.path.name}: {_tissues(len(stored.unfinished))} unfinished, {size}"


def _tissues(count: int) -> str:
    return "1 tissue" if count == 1 else f"{count} tissues"


def _weights(store: EmbeddingStore) -> str:
    """Digests of files, cut short, or the seed they were drawn with; of both encoders of a pair."""
    files = {k: v for k, v in store.fields["files"].items() if k.endswith(".weights")}
    said = [str(w) for w in files.values() if w] or [str(store.spec.sha256)]
    return "+".join(w.rpartition(", ")[0] or w[:_SHOWN_DIGITS] for w in said)


def _origin(stored: StoreListing) -> str:
    origin = stored.origin
    if not origin.path:
        return "an unknown tissue store"
    if origin.gone:
        return f"{origin.path}, which is gone"
    return origin.path if origin.store else f"{origin.path}, which cannot be opened"
