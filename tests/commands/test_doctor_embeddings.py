"""What the doctor says of stored features, and removes of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from feature_folders import DAMAGES, TILES, leave_attempt, newer, write_cohort, write_features
from stores import TINY, random_tissue, three_tissues

from tissueseg.command import run_command
from tissueseg.embed import embed
from tissueseg.store.embedding_writer import EmbeddingWriter
from tissueseg.store.embeddings import EmbeddingStore
from tissueseg.store.tissues import TissueStore

Command = Callable[..., Any]

WORDS = (*TINY, "store.path=s.zarr", "modality=sp")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort and its SP features."""
    folder = tmp_path_factory.mktemp("drawn")
    write_cohort(folder / "s.zarr")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["tissueseg.embed", *WORDS])
        run_command("embed", embed)
    return folder


@pytest.fixture
def here(tmp_path: Path, drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, to work in."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(drawn, tmp_path, dirs_exist_ok=True)


def encoded(here: Path) -> Path:
    (path,) = here.glob("s_embeddings/tiny*.zarr")
    return path


def made_up(here: Path, seed: int = 0) -> Path:
    """Another store beside it, of tissues a and b."""
    return write_features(here / "s_embeddings", TissueStore(here / "s.zarr"), seed=seed)


def change_tissue_b(here: Path) -> None:
    write_cohort(here / "s.zarr", three_tissues() | {"b": random_tissue(seed=9, patient="p_b")})


def lines(out: str, name: str) -> list[str]:
    """Those that speak of something."""
    return [line for line in out.splitlines() if name in line]


def test_what_train_is_given_is_held_against_every_store(command: Command, here: Path) -> None:
    name = encoded(here).name
    other, damaged = made_up(here), made_up(here, seed=1)
    DAMAGES["spec lost"](damaged)
    result = command("doctor", *WORDS)
    assert (result.code, result.err, "FAIL" in result.out) == (0, "", False)
    first, own = lines(result.out, name)
    assert first.endswith("(1 view, float16); no encoder is built")
    assert f"{name}: tiny_random_init, sp, 1 view, float16, 3 of 3 tissues, 0.0" in own
    assert own.endswith(" MB; serves")
    (others,) = lines(result.out, other.name)
    assert "made_up, sp, 1 view, float16, 2 of 3 tissues, " in others
    assert "MB; is of another origin (stored ≠ wanted): data.mpp nothing ≠ 0.5; " in others
    (says,) = lines(result.out, damaged.name)
    assert says.startswith("notice")
    assert "is damaged" in says


@pytest.mark.parametrize("features", ["auto", "online"])
def test_stores_that_do_not_serve_say_why(command: Command, here: Path, features: str) -> None:
    name = encoded(here).name
    result = command("doctor", *WORDS, f"features={features}", "views=8")
    assert result.code == 0
    assert "encoded online" in result.out
    assert lines(result.out, name)[-1].endswith("views.dihedral 1 ≠ 8")
    result = command("doctor", *WORDS, f"features={features}", "data.tile_px=64")
    assert lines(result.out, name)[-1].endswith("tiling.tile_px 32 ≠ 64")


def test_stores_are_listed_where_none_serves_and_one_must(command: Command, here: Path) -> None:
    name = encoded(here).name
    result = command("doctor", *WORDS, "features=stored", "modality=he")
    assert (result.code, result.out.count("FAIL")) == (1, 1)
    assert "features=stored, but the nearest store" in result.out
    assert lines(result.out, f"{name}: tiny")[0].endswith("modality sp ≠ he")


def test_stale_tissues_and_attempts_are_counted(command: Command, here: Path) -> None:
    change_tissue_b(here)
    leave_attempt(encoded(here), "c")
    result = command("doctor", *WORDS)
    (line,) = lines(result.out, "2 of 3 tissues, 1 stale, ")
    assert line.startswith("notice")
    assert ", unfinished 0.00 MB; " in line


def test_no_line_is_said_of_stores_that_are_not_there(command: Command, here: Path) -> None:
    shutil.rmtree(here / "s_embeddings")
    result = command("doctor", *WORDS)
    (line,) = lines(result.out, "features ")
    assert "encoded online, since there are none in" in line


def test_a_folder_is_shown_with_size_and_origin(command: Command, here: Path) -> None:
    other = made_up(here, seed=7)
    result = command("doctor", "embeddings=s_embeddings")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"made from {here / 's.zarr'}:\n")
    text = " ".join(result.out.split())
    for said in ("sp float16", "32 px 32-true", "16 px", "made_up, 00000000", "seed 0"):
        assert said in text
    assert other.name[:20] in text
    assert "2 stores of features, 0.0" in result.out
    assert command("doctor", f"embeddings={other}").out.count("16 px") == 1


def test_exit_1_says_that_something_is_of_no_use(command: Command, here: Path) -> None:
    change_tissue_b(here)
    result = command("doctor", "embeddings=s_embeddings")
    assert (result.code, result.err) == (1, "")
    assert f"warning: {encoded(here).name}: 1 tissue stale (b)" in result.out
    other = made_up(
        here
    )  # the one before was copied, and where it was made there are tissues still
    shutil.rmtree(here / "s.zarr")
    result = command("doctor", f"embeddings={other}")
    assert (result.code, result.err) == (1, "")
    assert f"made from {here / 's.zarr'}, which is gone:" in result.out
    assert f"its tissue store {here / 's.zarr'} is gone" in result.out


def test_damaged_stores_are_named(command: Command, here: Path) -> None:
    DAMAGES["spec lost"](encoded(here))
    result = command("doctor", "embeddings=s_embeddings")
    assert (result.code, result.err) == (1, "")
    assert f"warning: {encoded(here)} is damaged: " in result.out
    assert "1 store of features, 0.0" in result.out


def test_attempts_and_empty_folders_are_no_fault(command: Command, here: Path) -> None:
    leave_attempt(encoded(here), "c")
    result = command("doctor", "embeddings=s_embeddings")
    assert (result.code, "1 tissue unfinished, 0.00 MB" in result.out) == (0, True)
    (here / "empty").mkdir()
    result = command("doctor", "embeddings=empty")
    assert (result.code, result.out) == (0, "no stores of features, 0.00 MB\n")


def test_a_folder_is_looked_at_without_torch(here: Path) -> None:
    program = (
        "import sys\nfrom tissueseg.command import run_command\nfrom tissueseg.doctor import doctor\n"
        "run_command('doctor', doctor)\nprint({'torch', 'lightning'} & set(sys.modules))"
    )
    given = ["embeddings=s_embeddings", "prune=stale"]
    for words in (given[:1], given):
        result = subprocess.run(
            [sys.executable, "-c", program, *words], capture_output=True, text=True, check=True
        )
        assert result.stdout.endswith("set()\n")


def test_a_named_store_is_removed(command: Command, here: Path) -> None:
    path = encoded(here)
    result = command("doctor", "embeddings=s_embeddings", "prune=tiny")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"removed {path.name} (as asked for): 0.0")
    assert result.out.splitlines()[-1].endswith(" MB freed")
    assert list((here / "s_embeddings").iterdir()) == []
    assert (here / "s.zarr").is_dir()


def test_several_are_removed_or_none(command: Command, here: Path) -> None:
    one, two, three = encoded(here), made_up(here), made_up(here, seed=1)
    result = command("doctor", "embeddings=s_embeddings", f"prune=[{one.name},other]")
    assert (result.code, one.is_dir()) == (2, True)
    fingerprint = EmbeddingStore(two).fingerprint
    command("doctor", "embeddings=s_embeddings", f"prune=[tiny,{fingerprint}]")
    assert [path.name for path in (here / "s_embeddings").glob("[!.]*")] == [three.name]


def test_what_is_of_no_use_is_removed(command: Command, here: Path) -> None:
    path, damaged = encoded(here), made_up(here)
    DAMAGES["metadata lost"](damaged)
    change_tissue_b(here)
    leave_attempt(path, "c")
    before = sorted(here.rglob("*"))
    dry = command("doctor", "embeddings=s_embeddings", "prune=stale", "dry_run=true")
    assert sorted(here.rglob("*")) == before
    result = command("doctor", "embeddings=s_embeddings", "prune=stale")
    assert (result.code, result.err) == (0, "")
    said = result.out.splitlines()[:-1]
    assert dry.out.splitlines()[:-1] == [line.replace("removed", "would remove") for line in said]
    assert "nothing is removed (dry_run=true)" in dry.out
    what = [line.partition(":")[0] for line in said]
    assert what == [
        f"removed {damaged.name} (damaged)",
        f"removed {path.name}/b (made from other images)",
        f"removed attempts at {path.name}/c (left unfinished)",
    ]
    assert EmbeddingStore(path).tiles("a") > 0
    assert command("doctor", "embeddings=s_embeddings").code == 0
    assert command("doctor", "embeddings=s_embeddings", "prune=stale").out == "0.00 MB freed\n"


def test_stores_of_another_version_are_removed_by_name_only(command: Command, here: Path) -> None:
    newer(encoded(here))
    command("doctor", "embeddings=s_embeddings", "prune=stale")
    assert "schema 2" in command("doctor", "embeddings=s_embeddings").out
    assert command("doctor", "embeddings=s_embeddings", "prune=tiny").code == 0
    assert list((here / "s_embeddings").iterdir()) == []


def test_nothing_goes_that_a_worker_is_at(command: Command, here: Path) -> None:
    path = encoded(here)
    with EmbeddingWriter(EmbeddingStore(path)) as writer:
        attempt = writer.begin("d", TILES)
        assert attempt is not None
        result = command("doctor", "embeddings=s_embeddings", "prune=tiny")
        assert (result.code, result.err.count("\n")) == (2, 1)
        assert f"error: {path.name} is kept: a worker is at tissue d: " in result.err
        result = command("doctor", "embeddings=s_embeddings", "prune=stale")
        assert (result.code, result.err) == (0, "")
        assert f"kept attempts at {path.name}/d: a worker is at tissue d" in result.out
        attempt.discard()
    assert EmbeddingStore(path).tiles("a") > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["embeddings=none"], "embeddings=none is no folder that can be read"),
        (["embeddings=s.zarr"], "s.zarr holds no stored features"),
        (["embeddings=s3://bucket/x.zarr"], "wanted a local folder"),
        (["embeddings=null"], "embeddings=None, wanted a local folder"),
        (["embeddings=3"], "wanted a local folder"),
        (["embeddings=s_embeddings", "store=s.zarr"], "one at a time"),
        (["embeddings=s_embeddings", "dry_run=perhaps"], "dry_run=perhaps, wanted true or false"),
        (["embeddings=s_embeddings", "prune=other"], "prune=other names no store of features"),
        (["embeddings=s_embeddings", "prune=made"], "prune=made means 2 stores (made_up-sp-"),
        (["embeddings=s_embeddings", "prune=[]"], "prune=[] names no store"),
        (["embeddings=s_embeddings", "prune=''"], "prune= names no store"),
        (["embeddings=s_embeddings", "prune=12e45678"], "prune=inf reads as no name"),
        (["embeddings=s_embeddings", "prune=1234567"], "prune=1234567 names no store"),
        (["embeddings=s_embeddings", "prune={a: 1}"], "reads as no name"),
        ([*WORDS, "prune=stale"], "prune=stale has no folder to prune in: give embeddings="),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(
    command: Command, here: Path, words: list[str], said: str
) -> None:
    made_up(here)
    made_up(here, seed=1)
    before = sorted(here.rglob("*"))
    result = command("doctor", *words)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert said in result.err
    assert sorted(here.rglob("*")) == before
