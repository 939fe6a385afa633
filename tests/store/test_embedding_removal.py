"""Removing stored features: what was meant goes, at once for all who look, and nothing else does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from feature_folders import (
    DAMAGES,
    GRID,
    TILES,
    leave_attempt,
    newer,
    write_cohort,
    write_features,
)
from stores import random_tissue, three_tissues

from tissueseg.contracts import Modality
from tissueseg.errors import ConfigError
from tissueseg.store import embedding_removal
from tissueseg.store.claims import Claims
from tissueseg.store.embedding_folder import stored_features
from tissueseg.store.embedding_removal import Removal, chosen, take_away, useless
from tissueseg.store.embedding_writer import EmbeddingWriter, work_folder
from tissueseg.store.embeddings import EmbeddingStore, State
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


def named(folder: Path, *names: str) -> list[Removal]:
    return chosen(list(stored_features(folder)), names)


def of_no_use(folder: Path) -> list[Removal]:
    return list(useless(folder, list(stored_features(folder))))


def prune(folder: Path) -> list[str]:
    """Take everything of no use away; what was kept."""
    return [removal.what for removal in of_no_use(folder) if take_away(removal)]


def change_tissue_b(cohort: TissueStore) -> TissueStore:
    tissues = three_tissues() | {"b": random_tissue(seed=9, patient="p_b")}
    return write_cohort(cohort.path, tissues)


def names_in(folder: Path) -> list[str]:
    """Hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def test_a_store_goes_with_everything_beside_it(cohort: TissueStore, folder: Path) -> None:
    path, other = write_features(folder, cohort), write_features(folder, cohort, seed=1)
    leave_attempt(path, "c")
    (removal,) = named(folder, path.name)
    assert removal.bytes > 1000
    assert take_away(removal) == ""
    assert names_in(folder) == [work_folder(other).name, other.name]


def test_names_may_be_cut_short(cohort: TissueStore, folder: Path) -> None:
    one, two = (write_features(folder, cohort, seed=seed) for seed in (0, 1))
    assert [r.store for r in named(folder, one.name[:-6])] == [one]
    assert [r.store for r in named(folder, EmbeddingStore(two).fingerprint[:12])] == [two]
    assert [r.store for r in named(folder, one.name, one.name, two.name)] == [one, two]


def test_names_that_mean_none_or_several_are_refused(cohort: TissueStore, folder: Path) -> None:
    write_features(folder, cohort)
    with pytest.raises(ConfigError, match="prune=other names no store of features: there are made"):
        named(folder, "other")
    with pytest.raises(ConfigError, match="names no store"):
        named(folder, "")
    write_features(folder, cohort, seed=1)
    with pytest.raises(
        ConfigError, match=r"prune=made_up means 2 stores \(made_up-sp-.*, made_up-"
    ):
        named(folder, "made_up")


def test_a_whole_name_is_not_taken_for_a_beginning(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort)
    shutil.copytree(path, folder / f"{path.name}.zarr")
    assert [r.store for r in named(folder, path.name)] == [path]


def test_a_store_that_a_living_worker_is_at_is_kept(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort)
    with EmbeddingWriter(EmbeddingStore(path)) as writer:
        attempt = writer.begin("c", TILES)
        assert attempt is not None
        (removal,) = named(folder, path.name)
        assert take_away(removal).startswith("a worker is at tissue c: ")
        attempt.put(0, np.ones((TILES, 1, *GRID), np.float16))
        attempt.publish(cohort.image_digests("c", Modality.SP)).result()
    assert EmbeddingStore(path).tiles("c") == TILES
    assert take_away(removal) == ""
    assert names_in(folder) == []


def test_a_worker_at_a_tissue_nobody_knew_of_is_seen(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort)
    (removal,) = named(folder, path.name)
    with Claims(work_folder(path) / "claims") as claims:
        assert claims.take("of another cohort")
        assert "of another cohort" in take_away(removal)
    assert EmbeddingStore(path).tiles("a") == TILES


def test_a_worker_that_comes_meanwhile_is_seen(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort)
    (removal,) = named(folder, path.name)
    with Claims(work_folder(path) / "claims") as worker:
        looks = iter([{"a"}, {"a"}])

        def claimed() -> set[str]:
            if not (found := next(looks, set())):
                worker.take("new")
                found = {"a", "new"}
            return found

        assert "a worker is at tissue new" in take_away(removal._replace(claimed=claimed))
    assert EmbeddingStore(path).tiles("a") == TILES


def test_a_store_is_renamed_before_it_is_deleted(
    cohort: TissueStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = write_features(folder, cohort), []
    monkeypatch.setattr(embedding_removal, "_delete", lambda place: seen.append(place))
    (removal,) = named(folder, path.name)
    assert take_away(removal) == ""
    assert not path.exists()
    assert [place.is_dir() for place in seen] == [True, True]
    monkeypatch.undo()
    assert list(stored_features(folder)) == []
    assert [r.why for r in of_no_use(folder)] == ["left by a removal"] * 2
    assert prune(folder) == []
    assert names_in(folder) == []


def test_nothing_is_of_no_use_in_a_good_store(cohort: TissueStore, folder: Path) -> None:
    write_features(folder, cohort)
    newer(write_features(folder, cohort, seed=1))
    assert of_no_use(folder) == []


def test_stale_and_damaged_tissues_go_and_good_ones_stay(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort, ("a", "b", "c"))
    (path / "c" / "zarr.json").unlink()
    now = change_tissue_b(cohort)
    removals = of_no_use(folder)
    assert [(r.what.rpartition("/")[2], r.why) for r in removals] == [
        ("b", "made from other images"),
        ("c", "damaged"),
    ]
    assert all(removal.bytes for removal in removals)
    assert prune(folder) == []
    store = EmbeddingStore(path)
    states = {t: store.state(t, now.image_digests(t, Modality.SP)) for t in "abc"}
    assert states == {"a": State.COMPLETE, "b": State.MISSING, "c": State.MISSING}
    assert of_no_use(folder) == []


def test_a_tissue_made_anew_since_it_was_looked_at_stays(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort)
    now = change_tissue_b(cohort)
    (removal,) = of_no_use(folder)
    write_features(folder, now, ("b",))
    assert "made anew" in take_away(removal)
    assert EmbeddingStore(path).tiles("b") == TILES


def test_a_stale_tissue_that_a_worker_is_making_anew_stays(
    cohort: TissueStore, folder: Path
) -> None:
    path = write_features(folder, cohort)
    change_tissue_b(cohort)
    with EmbeddingWriter(EmbeddingStore(path)) as writer:
        assert writer.begin("b", TILES) is not None
        assert {f"{path.name}/b", f"attempts at {path.name}/b"} == set(prune(folder))
        assert (path / "b").is_dir()


def test_attempts_of_dead_workers_go_and_those_of_living_ones_stay(
    cohort: TissueStore, folder: Path
) -> None:
    path = write_features(folder, cohort)
    dead = leave_attempt(path, "c")
    with EmbeddingWriter(EmbeddingStore(path)) as writer:
        attempt = writer.begin("d", TILES)
        assert attempt is not None
        assert prune(folder) == [f"attempts at {path.name}/d"]
        assert not dead.parent.exists()
        attempt.put(0, np.ones((TILES, 1, *GRID), np.float16))
        attempt.publish({}).result()
    assert EmbeddingStore(path).tiles("d") == TILES


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_stores_are_of_no_use(
    cohort: TissueStore, folder: Path, damage: Callable[[Path], None]
) -> None:
    damage(write_features(folder, cohort))
    assert [removal.why for removal in of_no_use(folder)] == ["damaged"]
    assert prune(folder) == []
    assert names_in(folder) == []


def test_features_of_a_tissue_store_that_is_gone_are_of_no_use(
    cohort: TissueStore, folder: Path
) -> None:
    write_features(folder, cohort)
    shutil.rmtree(cohort.path)
    assert [r.why for r in of_no_use(folder)] == [f"its tissue store {cohort.path} is gone"]
    assert prune(folder) == []
    assert names_in(folder) == []


def test_the_work_folder_of_a_store_removed_by_hand_goes(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort)
    leave_attempt(path, "c")
    shutil.rmtree(path)
    assert [removal.why for removal in of_no_use(folder)] == ["its store is gone"]
    assert prune(folder) == []
    assert names_in(folder) == []


def test_what_is_beside_one_named_store_stays(cohort: TissueStore, folder: Path) -> None:
    path, other = write_features(folder, cohort), write_features(folder, cohort, seed=1)
    shutil.rmtree(other)
    assert of_no_use(path) == []
    assert len(of_no_use(folder)) == 1


def test_what_is_not_ours_stays(cohort: TissueStore, folder: Path) -> None:
    folder.mkdir()
    write_cohort(folder / "tissues-he-0123abcd.zarr")
    (folder / "notes.zarr").mkdir()
    (folder / ".other.zarr.work").mkdir()
    (folder / ".other.zarr.removed-by-hand").mkdir()
    before = names_in(folder)
    assert of_no_use(folder) == []
    with pytest.raises(ConfigError, match="there are none"):
        named(folder, "notes")
    assert names_in(folder) == before


def test_links_are_not_followed(cohort: TissueStore, folder: Path, tmp_path: Path) -> None:
    elsewhere = write_features(tmp_path / "elsewhere", cohort)
    folder.mkdir()
    (folder / elsewhere.name).symlink_to(elsewhere)
    (removal,) = named(folder, elsewhere.name)
    for dry_run in (True, False):
        assert take_away(removal, dry_run).startswith("it is a link to another folder")
    shutil.rmtree(cohort.path)
    assert prune(folder) == [elsewhere.name]
    assert EmbeddingStore(elsewhere).tiles("a") == TILES


def test_what_links_in_a_store_lead_to_stays(
    cohort: TissueStore, folder: Path, tmp_path: Path
) -> None:
    path, elsewhere = write_features(folder, cohort), tmp_path / "elsewhere"
    (path / "b").rename(elsewhere)
    (path / "b").symlink_to(elsewhere)
    now = change_tissue_b(cohort)
    assert prune(folder) == []
    assert not (path / "b").is_symlink()
    assert (elsewhere / "zarr.json").is_file()
    write_features(folder, now, ("b",))
    (path / "more").symlink_to(elsewhere)
    assert take_away(named(folder, path.name)[0]) == ""
    assert (elsewhere / "zarr.json").is_file()


def test_a_dry_run_changes_nothing(cohort: TissueStore, folder: Path) -> None:
    path = write_features(folder, cohort)
    leave_attempt(path, "c")
    change_tissue_b(cohort)
    before = sorted(folder.rglob("*"))
    removals = [*of_no_use(folder), *named(folder, path.name)]
    assert [take_away(removal, dry_run=True) for removal in removals] == ["", "", ""]
    assert sorted(folder.rglob("*")) == before
