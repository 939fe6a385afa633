"""A folder of stored features: what is seen in it, and what is not taken for features."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import zarr
from feature_folders import (
    DAMAGES,
    disk_bytes,
    leave_attempt,
    newer,
    write_cohort,
    write_features,
)
from stores import random_tissue, three_tissues

from tissueseg.errors import TissuesegError
from tissueseg.store.embedding_folder import (
    Fault,
    StoreListing,
    embedding_stores,
    root_fault,
    stored_features,
)
from tissueseg.store.embeddings import EmbeddingStore
from tissueseg.store.tissues import TissueStore


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("drawn") / "s.zarr").path


@pytest.fixture
def cohort(tmp_path: Path, drawn: Path) -> TissueStore:
    return TissueStore(shutil.copytree(drawn, tmp_path / "s.zarr"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "s_embeddings"


def only(folder: Path, against: TissueStore | None = None) -> StoreListing:
    (found,) = stored_features(folder, against)
    return found


def faults(found: StoreListing) -> dict[str, Fault | None]:
    return {tissue.name: tissue.fault for tissue in found.tissues}


def test_a_store_is_listed_with_its_tissues_and_sizes(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort)
    found = only(folder)
    assert (found.path, found.error, found.fault, found.unfinished) == (path, "", None, {})
    assert (found.origin.path, found.origin.gone) == (str(cohort.path), False)
    assert [tissue.name for tissue in found.tissues] == ["a", "b"]
    assert found.faulty == ()
    assert found.bytes == disk_bytes(path) > 0
    assert [t.bytes for t in found.tissues] == [disk_bytes(path / t) for t in "ab"]


def test_one_store_may_be_named(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort)
    write_features(folder, cohort, seed=1)
    assert len(list(stored_features(folder))) == 2
    assert only(path).path == path


def test_unfinished_tissues_are_counted_apart(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort)
    leave_attempt(path, "c")
    assert only(folder).unfinished == {"c": 1000}
    assert only(folder).bytes == disk_bytes(path)


def test_tissues_whose_images_have_changed_are_stale(cohort: TissueStore, folder: Path) -> None:
    write_features(folder, cohort)
    other = three_tissues() | {"b": random_tissue(seed=9, patient="p_b")}
    write_cohort(cohort.path, other)
    assert faults(only(folder)) == {"a": None, "b": Fault.STALE}
    assert only(folder).fault is None


def test_tissues_that_another_store_may_have_are_not_stale(
    cohort: TissueStore, folder: Path
) -> None:
    write_features(folder, cohort)
    tissues = three_tissues()
    del tissues["a"]
    write_cohort(cohort.path, tissues)
    assert faults(only(folder)) == {"a": None, "b": None}


def test_tissues_are_held_against_the_store_that_is_named(
    cohort: TissueStore, folder: Path, tmp_path: Path
) -> None:
    write_features(folder, cohort)
    other = write_cohort(tmp_path / "other.zarr", {"a": random_tissue(seed=9)})
    assert faults(only(folder, other)) == {"a": Fault.STALE, "b": None}
    assert only(folder, other).origin.path == str(other.path)


def _lose_shard(tissue: Path) -> None:
    (shard,) = (path for path in (tissue / "c").rglob("*") if path.is_file())
    shard.unlink()


TISSUE_DAMAGES: dict[str, Callable[[Path], None]] = {
    "a shard is lost": _lose_shard,
    "metadata lost": lambda tissue: (tissue / "zarr.json").unlink(),
    "metadata cut short": lambda tissue: os.truncate(tissue / "zarr.json", 40),
    "never completed": lambda tissue: zarr.open_array(tissue, mode="r+").attrs.clear(),
}


@pytest.mark.parametrize("damage", TISSUE_DAMAGES.values(), ids=TISSUE_DAMAGES)
def test_damaged_tissues_are_found(
    cohort: TissueStore, folder: Path, damage: Callable[[Path], None]
) -> None:
    damage(write_features(folder, cohort) / "b")
    assert faults(only(folder)) == {"a": None, "b": Fault.DAMAGED}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_stores_are_found(
    cohort: TissueStore, folder: Path, damage: Callable[[Path], None]
) -> None:
    path = write_features(folder, cohort)
    damage(path)
    found = only(folder)
    assert (found.store, found.fault, found.tissues) == (None, Fault.DAMAGED, ())
    assert str(path) in found.error
    assert found.bytes == disk_bytes(path)


def test_a_store_of_another_version_is_not_called_damaged(
    cohort: TissueStore, folder: Path
) -> None:
    newer(write_features(folder, cohort))
    assert only(folder).fault == Fault.UNREADABLE
    assert "schema 2" in only(folder).error


def test_what_is_no_store_of_features_is_passed_over(cohort: TissueStore, folder: Path) -> None:
    """Whatever it is called."""
    folder.mkdir()
    write_cohort(folder / "tissues-he-0123abcd.zarr")
    zarr.open_group(folder / "others-sp-0123abcd.zarr", mode="w")
    (folder / "notes-he-0123abcd.zarr").write_text("a file")
    (folder / "empty.zarr").mkdir()
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / "zarr.json").write_text("{")
    assert list(stored_features(folder)) == []
    assert [root_fault(path) for path in folder.iterdir()] == [None] * 5


def test_stores_and_errors_come_as_before(cohort: TissueStore, folder: Path) -> None:
    good = write_features(folder, cohort)
    DAMAGES["spec lost"](write_features(folder, cohort, seed=1))
    found = {isinstance(one, EmbeddingStore): one for one in embedding_stores(str(folder))}
    assert isinstance(found[False], TissuesegError)
    assert getattr(found[True], "path", None) == str(good)


def test_a_tissue_store_that_is_gone_makes_features_stale(
    cohort: TissueStore, folder: Path, tmp_path: Path
) -> None:
    write_features(folder, cohort)
    cohort.path.rename(tmp_path / "renamed.zarr")
    found = only(folder)
    assert (found.fault, found.origin.gone) == (Fault.STALE, True)
    assert found.faulty == ()


def test_a_tissue_store_that_cannot_be_opened_is_not_gone(
    cohort: TissueStore, folder: Path
) -> None:
    write_features(folder, cohort)
    (cohort.path / "zarr.json").write_text("{")
    found = only(folder)
    assert (found.fault, found.origin.store, found.origin.gone) == (None, None, False)


def test_tissues_and_features_may_be_moved_together(
    cohort: TissueStore, folder: Path, tmp_path: Path
) -> None:
    write_features(folder, cohort)
    (tmp_path / "moved").mkdir()
    cohort.path.rename(tmp_path / "moved/s.zarr")
    folder.rename(tmp_path / "moved/s_embeddings")
    found = only(tmp_path / "moved/s_embeddings")
    assert (found.fault, found.origin.path) == (None, str(tmp_path / "moved/s.zarr"))


def test_of_a_copy_the_tissues_beside_it_count(
    cohort: TissueStore, folder: Path, tmp_path: Path
) -> None:
    write_features(folder, cohort)
    copy = shutil.copytree(folder, tmp_path / "copy/s_embeddings")
    write_cohort(tmp_path / "copy/s.zarr", {"a": random_tissue(seed=9)})
    assert faults(only(copy)) == {"a": Fault.STALE, "b": None}
    elsewhere = shutil.copytree(folder, tmp_path / "copy/features")
    assert only(elsewhere).faulty == ()
