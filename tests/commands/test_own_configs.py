"""Configurations of one's own that cannot be used are refused in one line, whatever Hydra says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from commands.conftest import Command
from tissueseg.config import OWN_PACKAGES

BROKEN = {
    "no list": ("x: !!str [a]", r"mine.yaml cannot be read: expected a scalar node, but found seq"),
    "not closed": ("x: [", r"mine.yaml cannot be read: while parsing a flow node"),
    "no flag": ("x: !!bool maybe", r"mine.yaml cannot be read: a value is none of its kind"),
    "no text": (b"x: \xc0", r"mine.yaml cannot be read: 'utf-8' codec can't decode"),
    "two": ("--- x\n--- y", r"mine.yaml cannot be read: expected a single document"),
    "odd defaults": ("defaults: {a: b}", r"cannot be composed: .*defaults must be a list"),
    "long": (
        f"defaults: [slots: {'a' * 5000}]",
        r"cannot be composed: .*File name too long.{0,250}$",
    ),
    "bare": ("name: mine", r"encoder\.spec is missing"),
    "no target": ("spec: {name: mine}", r"encoder\.spec={'name': 'mine'}, wanted a _target_"),
    "other": ("spec: {_target_: torch.nn.ReLU}", r"encoder\.spec\._target_ makes a ReLU, wanted"),
    "dots": (
        "spec: {_target_: torch.nn..ReLU}",
        r"_target_: 'torch.nn..ReLU' is no name with dots",
    ),
    "numbered": ("spec: {1: 2}", r"encoder\.spec has the key 1, wanted a word"),
}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `encoder=mine` of a package of one's own lies."""
    folder = tmp_path / "ourlab/configs/encoder"
    folder.mkdir(parents=True)
    (tmp_path / "ourlab/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(OWN_PACKAGES, "ourlab")
    return folder / "mine.yaml"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_one_is_named(name: str, mine: Path, command: Command, tmp_path: Path) -> None:
    text, says = BROKEN[name]
    mine.write_bytes(text if isinstance(text, bytes) else text.encode())
    result = command("train", "encoder=mine", "+debug=fast", f"run_dir={tmp_path / 'run'}")
    said = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert (result.code, len(said)) == (2, 1), result.err
    assert "Traceback" not in result.err
    assert re.search(says, said[0]), said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", [["--config-dir={}"], ["--config-dir", "{}"], ["-cd", "{}"]])
def test_one_of_a_folder_given_is_named(flag: list[str], mine: Path, command: Command) -> None:
    mine.write_text("x: [")
    folder = mine.parent.rename(mine.parents[3] / "encoder").parent
    words = [word.format(folder) for word in flag]
    result = command("train", *words, "encoder=mine")
    assert result.code == 2
    assert f"error: {folder / 'encoder/mine.yaml'} cannot be read: while parsing" in result.err


def test_an_error_of_a_job_stays_a_bug(
    mine: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from commands import conftest

    def fail(config: object) -> None:
        raise AssertionError("ours")

    mine.write_text("x: [")
    monkeypatch.setitem(conftest.JOBS, "train", fail)
    with pytest.raises(AssertionError, match="ours"):
        command("train")


@pytest.mark.parametrize(("key", "value"), [("store", "x"), ("loss", 3), ("optim", None)])
def test_a_run_whose_groups_are_none_is_not_gone_on_with(
    key: str, value: object, command: Command, finished_run: Path, tmp_path: Path
) -> None:
    config = OmegaConf.load(finished_run / "config.yaml")
    config[key] = value
    OmegaConf.save(config, tmp_path / "config.yaml")
    result = command("train", f"resume={tmp_path}")
    assert result.code == 2
    assert f"error: {tmp_path / 'config.yaml'} cannot be used: {key} is {value}, want" in result.err
