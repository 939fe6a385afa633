"""Stored features of another origin than a run wants: every field that differs, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from feature_runs import WEIGHTED, WORDS, error_line, write_cohort, write_weights
from stores import three_tissues

from tissueseg.command import run_command
from tissueseg.embed import embed

Command = Callable[..., Any]  # name, overrides -> code, out, err


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a cohort; tiles of 32 px do not fill its tissues."""
    monkeypatch.chdir(tmp_path)
    write_cohort(tmp_path, three_tissues(72))
    return tmp_path


WANTED = {
    "a tile size": (["data.tile_px=64"], ["tiling.tile_px 32 ≠ 64"]),
    "more views": (["views=8"], ["views.dihedral 1 ≠ 8"]),
    "altered views": (["views.extra=2"], ["views.extra 0 ≠ 2"]),
    "a number type": (["embeddings.dtype=bfloat16"], ["dtype float16 ≠ bfloat16"]),
    "a precision": (["trainer.precision=bf16-mixed"], ["precision 32-true ≠ bf16-mixed"]),
    "edges": (["data.eval_edge=shift"], ["tiling.edges ['pad', 'shift'] ≠ ['shift']"]),
    "a halo": (["encoder.halo_px=8"], ["halo_px 0 ≠ 8"]),
    "a seed": (["encoder.seed=1"], ["random, seed 0", "≠ random, seed 1"]),
    "heads": (["encoder.heads=2"], ["encoder.heads 4 ≠ 2"]),
    "a quantile": (
        ["encoder.spec.normalisation.sp_quantile=0.999"],
        ["sp_quantile 0.99 ≠ 0.999"],
    ),
    "a mean": (
        ["+encoder.spec.normalisation.he_mean=[0.1,0.2,0.3]"],
        ["he_mean nothing ≠ [0.1, 0.2, 0.3]"],
    ),
    "other training tissues": (
        ["split={train: 2, val: 1, test: 0}", "encoder.heads=2"],
        ["encoder.heads 4 ≠ 2", "sp_mean ["],
    ),
    "a modality": (["modality=he"], ["modality he_sp ≠ he"]),
    "many": (
        ["views=8", "data.tile_px=64", "embeddings.dtype=float32"],
        ["dtype float16 ≠ float32; ", "tiling.tile_px 32 ≠ 64; ", "views.dihedral 1 ≠ 8"],
    ),
}


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cohort and its features, not to be changed."""
    folder = tmp_path_factory.mktemp("embedded")
    write_cohort(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.argv", ["tissueseg.embed", *WORDS, "modality=he_sp"])
        run_command("embed", embed)
    return folder


@pytest.mark.parametrize(("change", "says"), WANTED.values(), ids=WANTED)
def test_features_of_another_origin_are_refused_field_by_field(
    command: Command,
    embedded: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: list[str],
    says: list[str],
    record_property: Any,
) -> None:
    monkeypatch.chdir(embedded)
    words = (*WORDS, "modality=he_sp", *change)
    error = error_line(command("train", *words, "features=stored", "run_dir=run"))
    record_property("message", error)
    assert error.startswith(
        "error: features=stored, but the nearest store, tiny_random_init-he_sp-"
    )
    for words in says:
        assert words in error
    assert "Make them first (python -m tissueseg.embed setting=untrained name=tiny_run " in error
    assert all(word in error for word in change)
    assert not (embedded / "run").exists()


def test_features_of_other_weights_are_told_apart_by_their_digests(
    command: Command, here: Path
) -> None:
    words = (*WORDS, *WEIGHTED)
    one, two = (write_weights(here / f"{seed}.safetensors", seed) for seed in (1, 2))
    assert command("embed", *words, one).code == 0
    for check in ("strict", "match"):
        given = (*words, two, f"embeddings.check={check}", "features=stored")
        error = error_line(command("train", *given))
        shas = [sha256((here / f"{seed}.safetensors").read_bytes()).hexdigest() for seed in (1, 2)]
        assert f"weights sha {shas[0][:8]}… ≠ sha {shas[1][:8]}…. Make" in error


def test_features_that_match_serve_where_that_is_asked_for(command: Command, here: Path) -> None:
    assert command("embed", *WORDS, "views=8", "data.eval_edge=drop").code == 0
    words = (*WORDS, "features=stored", "epochs=1", "data.eval_edge=drop", "data.train_edge=drop")
    assert "≠" in error_line(command("train", *words))
    words = (*words, "embeddings.check=match")
    for change in ((), ("views=4",), ("embeddings.dtype=float32", "trainer.precision=bf16-mixed")):
        result = command("train", *words, *change)
        assert result.code == 0, result.err
        assert "(8 views, float16)" in result.out
    for change, said in (
        ("views.extra=1", "views {'dihedral': 8, 'extra': 0} ≠ {"),
        ("data.eval_edge=pad", "tiling.edges ['drop', 'shift'] ≠ ['drop', 'pad']"),
        ("data.tile_px=24", "tiling.tile_px 32 ≠ 24"),
        ("encoder.halo_px=8", "halo_px 0 ≠ 8"),
    ):
        assert said in error_line(command("train", *words, change))


def test_stores_of_two_weights_are_ambiguous(command: Command, here: Path) -> None:
    words = (*WORDS, *WEIGHTED)
    named = [write_weights(here / f"{seed}.safetensors", seed) for seed in (1, 2)]
    for weights in named:
        assert command("embed", *words, weights).code == 0
    error = error_line(command("train", *words, "features=stored"))
    for path in (here / "cohort_embeddings").glob("[!.]*"):
        assert path.name in error
    for weights in named:
        result = command("train", *words, weights, "features=stored", "epochs=1")
        assert result.code == 0, result.err
