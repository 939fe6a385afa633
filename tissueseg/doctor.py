"""`python -m tissueseg.doctor …`: what `train` would meet with the same words; exit 1: it would fail.

`doctor store=PATH` looks through a store alone, and leaves what it saw in `…_check` beside it; exit 1:
something looks wrong. `doctor embeddings=FOLDER` looks through stores of features, exit 1: some are of no
use; with `prune=…` it removes what it is told to.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg.command import run_command
from tissueseg.errors import ConfigError, StoreNotFoundError
from tissueseg.progress import table_console, tracked

if TYPE_CHECKING:
    from tissueseg.store.embedding_folder import StoreListing

_STALE = "stale"
_MARKS = {
    "ok": "[green]ok    [/green]",
    "notice": "[yellow]notice[/yellow]",
    "fail": "[red]FAIL  [/red]",
}


def doctor(config: DictConfig) -> None:
    """Print one line a finding, then what they come to."""
    if not OmegaConf.is_dict(config.embeddings):
        _look_at_features(config)
        return
    if config.prune is not None:
        raise ConfigError(
            f"prune={config.prune} has no folder to prune in: give embeddings=FOLDER too."
        )
    if not OmegaConf.is_dict(config.store):
        _check_store(str(config.store))
        return
    _diagnose(config)


def _diagnose(config: DictConfig) -> None:
    from tissueseg.diagnosis import diagnose

    console, failed, topic = Console(highlight=False), 0, ""
    for finding in diagnose(config, Console(stderr=True)):
        failed += finding.state == "fail"
        shown = "" if finding.topic == topic else finding.topic
        topic = finding.topic
        console.print(f"{_MARKS[finding.state]} [bold]{shown:<10}[/bold]", end=" ")
        console.print(finding.says, markup=False, soft_wrap=True)
    if failed:
        console.print(
            f"\n{failed} {'finding' if failed == 1 else 'findings'} that would stop train."
        )
        sys.exit(1)
    console.print("\nNothing would stop train.")


def _check_store(path: str) -> None:
    from tissueseg.reporting.store_check import check_folder, report_check
    from tissueseg.store.tissues import TissueStore

    store = TissueStore(path)
    folder = check_folder(store.path)
    if not os.access(folder.parent, os.W_OK):  # others' stores may be looked through too
        folder = Path(folder.name)
    if report_check(store, table_console(), tracked, folder):
        sys.exit(1)


def _look_at_features(config: DictConfig) -> None:
    from tissueseg.reporting.embedding_table import show_stores
    from tissueseg.store.embedding_folder import stored_features

    folder, console = _features_folder(config), Console(highlight=False)
    found = list(stored_features(folder))
    if config.prune is not None:
        _prune(config, folder, found, console)
        return
    show_stores(console, found)
    if any(stored.fault or stored.faulty for stored in found):
        sys.exit(1)


def _features_folder(config: DictConfig) -> Path:
    """The local folder, or store, that was named; nothing else may be said of it."""
    from tissueseg.store.embedding_folder import SUFFIX, root_fault
    from tissueseg.store.embeddings import EmbeddingStore
    from tissueseg.store.remote import is_remote

    named = config.embeddings
    if not isinstance(named, str) or is_remote(named):
        raise ConfigError(f"embeddings={named}, wanted a local folder of stores of features.")
    if not OmegaConf.is_dict(config.store):
        raise ConfigError("store=… and embeddings=… are looked through one at a time: give one.")
    if not isinstance(config.dry_run, bool):
        raise ConfigError(f"dry_run={config.dry_run}, wanted true or false.")
    folder = Path(named).expanduser().resolve()
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        raise StoreNotFoundError(f"embeddings={named} is no folder that can be read.")
    if folder.name.endswith(SUFFIX) and not root_fault(folder):
        EmbeddingStore(folder)  # says what else it is
    return folder


def _prune(config: DictConfig, folder: Path, found: list[StoreListing], console: Console) -> None:
    """Remove what was named, or what is of no use, and say how much space that frees."""
    from tissueseg.reporting.embedding_table import shown_bytes
    from tissueseg.store.embedding_removal import chosen, take_away, useless

    words, dry_run, freed = _words(config.prune), config.dry_run, 0
    removals = list(useless(folder, found)) if words == [_STALE] else chosen(found, words)
    for removal in removals:
        kept = take_away(removal, dry_run)
        if kept and words != [_STALE]:
            raise ConfigError(f"{removal.what} is kept: {kept}.")
        freed += 0 if kept else removal.bytes
        size = f"({removal.why}): {shown_bytes(removal.bytes)}"
        done = f"{'would remove' if dry_run else 'removed'} {removal.what} {size}"
        line = f"kept {removal.what}: {kept}" if kept else done
        console.print(line, markup=False, soft_wrap=True)
    would = "would be freed, unless workers are at it; nothing is removed (dry_run=true)"
    console.print(f"{shown_bytes(freed)} {would if dry_run else 'freed'}", soft_wrap=True)


def _words(prune: Any) -> list[str]:
    """Names, as text: Hydra takes some fingerprints for numbers."""
    given = list(prune) if OmegaConf.is_list(prune) else [prune]
    for word in given:
        if not isinstance(word, str | int) or isinstance(word, bool):
            raise ConfigError(f"prune={word} reads as no name: begin with that of the store.")
    if not given:
        raise ConfigError("prune=[] names no store of features: give names, or prune=stale.")
    return [str(word) for word in given]


if __name__ == "__main__":
    run_command("doctor", doctor)
