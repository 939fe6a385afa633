"""W&B: offline without a key, inside the run folder, and no word to anyone."""

import socket

import numpy as np
import pytest
from PIL import Image

from tissueseg.modules.tracking import close_tracking, open_tracking

OPTIONS = {"project": "tests", "entity": None, "tags": ["a"]}


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    """A user without W&B account, and a machine that must not be left."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(home))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(home))
    monkeypatch.setenv("WANDB_DATA_DIR", str(home))
    resolve = socket.getaddrinfo

    def at_home(host, *rest, **options):
        assert host in ("localhost", "127.0.0.1", None), f"looked up {host}"
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", at_home)


def test_without_a_key_it_stays_in_the_run_folder(no_key, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (logger,) = open_tracking(folder, "baseline-he", {"epochs": 2}, OPTIONS)
    run = logger.experiment
    assert run.settings.mode == "offline"
    assert (run.name, run.project, run.tags) == ("baseline-he", "tests", ("a",))
    assert run.config["epochs"] == 2
    logger.log_metrics({"val/loss": 0.5}, step=1)
    picture = folder / "b.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(picture)
    close_tracking([logger], {"val/macro_dice": 0.25}, [picture])
    (kept,) = (folder / "wandb").glob("offline-run-*")
    assert list(kept.glob("run-*.wandb"))


def test_a_mode_that_is_asked_for_is_taken(no_key, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (logger,) = open_tracking(tmp_path, "name", {}, OPTIONS)
    assert logger.experiment.disabled
    close_tracking([logger], {}, [])
    assert not (tmp_path / "wandb").exists()


def test_other_processes_track_nothing(no_key, tmp_path, monkeypatch):
    monkeypatch.setattr("tissueseg.modules.tracking.rank_zero_only.rank", 1)
    assert open_tracking(tmp_path, "name", {}, OPTIONS) == []
    close_tracking([], {}, [])
