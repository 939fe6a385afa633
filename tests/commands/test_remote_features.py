"""Training from a server: the numbers of a local copy, or one line that says what is wrong with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from feature_runs import WORDS, epochs, error_line, feature_store, write_cohort
from file_server import FileServer, serving
from omegaconf import OmegaConf

from tissueseg.command import run_command
from tissueseg.embed import embed
from tissueseg.train import train

Command = Callable[..., Any]  # name, overrides -> code, out, err

STORED = ("features=stored", "epochs=2")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort and its features, not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    write_cohort(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["tissueseg.embed", *WORDS])
        run_command("embed", embed)
    return folder


@pytest.fixture
def server(made: Path) -> Iterator[FileServer]:
    with serving(made) as running:
        yield running


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a copy of the cohort alone."""
    shutil.copytree(made / "cohort.zarr", tmp_path / "cohort.zarr")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def address(server: FileServer, made: Path) -> str:
    """Of the features."""
    return f"{server.url}/cohort_embeddings/{feature_store(made).name}"


def without_times(run: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in e.items() if "seconds" not in k} for e in epochs(run)]


@pytest.fixture(scope="module")
def local_run(made: Path) -> list[dict[str, float]]:
    """What features on a disk train."""
    path = f"embeddings.path={feature_store(made)}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.setattr("sys.argv", ["tissueseg.train", *WORDS, *STORED, path, "run_dir=local"])
        run_command("train", train)
    return without_times(made / "local")


def test_a_run_on_features_of_a_server_is_that_on_a_copy(
    command: Command,
    made: Path,
    here: Path,
    server: FileServer,
    local_run: list[dict[str, float]],
) -> None:
    where = address(server, made)
    result = command("train", *WORDS, *STORED, f"embeddings.path={where}", "run_dir=remote")
    assert result.code == 0, result.err
    assert f"features: stored in {where}" in result.out
    assert without_times(here / "remote") == local_run
    about = json.loads((here / "remote" / "environment.json").read_text())
    assert about["features"] == f"stored in {where}"
    assert OmegaConf.load(here / "remote" / "config.yaml").embeddings.path == where


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_images_and_features_may_both_be_on_a_server(
    command: Command,
    made: Path,
    here: Path,
    server: FileServer,
    local_run: list[dict[str, float]],
    workers: int,
) -> None:
    words = (f"store.path={server.url}/cohort.zarr", f"embeddings.path={address(server, made)}")
    given = (f"data.num_workers={workers}", "run_dir=remote")
    result = command("train", *WORDS, *STORED, *words, *given)
    assert result.code == 0, result.err
    assert f"store: {server.url}/cohort.zarr" in result.out
    assert without_times(here / "remote") == local_run
    about = json.loads((here / "remote" / "environment.json").read_text())
    assert about["store"] == f"{server.url}/cohort.zarr"
    result = command("evaluate", "run=remote", "side=test", "features=stored", words[1])
    assert result.code == 0, result.err


def test_features_of_a_server_must_be_those_wanted(
    command: Command, made: Path, here: Path, server: FileServer
) -> None:
    path = f"embeddings.path={address(server, made)}"
    line = error_line(command("train", *WORDS, *STORED, path, "views=8"))
    assert "is of another origin (stored ≠ wanted): views.dihedral 1 ≠ 8" in line
    result = command("train", *WORDS, path, "views=8", "epochs=1", "run_dir=online")
    assert result.code == 0, result.err
    assert "features: encoded online, since the nearest store" in result.out


FAULTS: dict[str, tuple[tuple[str, ...], str]] = {
    "a folder": (
        ("embeddings.path={0}/cohort_embeddings",),
        "no stored features at {0}/cohort_embeddings itself: name the store",
    ),
    "features elsewhere": (
        ("embeddings.path={0}/other.zarr",),
        "no stored features at {0}/other.zarr itself",
    ),
    "features nowhere": (
        ("store.path={0}/cohort.zarr",),
        "embeddings.path is not given, and nothing is looked for beside {0}/cohort.zarr",
    ),
    "no such tissues": (
        ("store.path={0}/other.zarr",),
        "{0}/other.zarr is not a tissue store",
    ),
    "no such protocol": (
        ("embeddings.path=gopher://host/other.zarr",),
        "gopher://host/other.zarr cannot be opened (Protocol not known: gopher)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_not_on_a_server_is_said(
    command: Command, here: Path, server: FileServer, fault: str
) -> None:
    words, said = FAULTS[fault]
    given = [word.format(server.url) for word in words]
    assert said.format(server.url) in error_line(command("train", *WORDS, *STORED, *given))


@pytest.mark.parametrize(
    ("features", "what"),
    [("stored", "zarr.json"), ("auto", "zarr.json"), ("auto", "b/zarr.json"), ("auto", "a/c/")],
)
def test_a_server_that_fails_is_no_reason_to_encode(
    command: Command, made: Path, here: Path, server: FileServer, features: str, what: str
) -> None:
    name = feature_store(made).name
    server.faults = {f"{name}/{what}": 503}
    path = f"embeddings.path={address(server, made)}"
    line = error_line(command("train", *WORDS, path, f"features={features}", "run_dir=none"))
    assert f"{name}/{what}" in line
    assert "cannot be reached (503" in line


def test_tissues_of_a_server_are_encoded_online_where_nothing_is_stored(
    command: Command, here: Path, server: FileServer
) -> None:
    given = (f"store.path={server.url}/cohort.zarr", "epochs=1", "run_dir=online")
    result = command("train", *WORDS, *given)
    assert result.code == 0, result.err
    assert "features: encoded online, since embeddings.path is not given" in result.out


def test_the_doctor_finds_that_tissues_of_a_server_would_be_encoded_online(
    command: Command, here: Path, server: FileServer
) -> None:
    result = command("doctor", *WORDS, f"store.path={server.url}/cohort.zarr")
    assert (result.code, result.err) == (0, "")
    assert f"{server.url}/cohort.zarr: 3 tissues" in result.out
    assert "encoded online, since embeddings.path is not given" in result.out
    assert result.out.endswith("Nothing would stop train.\n")


def test_tissues_of_a_server_are_embedded_to_a_local_folder(
    command: Command, made: Path, here: Path, server: FileServer
) -> None:
    store = f"store.path={server.url}/cohort.zarr"
    line = error_line(command("embed", *WORDS, store))
    assert "is remote, so features have no place beside it: name one with embeddings.path." in line
    result = command("embed", *WORDS, store, "embeddings.path=cohort_embeddings")
    assert result.code == 0, result.err
    mine, served = feature_store(here), feature_store(made)
    assert mine.name == served.name
    for shard in (p for p in served.rglob("*") if p.is_file() and "c" in p.parts):
        assert (mine / shard.relative_to(served)).read_bytes() == shard.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ("doctor", "store={0}/cohort.zarr"),
        ("export", "store.path={0}/cohort.zarr", "out=exported", "format=ngff"),
    ],
    ids=["doctor", "export"],
)
def test_what_works_on_a_disk_alone_says_so(
    command: Command, here: Path, server: FileServer, words: tuple[str, ...]
) -> None:
    there = set(here.iterdir())
    line = error_line(command(*(word.format(server.url) for word in words)))
    assert set(here.iterdir()) == there
    assert "is remote, but this works with local stores only: copy the store to a disk" in line
