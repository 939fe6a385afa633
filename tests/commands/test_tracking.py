"""What a training sends to W&B and TensorBoard, read back from what it left on disk."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from feature_runs import WORDS, feature_store, write_cohort
from wandb_log import OfflineRun, read_offline

from tissueseg.command import run_command
from tissueseg.config import CONFIG_DIR
from tissueseg.embed import embed
from tissueseg.metrics.definitions import METRIC_DEFINITIONS, definition_of
from tissueseg.train import train

Command = Callable[..., Any]  # name, overrides -> code, out, err
EPOCHS = 3


class Tracked(NamedTuple):
    """A run on stored features with everything on, and what W&B would be sent of it."""

    folder: Path
    sent: OfflineRun
    home: Path


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory, demo_cache: Path) -> Tracked:
    here = tmp_path_factory.mktemp("tracked")
    write_cohort(here)
    run = here / "run"
    words = ("logger=wandb", "logger.tensorboard=true", f"epochs={EPOCHS}", f"run_dir={run}")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        for name in ("WANDB_API_KEY", "WANDB_DATA_DIR", "NETRC"):
            patch.delenv(name, raising=False)
        patch.setenv("WANDB_MODE", "")  # as scripts leave it
        patch.setenv("HOME", str(here / "home"))
        for name, job, more in (("embed", embed, ()), ("train", train, words)):
            patch.setattr(sys, "argv", [f"tissueseg.{name}", *WORDS, *more])
            run_command(name, job)
    return Tracked(run, read_offline(run), here / "home")


def csv_rows(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


def test_every_epoch_is_one_row_with_the_numbers_of_the_csv(tracked: Tracked) -> None:
    *epochs, last = tracked.sent.history
    assert [row["_step"] for row in tracked.sent.history] == list(range(EPOCHS + 1))
    assert [row["epoch"] for row in epochs] == list(range(EPOCHS))
    for sent, kept in zip(epochs, csv_rows(tracked.folder), strict=True):
        del kept["lr"]
        assert {key: sent[key] for key in kept} == pytest.approx(kept, rel=1e-6)
    assert not {key for key in last if key.startswith(("train/", "val/", "epoch"))}


def test_the_best_so_far_stands_beside_the_monitor(tracked: Tracked) -> None:
    epochs = tracked.sent.history[:-1]
    scores = [row["val/dice/macro_foreground"] for row in epochs]
    assert [row["val/best"] for row in epochs] == list(np.maximum.accumulate(scores))
    assert tracked.sent.summary["val/best"] == max(scores)


def test_curves_run_over_epochs_and_know_their_best(tracked: Tracked) -> None:
    defined = tracked.sent.metrics
    for pattern, best in {"val/dice/*": "max", "val/iou/*": "max", "val/loss*": "min"}.items():
        assert defined[pattern].step_metric == "epoch"
        assert getattr(defined[pattern].summary, best)
    assert isinstance(tracked.sent.summary["train/loss"], dict)
    losses = [row["train/loss"] for row in tracked.sent.history[:-1]]
    assert tracked.sent.summary["train/loss"]["min"] == min(losses)


def test_the_summary_holds_the_kept_epochs_scores_as_metrics_json_does(tracked: Tracked) -> None:
    kept = json.loads((tracked.folder / "metrics.json").read_text())
    summary = tracked.sent.summary
    for key, value in kept["metrics"].items():
        if value is None:
            assert np.isnan(float(summary[key])), key
        else:
            assert summary[key] == pytest.approx(value), key
    assert {"val/dice/tumor", "test/dice/tumor"} < kept["metrics"].keys()
    assert summary["kept/epoch"] == kept["epoch"]
    cost = json.loads((tracked.folder / "cost.json").read_text())
    assert {key: summary[f"cost/{key}"] for key in cost} == cost


def test_every_score_is_defined(tracked: Tracked) -> None:
    undefined = {
        key
        for key in tracked.sent.keys
        if not key.startswith(("_", "panels", "kept/")) and definition_of(key) is None
    }
    assert undefined == set()
    assert tracked.sent.config["metric_definitions"] == METRIC_DEFINITIONS


def test_the_whole_configuration_is_sent(tracked: Tracked) -> None:
    kept = yaml.safe_load((tracked.folder / "config.yaml").read_text())
    assert {key: tracked.sent.config[key] for key in kept} == kept


@pytest.mark.parametrize("side", ["val", "test"])
def test_tables_are_those_of_metrics_json(tracked: Tracked, side: str) -> None:
    kept = json.loads((tracked.folder / "metrics.json").read_text())
    pooled = kept[side]["pooled"]
    table = tracked.sent.table(f"kept/{side}/classes")
    assert table["columns"] == ["class", "truth share", "Dice", "IoU", "guess"]
    assert [row[0] for row in table["data"]] == kept["classes"]
    assert [row[2] for row in table["data"]] == pooled["dice"]
    assert [row[4] for row in table["data"]] == pooled["prior_dice"]
    tissues = tracked.sent.table(f"kept/{side}/tissues")
    assert [row[0] for row in tissues["data"]] == list(kept[side]["tissues"])
    counts = np.load(tracked.folder / {"val": "confusion.npy", "test": "confusion_test.npy"}[side])
    confusion = tracked.sent.table(f"kept/{side}/confusion")["data"]
    assert [row[2] for row in confusion] == counts.sum(0).ravel().tolist()
    shares = [row[3] for row in confusion if row[0] == "tumor"]
    assert sum(shares) == pytest.approx(1)


def test_panels_are_sent_as_they_are_drawn(tracked: Tracked) -> None:
    (kept,) = tracked.sent.images("kept/panels")
    drawn = sorted((tracked.folder / "panels").glob("*.png"))
    assert [path.read_bytes() for path in kept] == [path.read_bytes() for path in drawn]
    assert len(tracked.sent.images("panels")) == EPOCHS
    assert all(path.is_file() for paths in tracked.sent.images("panels") for path in paths)


def test_the_decoder_is_an_artifact_read_where_it_lies(tracked: Tracked) -> None:
    artifact = tracked.sent.artifact("model")
    about = json.loads(artifact.metadata)
    kept = json.loads((tracked.folder / "metrics.json").read_text())
    encoder = json.loads((tracked.folder / "environment.json").read_text())["encoder"]
    assert (about["encoder"], about["encoder_sha256"]) == (encoder["name"], encoder["sha256"])
    assert (about["epoch"], about["monitor"]) == (kept["epoch"], kept["monitor"])
    (entry,) = artifact.manifest.contents
    assert Path(entry.local_path) == tracked.folder / "decoder.ckpt"


def test_of_stored_features_only_the_fingerprint_is_sent(tracked: Tracked) -> None:
    store = feature_store(tracked.folder.parent)
    artifact = tracked.sent.artifact("embeddings")
    about = json.loads(artifact.metadata)
    stored = json.loads((store / "zarr.json").read_text())["attributes"]
    (said,) = (part for part in stored.values() if "fingerprint" in part)
    assert (about["fingerprint"], about["fields"]) == (said["fingerprint"], said["fields"])
    assert Path(about["place"]).name == store.name
    assert list(artifact.manifest.contents) == []
    assert json.loads(tracked.sent.artifact("model").metadata)["features"] == said["fingerprint"]


def test_all_that_waits_to_be_sent_lies_in_the_run_folder(tracked: Tracked) -> None:
    entries = (e for artifact in tracked.sent.artifacts for e in artifact.manifest.contents)
    places = [Path(entry.local_path) for entry in entries]
    assert places
    assert all(place.is_relative_to(tracked.folder) and place.is_file() for place in places)
    assert [p for p in tracked.home.rglob("*") if p.is_file() and p.suffix != ".log"] == []
    sizes = {p: p.stat().st_size for p in (tracked.folder / "wandb").rglob("*") if p.is_file()}
    media = sum(size for path, size in sizes.items() if "media" in path.parts)
    assert sum(sizes.values()) - media < 1_000_000, sizes


def test_wandbs_own_reader_finds_a_run_to_sync(tracked: Tracked) -> None:
    words = [sys.executable, "-m", "wandb", "sync", "--dry-run", str(tracked.sent.folder)]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert "Would sync 1 run(s)" in said.stdout + said.stderr
    assert next(tracked.sent.folder.glob("*.wandb")).name in said.stdout + said.stderr


def test_tensorboard_holds_the_same_curves(tracked: Tracked) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tracked.folder / "tensorboard")).Reload()
    for key in ("train/loss", "val/dice/macro_foreground"):
        points = board.Scalars(key)
        assert [point.step for point in points] == list(range(EPOCHS))
        kept = [row[key] for row in csv_rows(tracked.folder)]
        assert [point.value for point in points] == pytest.approx(kept, rel=1e-6)
    drawn = {f"panels/{path.stem}" for path in (tracked.folder / "panels").glob("*.png")}
    assert set(board.Tags()["images"]) == drawn
    assert "kept/test/dice/macro_foreground" in board.Tags()["scalars"]


def documented_panels() -> list[dict[str, Any]]:
    lines = (CONFIG_DIR / "logger/wandb.yaml").read_text().splitlines()
    start = lines.index("# dashboard:")
    return yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines[start:]))["dashboard"]


@pytest.mark.parametrize("panel", documented_panels(), ids=lambda panel: panel["title"])
def test_panels_of_the_documented_dashboard_have_something_to_show(
    tracked: Tracked, panel: dict[str, Any]
) -> None:
    known, sent = tracked.sent.keys, tracked.sent.config
    assert panel["kind"] in {"line", "bar", "scatter", "table", "media"}
    assert panel.get("group_by", "job_type") == "job_type"
    assert sent
    for key in (*panel["y"], *([panel["x"]] if "x" in panel else ())):
        shown = key.replace("<class>", "tumor")
        file = {"table": f"{shown}/path", "media": f"{shown}/filenames"}.get(panel["kind"], shown)
        assert file in known, file
    if panel["kind"] == "line":
        assert all(
            panel["x"] in row and key.replace("<class>", "tumor") in row
            for key in panel["y"]
            for row in tracked.sent.history[:-1]
        )


def test_tensorboard_that_is_not_installed_is_said_in_one_line(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tissueseg.modules.tracking.find_spec", lambda name: None)
    result = command("train", "+debug=fast", "logger=tensorboard")
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "pip install 'tissueseg[tensorboard]'" in result.err
    assert list(tmp_path.iterdir()) == []
