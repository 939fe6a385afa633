"""`pretrain` on what it cannot learn from: one line each, and nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from feature_runs import error_line
from pretrain_runs import table, vectors, words, write_all
from safetensors.torch import load_file, save_file
from stores import compose

Command = Callable[..., Any]  # name, overrides -> code, out, err


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stores and markers."""
    return write_all(tmp_path_factory.mktemp("pretrain"))


BAD = {
    "no epochs": ("epochs=0",),
    "both images": ("modality=he_sp",),
    "two kinds of weights": ("encoder.weights=builtin://vit_demo.safetensors",),
    "no weights": ("encoder.random_init=false",),
    "shares in the wrong order": ("autoencoder.mask.lowest=0.9", "autoencoder.mask.highest=0.5"),
    "a chance above one": ("autoencoder.mask.whole=1.5",),
    "a share that is text": ("autoencoder.mask.lowest=most",),
    "a step of more tiles than there are": ("data.batch_size=11",),
    "patches that fill no tile": ("data.tile_px=36",),
    "tiles larger than any tissue is of use": ("data.tile_px=0",),
    "a store that is text": ("more_stores=text",),
    "a store that is a number": ("more_stores=[1]",),
    "a store that is not there": ("more_stores=[nowhere.zarr]",),
    "an encoder that loads nothing": ("encoder=tiny",),
    "an encoder of other images": ("encoder=vit_demo",),
    "no depth": ("autoencoder.depth=0",),
    "no channel to fill in": ("autoencoder.decoded=0",),
    "a large seed": ("seed=4294967296",),
    "nobody to train on": ("split={train: 0, val: 1, test: 2}",),
    "half a tile to score": ("score_tiles=0.5",),
    "none of a step at a time": ("data.at_a_time=0",),
    "an unknown precision": ("trainer.precision=8",),
    "views of no kind": ("views.dihedral=3",),
    "pictures at no epoch": ("panels.every_n_epochs=0",),
    "numbers of no kind": ("kept.dtype=float8",),
    "half a decoder": ("kept.decoder=0.5",),
    "an option that is not there": ("autoencoder.width=3",),
}
SAYS = {
    "no epochs": "epochs=0",
    "two kinds of weights": "keep one of them",
    "no weights": "encoder.random_init=true",
    "shares in the wrong order": "lowest=0.9",
    "a chance above one": "whole=1.5",
    "a step of more tiles than there are": "10 training tiles fill no step of data.batch_size=11",
    "patches that fill no tile": "data.tile_px=36",
    "a store that is text": "more_stores=text",
    "a store that is a number": "more_stores=[1]",
    "a store that is not there": "nowhere.zarr",
    "an encoder that loads nothing": "encoder=tiny loads no weights",
    "an encoder of other images": "modality=sp",
    "no depth": "autoencoder.depth=0",
    "no channel to fill in": "autoencoder.decoded=0",
    "a large seed": "seed=4294967296",
}


@pytest.mark.parametrize("case", BAD)
def test_mistakes_are_one_line_and_no_folder_is_made(
    command: Command, made: Path, tmp_path: Path, case: str
) -> None:
    given = words(made, "sp")
    if case == "an encoder that loads nothing":
        given = tuple(w for w in given if not w.startswith(("encoder", "autoencoder")))
    if case == "an encoder of other images":
        given = tuple(w for w in given if not w.startswith(("encoder.", "autoencoder")))
    said = error_line(command("pretrain", *given, *BAD[case], f"run_dir={tmp_path / 'run'}"))
    assert SAYS.get(case, "") in said
    assert not (tmp_path / "run").exists()


def test_a_marker_without_a_vector_is_named(command: Command, made: Path, tmp_path: Path) -> None:
    known = load_file(table(made))
    save_file({n: t for n, t in known.items() if n != "P01732"}, tmp_path / "t.safetensors")
    given = (
        *words(made, "sp"),
        f"more_stores=[{made / 'more.zarr'}]",
        *vectors(tmp_path / "t.safetensors"),
        f"run_dir={tmp_path / 'run'}",
    )
    said = error_line(command("pretrain", *given))
    assert "CD8 (P01732 has no vector)" in said
    dropped = command("pretrain", *given, "markers.unmatched=drop", "epochs=1")
    assert dropped.code == 0, dropped.err
    markers = [
        row["marker"] for row in json.loads((tmp_path / "run/metrics.json").read_text())["markers"]
    ]
    assert markers == ["DAPI", "CD3", "Ki67"]


@pytest.mark.parametrize(("epochs", "warmup"), [(100, 2), (3, 2), (2, 1), (1, 0)])
def test_a_short_run_has_no_longer_a_warm_up_than_it_has_room_for(epochs: int, warmup: int) -> None:
    found = compose(f"epochs={epochs}", name="pretrain").optim.scheduler
    assert (found.warmup, found.period) == (warmup, epochs)


def test_a_loss_that_is_not_finite_is_named(command: Command, made: Path, tmp_path: Path) -> None:
    given = (*words(made, "sp"), "optim.optimizer.lr=1e30", "trainer.gradient_clip_val=null")
    said = error_line(command("pretrain", *given, f"run_dir={tmp_path / 'run'}"))
    assert "train/loss is nan" in said
    assert "tissue a, tile at row" in said
