"""Splits kept in a store by name: whole, never replaced, and in nobody's way."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import zarr
from file_server import serving
from stores import random_tissue, three_tissues, whole, write_store

from tissueseg.errors import SplitError, StoreWriteError
from tissueseg.store import named_splits
from tissueseg.store.named_splits import (
    FOLDER,
    NamedSplit,
    is_split_name,
    keep_split,
    kept_names,
    read_split,
)
from tissueseg.store.tissues import TissueStore

SIDES = {"train": {"a": "1", "b": "2"}, "val": {"c": "3"}, "test": {}, "leave_out": {"d": "4"}}
SPLIT = NamedSplit("mine", {"split": "kfold", "folds": 3}, SIDES)


def changed(**sides: dict[str, str]) -> NamedSplit:
    return SPLIT._replace(sides=SIDES | sides, rule={"split": "by_patient", "seed": 1})


def test_a_split_is_read_as_it_was_kept(tmp_path: Path) -> None:
    assert read_split(str(tmp_path), "mine") is None
    assert kept_names(str(tmp_path)) == []
    where = keep_split(str(tmp_path), SPLIT)
    assert where == f"{tmp_path}/{FOLDER}/mine.json"
    assert read_split(str(tmp_path), "mine") == SPLIT
    assert kept_names(str(tmp_path)) == ["mine"]
    content = json.loads(Path(where).read_text())
    assert content["rule"] == {"split": "kfold", "folds": 3}
    assert content["sides"]["leave_out"] == {"d": "4"}


def test_keeping_it_again_changes_nothing(tmp_path: Path) -> None:
    path = Path(keep_split(str(tmp_path), SPLIT))
    before = path.stat()
    assert keep_split(str(tmp_path), SPLIT._replace(rule={"split": "named"})) == str(path)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert sorted(p.name for p in path.parent.iterdir()) == ["mine.json", "zarr.json"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (
            changed(train={"a": "1"}, val={"b": "2", "c": "3"}),
            "tissue b is in train there and in val",
        ),
        (
            changed(train={"a": "9", "b": "9"}),
            r"tissue a has other pixels than it had \(and 1 more\)",
        ),
        (changed(val={"c": "3", "e": "5"}), "tissue e is new"),
        (changed(leave_out={}), "tissue d is gone"),
    ],
)
def test_another_split_of_the_name_is_refused(tmp_path: Path, other: Any, said: str) -> None:
    path = Path(keep_split(str(tmp_path), SPLIT))
    with pytest.raises(SplitError, match=said) as caught:
        keep_split(str(tmp_path), other)
    assert "\n" not in str(caught.value)
    for words in (str(path), "split=kfold folds=3", "split=by_patient seed=1", "split=named"):
        assert words in str(caught.value)
    assert read_split(str(tmp_path), "mine") == SPLIT


def test_another_process_that_was_faster_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def late(draft: Path, path: Path) -> None:
        path.write_text(json.dumps({"schema": 1, **changed(val={})._asdict()}))
        link(draft, path)

    monkeypatch.setattr(named_splits.os, "link", late)
    with pytest.raises(SplitError, match="taken by another split"):
        keep_split(str(tmp_path), SPLIT)
    assert read_split(str(tmp_path), "mine") == changed(val={})
    assert sorted(p.name for p in (tmp_path / FOLDER).iterdir()) == ["mine.json", "zarr.json"]


def test_file_systems_without_links_keep_splits_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(draft: Path, path: Path) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(named_splits.os, "link", refuse)
    keep_split(str(tmp_path), SPLIT)
    assert read_split(str(tmp_path), "mine") == SPLIT


def test_a_store_that_takes_no_files_is_told(tmp_path: Path) -> None:
    (tmp_path / FOLDER).touch()
    with pytest.raises(StoreWriteError, match="cannot be written"):
        keep_split(str(tmp_path), SPLIT)
    assert read_split(str(tmp_path), "mine") is None


DAMAGED = {
    "cut short": lambda text: text[:-9],
    "of another version": lambda text: text.replace('"schema": 1', '"schema": 99'),
    "of another name": lambda text: text.replace("mine", "yours"),
    "no split": lambda text: "[]",
    "of no tissue": lambda text: '{"schema": 1, "name": "mine", "rule": {}, "sides": {}}',
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named(tmp_path: Path, damage: Any) -> None:
    path = Path(keep_split(str(tmp_path), SPLIT))
    path.write_text(damage(path.read_text()))
    for use in (read_split, lambda address, _: keep_split(address, SPLIT)):
        with pytest.raises(SplitError, match=r"mine\.json is damaged .* delete it"):
            use(str(tmp_path), "mine")


def test_a_store_with_kept_splits_is_what_it_was(tmp_path: Path) -> None:
    tissues = three_tissues() | {"splits": random_tissue(seed=9)}  # a tissue may be called so
    store = write_store(tmp_path / "s.zarr", tissues)
    index = (store.path / "zarr.json").stat()
    keep_split(store.address, SPLIT)
    again = TissueStore(store.path)
    assert again.tissues == ("a", "b", "c", "splits")
    assert again.digests() == store.digests()
    assert (whole(store, "splits", "he") == whole(again, "splits", "he")).all()
    assert (store.path / "zarr.json").stat().st_mtime_ns == index.st_mtime_ns
    groups = zarr.open_group(store.path, mode="r").group_keys()  # warns of folders it does not know
    assert sorted(groups) == [FOLDER, "a", "b", "c", "splits"]


def test_a_remote_store_is_read_and_left_as_it_is(tmp_path: Path) -> None:
    keep_split(str(tmp_path), SPLIT)
    with serving(tmp_path) as server:
        assert read_split(server.url, "mine") == SPLIT
        assert read_split(server.url, "yours") is None
        assert keep_split(server.url, SPLIT) == f"{server.url}/{FOLDER}/mine.json"
        with pytest.raises(StoreWriteError, match="is remote and only read"):
            keep_split(server.url, SPLIT._replace(name="yours"))
        assert kept_names(server.url) == []


@pytest.mark.parametrize(
    ("name", "fits"),
    [("kfold_5_fold_2", True), ("Ärzte", True), ("zarr", False), (".x", False), ("a/b", False)],
)
def test_names_of_splits_are_plain_and_not_zarr_s(name: str, fits: bool) -> None:
    assert is_split_name(name) == fits
