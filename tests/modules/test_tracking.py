"""W&B: offline without a key, inside the run folder, and no word to anyone."""

import socket
from fnmatch import fnmatchcase
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from stores import compose
from wandb_log import read_offline

from tissueseg.composition import plain
from tissueseg.errors import ConfigError
from tissueseg.modules.tracked_names import tracked_names
from tissueseg.modules.tracked_tables import Outcome, summary, tables
from tissueseg.modules.tracking import _BEST, check_tracking, close_tracking, open_tracking

OPTIONS = {"project": "tests", "entity": None, "tags": ["a"]}
CONFIG = {"epochs": 2, "monitor": "val/f1", "logger": {"wandb": OPTIONS}}
POOLED = {
    "truth_share": (0.75, 0.25),
    "dice": (0.5, float("nan")),
    "iou": (0.25, float("nan")),
    "prior_dice": (0.75, 0.25),
}
TISSUE = dict.fromkeys(
    ("macro_dice_foreground", "macro_dice", "macro_iou_foreground", "macro_iou"), 0.5
)


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    """A user without W&B account, and a machine that must not be left."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC", "WANDB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(home))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(home))
    resolve = socket.getaddrinfo

    def at_home(host, *rest, **options):
        assert host in ("localhost", "127.0.0.1", None), f"looked up {host}"
        return resolve(host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", at_home)


@pytest.fixture
def folder(tmp_path):
    """Of a run, with a decoder and a panel."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "decoder.ckpt").write_bytes(b"weights")
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "b.png")
    return folder


@pytest.fixture
def outcome(folder):
    return Outcome(
        decoder=folder / "decoder.ckpt",
        about={"classes": ["background", "tumor"], "epoch": 1, "monitor": "val/f1"},
        score=0.25,
        encoder={"name": "tiny", "sha256": "0f"},
        scores={"val/dice/macro": 0.25},
        sides={"val": {"pooled": POOLED, "tissues": {"t": TISSUE}}},
        confusion={"val": np.array([[[1, 3], [0, 0]]])},
        panels=[folder / "b.png"],
        cost={"fit_s": 2.0},
        features=None,
    )


def test_without_a_key_it_stays_in_the_run_folder(no_key, folder, outcome):
    (logger,) = open_tracking(folder, "baseline-he", CONFIG)
    run = logger.experiment
    assert run.settings.mode == "offline"
    assert (run.name, run.project, run.tags) == ("baseline-he", "tests", ("a",))
    assert run.config["epochs"] == 2
    logger.log_metrics({"val/loss": 0.5, "epoch": 0}, step=1)
    close_tracking([logger], outcome)
    sent = read_offline(folder)
    assert [row.get("val/loss") for row in sent.history] == [0.5, None]
    assert (sent.summary["val/dice/macro"], sent.summary["cost/fit_s"]) == (0.25, 2.0)
    assert sent.exit_code == 0


def test_what_an_epoch_logs_apart_becomes_one_row(no_key, folder, outcome):
    (logger,) = open_tracking(folder, "name", CONFIG)
    for epoch, score in enumerate((float("nan"), 0.5, 0.25)):
        logger.log_image("panels", [str(folder / "b.png")])
        logger.log_metrics({"val/f1": score, "epoch": epoch}, step=7 * epoch)
        logger.log_metrics({"train/loss": 1.0, "epoch": epoch}, step=7 * epoch)
    close_tracking([logger], outcome)
    *epochs, last = read_offline(folder).history
    assert [(row["epoch"], row["trainer/global_step"]) for row in epochs] == [
        (0, 0),
        (1, 7),
        (2, 14),
    ]
    assert all({"panels/filenames", "val/f1", "train/loss"} < row.keys() for row in epochs)
    assert [row.get("val/best") for row in epochs] == [None, 0.5, 0.5]
    assert "panels/filenames" not in last


def test_artifacts_can_be_left_out(no_key, folder, outcome):
    config = CONFIG | {"logger": {"wandb": OPTIONS | {"artifacts": False}}}
    close_tracking(open_tracking(folder, "name", config), outcome)
    sent = {artifact.type for artifact in read_offline(folder).artifacts}
    assert sent == {"run_table"}  # how W&B keeps tables


def test_a_mode_that_is_asked_for_is_taken(no_key, folder, outcome, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (logger,) = open_tracking(folder, "name", CONFIG)
    assert logger.experiment.disabled
    logger.log_metrics({"val/loss": 0.5, "epoch": 0}, step=1)
    close_tracking([logger], outcome)
    assert not (folder / "wandb").exists()


def test_a_mode_that_is_set_but_empty_says_nothing(no_key, folder, outcome, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")
    check_tracking(CONFIG["logger"])
    (logger,) = open_tracking(folder, "name", CONFIG)
    assert logger.experiment.settings.mode == "offline"
    close_tracking([logger], outcome)


def test_an_unknown_mode_is_refused(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "bogus")
    with pytest.raises(ConfigError, match="WANDB_MODE=bogus is unknown: choose from online"):
        check_tracking({"wandb": None})


def test_a_user_without_a_home_is_told_to_set_one(no_key, monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)  # as of a container's arbitrary user
    with pytest.raises(ConfigError, match=r"wants a home folder.*set HOME.*or choose logger=csv"):
        check_tracking(CONFIG["logger"])
    check_tracking({"wandb": None})


def test_a_run_that_failed_before_is_not_continued(no_key, folder, tmp_path, outcome):
    (failed,) = open_tracking(tmp_path, "failed", CONFIG)
    (logger,) = open_tracking(folder, "next", CONFIG)
    assert logger.experiment.id != failed.experiment.id
    close_tracking([logger], outcome)
    assert read_offline(tmp_path).about.display_name == "failed"
    assert read_offline(folder).about.display_name == "next"


def test_a_folder_that_fills_up_costs_no_results(no_key, folder, outcome, monkeypatch, capsys):
    (logger,) = open_tracking(folder, "name", CONFIG)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tissueseg.modules.tracking.send", full)
    close_tracking([logger], outcome)
    assert "notice: W&B did not take all of the run: [Errno 28] No space" in capsys.readouterr().out
    logger.experiment.finish()


def test_other_processes_track_nothing(no_key, tmp_path, outcome, monkeypatch):
    monkeypatch.setattr("tissueseg.modules.tracking.rank_zero_only.rank", 1)
    assert open_tracking(tmp_path, "name", CONFIG) == []
    close_tracking([], outcome)


def test_what_is_not_defined_is_left_empty_in_tables(outcome):
    found = tables(outcome)
    assert found["kept/val/classes"][1][1] == ["tumor", 0.25, None, None, 0.25]
    assert found["kept/val/tissues"][1] == [["t", 0.5, 0.5, 0.5, 0.5]]
    assert found["kept/val/confusion"][1] == [
        ["background", "background", 1, 0.25],
        ["background", "tumor", 3, 0.75],
        ["tumor", "background", 0, None],
        ["tumor", "tumor", 0, None],
    ]
    assert summary(outcome)["kept/epoch"] == 1


def test_stored_features_are_named_by_their_fingerprint(no_key, folder, outcome):
    stored = SimpleNamespace(fingerprint="ab/cd", fields={"views": 1}, path="s3://bucket/e.zarr")
    logger = open_tracking(folder, "name", CONFIG)
    close_tracking(logger, Outcome(**vars(outcome) | {"features": stored}))
    artifact = read_offline(folder).artifact("embeddings")
    assert artifact.name == "embeddings-ab_cd"
    assert list(artifact.manifest.contents) == []


def test_a_run_of_a_study_is_grouped_by_it(no_key, folder, outcome):
    config = CONFIG | {
        "study": {"name": "decoders", "arm": "boundary"},
        "protocol": {"name": "demo"},
        "split": {"fold": 2},
        "seed": 1,
    }
    close_tracking(open_tracking(folder, "name", config), outcome)
    about = read_offline(folder).about
    assert (about.display_name, about.job_type) == ("boundary-fold2-seed1", "boundary")
    assert about.run_group == "decoders-demo"
    said = ["study:decoders", "arm:boundary", "fold:2", "seed:1"]
    assert list(about.tags) == ["a", *said]


def test_studies_as_configured_are_grouped():
    words = ("+study=criterion", "protocol=demo", "study.arm=ce", "split.fold=2", "name=n")
    names = tracked_names("n", plain_study(*words), ())
    assert names.group == "criterion-demo"
    assert names.name == "ce-fold2-seed0"


def plain_study(*words):
    config = compose("setting=untrained", *words)
    return {key: plain(config[key]) for key in ("study", "protocol", "split")} | {"seed": 0}


def test_without_a_study_tags_say_what_a_run_is_made_of():
    encoder = {"he": {"spec": {"name": "cellvit_256"}}, "sp": {"spec": {"name": "virtues"}}}
    config = {"modality": "he_sp", "encoder": {"spec": {"_target_": "t"}} | encoder, "name": "b"}
    names = tracked_names("b-he_sp-pair", config, ["mine", "b"])
    assert names == ("b-he_sp-pair", None, None, ["mine", "b", "he_sp", "cellvit_256+virtues"])


def test_tags_too_long_for_wandb_stay_different():
    arms = [f"{'x' * 80}{i}" for i in range(2)]
    tags = [tracked_names("n", {"study": {"arm": arm}}, ()).tags[0] for arm in arms]
    assert [len(tag) for tag in tags] == [64, 64]
    assert tags[0] != tags[1]


def test_no_two_definitions_claim_one_curve():
    keys = ("train/loss", "train/loss/ce", "val/loss", "val/loss/ce", "val/dice/a", "val/iou/a")
    for key in keys:
        assert len([p for p in _BEST if fnmatchcase(key, p)]) == 1, key
    assert not [p for p in _BEST if fnmatchcase("val/best", p)]
