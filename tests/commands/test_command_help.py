"""`--help` of every command: short, and true, since it is read from what the command composes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tissueseg.__main__ import COMMANDS
from tissueseg.command_help import help_text
from tissueseg.config import CONFIG_DIR, OWN_PACKAGES

Command = Callable[..., Any]  # name, overrides -> code, out, err
every_command = pytest.mark.parametrize("name", list(COMMANDS))


@every_command
def test_it_fits_a_screen_and_begins_with_the_usage(name: str) -> None:
    lines = help_text(name).splitlines()
    assert lines[0].startswith(f"python -m tissueseg.{name} ")
    assert len(lines) <= 60
    assert max(map(len, lines)) <= 110
    assert not [line for line in lines if line != line.rstrip()]


@every_command
def test_it_names_every_key_and_every_choice(name: str) -> None:
    said = help_text(name)
    config = yaml.safe_load((CONFIG_DIR / f"{name}.yaml").read_text(encoding="utf-8"))
    defaults = config.pop("defaults")
    for key in config:
        assert re.search(rf"^  {key}[.=]", said, re.MULTILINE), key
    for group in (next(iter(entry)) for entry in defaults if isinstance(entry, dict)):
        if not group.startswith("override "):
            for file in (CONFIG_DIR / group).glob("*.yaml"):
                assert re.search(rf"\b{file.stem}\b", said), (group, file.stem)


def test_what_a_comment_goes_on_with_is_said() -> None:
    assert "test/bpq_image; null: what the study's protocol ranks by" in " ".join(
        help_text("report").split()
    )


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_nothing_else_happens(command: Command, flag: str) -> None:
    result = command("train", "no_such_option=1", flag)
    assert (result.code, result.err) == (0, "")
    assert result.out == help_text("train") + "\n"


def test_choices_of_ones_own_are_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ourlab/configs/encoder"
    folder.mkdir(parents=True)
    (folder / "ours.yaml").write_text("_target_: ourlab.Ours\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(OWN_PACKAGES, "ourlab")
    assert "| ours |" in help_text("train")


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]], ids=["help", "composition"])
def test_a_reader_may_leave_early(words: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tissueseg.train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()  # before anything is printed
    assert process.stderr.read() == ""
    assert process.wait() == 128 + signal.SIGPIPE
    process.stderr.close()


@pytest.mark.parametrize("flag", ["--quiet", "-q"])
def test_quiet_is_silent_but_for_errors(tmp_path: Path, flag: str) -> None:
    def said(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "tissueseg.doctor", *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    words = ("setting=untrained", "data.tile_px=64")
    code, out, _ = said(*words)
    assert (code, "Nothing would stop train." in out) == (0, True)
    assert said(flag, *words)[:2] == (0, "")
    assert said(flag, "no_such=1") == (
        2,
        "",
        "error: Could not override 'no_such'. To append to your config use +no_such=1.\n",
    )
