"""How training tiles are drawn, from the command line: what is seen, what is kept, what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from feature_runs import WORDS, epochs, error_line
from omegaconf import OmegaConf
from stores import TINY, compose, three_tissues, write_store

from tissueseg.data.dataset import Pick, TileDataset
from tissueseg.store.tile_counts import FOLDER

Command = Callable[..., Any]  # name, overrides -> code, out, err


@pytest.fixture
def picked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What training reads: tissue, origin, view and draw of every tile, in order."""
    seen: list[Any] = []
    read = TileDataset.__getitem__

    def remember(dataset: TileDataset, index: int | Pick) -> Any:
        if isinstance(index, Pick):
            tissue, tile = dataset.tile(index.item)
            seen.append((tissue, tile.rows.start, tile.columns.start, *index[1:]))
        return read(dataset, index)

    monkeypatch.setattr(TileDataset, "__getitem__", remember)
    return seen


@pytest.mark.parametrize("sampling", ["natural", "foreground"])
def test_decoders_with_other_layers_see_the_same_tiles_in_the_same_order(
    command: Command, here: Path, picked: list[Any], sampling: str
) -> None:
    words = (*WORDS, f"sampling={sampling}", "views=8", "epochs=2")
    runs = []
    for i, decoder in enumerate(("decoder=baseline", "decoder=boundary", "seed=1")):
        picked.clear()
        result = command("train", *words, decoder, f"run_dir=run{i}")
        assert result.code == 0, result.err
        runs.append(list(picked))
    assert len(runs[0]) == 2 * 4  # a tissue of four tiles, twice
    assert len({pick[-1] for pick in runs[0]}) == len(runs[0])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    if sampling == "natural":
        assert {pick[:3] for pick in runs[0][:4]} == {pick[:3] for pick in runs[0][4:]}


def test_stored_features_come_for_tiles_that_are_drawn_again(command: Command, here: Path) -> None:
    words = (*WORDS, "sampling=foreground", "epochs=2", "views=4", "embeddings.dtype=float32")
    assert command("embed", *words).code == 0
    for features in ("online", "stored"):
        result = command("train", *words, f"features={features}", f"run_dir={features}")
        assert result.code == 0, result.err
    for online, stored in zip(epochs(here / "online"), epochs(here / "stored"), strict=True):
        assert stored["train/loss"] == pytest.approx(online["train/loss"], rel=1e-4)


def test_tiles_are_counted_once_for_all_runs(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = here / "cohort.zarr" / FOLDER
    assert command("train", *WORDS, "epochs=1", "run_dir=natural").code == 0
    assert not folder.exists()
    words = (*WORDS, "sampling=oversample", "epochs=1")
    assert command("train", *words, "run_dir=first").code == 0
    (kept,) = folder.glob("*.npz")
    written = kept.stat().st_mtime_ns
    assert command("train", *words, "sampling.gamma=0.5", "run_dir=second").code == 0
    assert [path.stat().st_mtime_ns for path in folder.glob("*.npz")] == [written]
    assert command("evaluate", "run=second").code == 0
    assert command("train", *words, "data.tile_px=16", "run_dir=third").code == 0
    assert len(list(folder.glob("*.npz"))) == 2


def test_a_store_that_nothing_can_be_kept_in_is_counted_with_one_notice(
    command: Command, here: Path
) -> None:
    folder = here / "cohort.zarr" / FOLDER
    folder.write_text("")  # in the folder's place: root may write where others may not
    result = command("train", *WORDS, "sampling=oversample", "epochs=1", "run_dir=run")
    assert result.code == 0, result.err
    assert (
        result.out.count("notice: classes are counted tile by tile anew in every run, since") == 1
    )


def test_the_last_batch_may_be_dropped(command: Command, here: Path, picked: list[Any]) -> None:
    words = (*WORDS, "epochs=1", "data.batch_size=3")
    assert command("train", *words, "data.drop_last=true", "run_dir=dropped").code == 0
    assert len(picked) == 3
    picked.clear()
    assert command("train", *words, "run_dir=kept").code == 0
    assert len(picked) == 4


REFUSED = {
    "sampling=rare": "Could not find 'sampling/rare'",
    "sampling=oversample sampling.gamma=2": "sampling.gamma=2, wanted a number 0 … 1.",
    "sampling=oversample sampling.gamma=null": "sampling.gamma=null, wanted a number 0 … 1.",
    "sampling=foreground sampling.share=half": "sampling.share=half, wanted a number 0 … 1.",
    "sampling.gamma=0.5": "gamma",
    "sampling._target_=torch.nn.ReLU": "sampling names no way of drawing tiles",
    "sampling=oversample data.shuffle=shard": "choose sampling=natural or data.shuffle=full",
    "data.drop_last=2": "data.drop_last=2, wanted true or false.",
    "data.drop_last=true data.batch_size=9": "leaves out all 4 training tiles",
}


@pytest.mark.parametrize(("overrides", "said"), REFUSED.items(), ids=REFUSED)
def test_mistakes_are_one_line(command: Command, here: Path, overrides: str, said: str) -> None:
    result = command("train", *WORDS, *overrides.split(), "run_dir=run")
    assert said in error_line(result)
    assert not (here / "run").exists()
    assert not (here / "cohort.zarr" / FOLDER).exists()


def test_a_run_from_before_sampling_could_be_chosen_is_scored(command: Command, here: Path) -> None:
    assert command("train", *WORDS, "epochs=1", "run_dir=run").code == 0
    saved = OmegaConf.load(here / "run/config.yaml")
    del saved["sampling"]
    del saved.data["drop_last"]
    OmegaConf.save(saved, here / "run/config.yaml")
    result = command("evaluate", "run=run")
    assert result.code == 0, result.err


def test_lightning_leaves_our_samplers_alone() -> None:
    for trainer in ("cpu", "gpu"):
        config = compose(*TINY, f"trainer={trainer}")
        assert config.trainer.use_distributed_sampler is False


@pytest.mark.slow
def test_two_processes_share_every_side(tmp_path: Path) -> None:
    """25 tiles: 12 each are trained on, 13 and 12 are scored, in four batches and in three."""
    store = write_store(tmp_path / "s.zarr", three_tissues(160))
    script = Path(__file__).parents[1] / "two_ranks.py"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(script.parent)}
    done = subprocess.run(
        [sys.executable, str(script), str(store.path), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    grid = {(0, 32 * y, 32 * x) for y in range(5) for x in range(5)}
    left_out = []
    for epoch in (0, 1):
        trained = [list(map(tuple, rank["train"][epoch])) for rank in ranks]
        assert list(map(len, trained)) == [12, 12]
        left_out.append(grid - {*trained[0], *trained[1]})
        assert len(left_out[-1]) == 1
        scored = [list(map(tuple, rank["val"][epoch])) for rank in ranks]
        assert list(map(len, scored)) == [13, 12]
        assert {*scored[0], *scored[1]} == grid
    assert ranks[0]["train"][0] != ranks[0]["train"][1]
