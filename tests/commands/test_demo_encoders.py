"""The demo runs on encoders that have learnt, and says where they are out of their depth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stores import three_tissues, write_store

Command = Callable[..., Any]  # name, overrides -> code, out, err

RUN = ("setting=demo", "+debug=fast", "logger=csv", "epochs=1")
DRAWN_ALONE = "has learnt from drawn tissue alone"


def test_the_demo_trains_on_learned_features_that_it_stores_first(
    command: Command, tmp_path: Path
) -> None:
    result = command("train", *RUN, f"run_dir={tmp_path / 'run'}")
    assert result.code == 0, result.err
    assert "baseline-he_sp-vit_demo+virtues_demo: decoder" in result.out
    assert "features: encoded before training" in result.out
    assert "random weights" not in result.out
    assert DRAWN_ALONE not in result.out
    again = command("train", *RUN, f"run_dir={tmp_path / 'again'}", "seed=1")
    assert again.code == 0
    assert "encoded before training" not in again.out


def test_tissue_of_ones_own_is_another_matter(command: Command, tmp_path: Path) -> None:
    store = write_store(tmp_path / "cohort.zarr", three_tissues())
    here = (f"store.path={store.path}", f"run_dir={tmp_path / 'run'}", "modality=he")
    result = command("train", *RUN, *here, "split={train: 1, val: 1, test: 1}", "data.tile_px=32")
    assert result.code == 0, result.err
    assert f"vit_demo {DRAWN_ALONE}" in result.out
