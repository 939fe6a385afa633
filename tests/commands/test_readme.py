"""What the README points to is there, and what it shows of code of one's own works as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tissueseg.config import OWN_PACKAGES
from tissueseg.store.tissues import TissueStore

README = Path(__file__).resolve().parents[2] / "README.md"
Command = Callable[..., Any]  # name, overrides -> code, out, err


def section() -> str:
    _, _, after = README.read_text(encoding="utf-8").partition("\n## Add your own\n")
    return after.partition("\n## ")[0]


FILES = re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```$", section(), re.DOTALL | re.MULTILINE)
LINES = re.findall(r"^python -m tissueseg\.(.*)$", section(), re.MULTILINE)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder one starts in, with the package and some arrays."""
    for name, text in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "mylab/__init__.py").touch()
    (tmp_path / "arrays").mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        instances = np.zeros((64, 64), np.uint16)
        at = rng.integers(8, 40)
        instances[at : at + 12, at : at + 12] = 1
        arrays = {"he": rng.integers(0, 255, (64, 64, 3), np.uint8), "instances": instances}
        np.savez(tmp_path / f"arrays/{name}.npz", **arrays, classes=np.minimum(instances, 1))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(OWN_PACKAGES, "mylab")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "mylab"]:
        del sys.modules[name]


def test_all_of_it_is_found() -> None:
    assert len(FILES) == 9
    assert len(LINES) == 3


@pytest.mark.parametrize(
    "page", [README, README.parent / "slurm/README.md"], ids=["front", "slurm"]
)
def test_what_it_points_to_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    files = re.findall(r"(?<![\w/])(?:configs|slurm|tests|tissueseg)/[\w/]+\.\w+", text)
    assert len(files) > 10
    assert not [file for file in files if not (README.parent / file).is_file()]
    linked = re.findall(r"\]\(([^#)]+)\)", text)
    assert linked
    assert not [path for path in linked if not (page.parent / path).is_file()]
    heads = (
        re.sub(r"[^\w\- ]", "", head.lower())
        for head in re.findall(r"^##+ (.*)$", text, re.MULTILINE)
    )
    assert set(re.findall(r"\]\(#(.*?)\)", text)) <= {head.replace(" ", "-") for head in heads}


def test_the_tests_it_shows_pass(lab: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "0", "mylab"]
    done = subprocess.run(command, cwd=lab, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.mark.parametrize("line", LINES)
def test_the_lines_it_shows_work(line: str, lab: Path, command: Command, demo_cache: Path) -> None:
    name, *words = shlex.split(line)
    quick = ["+debug=fast", "logger=csv", "run_dir=run"] if name == "train" else []
    result = command(name, *words, *quick)
    assert result.code == 0, result.err
    if name == "prepare":
        assert list(TissueStore(lab / "lab.zarr").tissues) == ["a", "b", "c"]
    else:
        said = (lab / "run/config.yaml").read_text()
        assert "mylab.pooled.Pooled" in said or "mylab.dilated.Dilated" in said
        assert '"mylab":' in (lab / "run/environment.json").read_text()


def test_each_job_of_a_sweep_finds_them_too(
    lab: Path, command: Command, demo_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(lab))  # pytest, unlike python -m, has no folder for it
    words = ["+decoder/slots@decoder=dilated", "+debug=fast", "logger=csv", "seed=0,1"]
    result = command("train", "-m", *words)
    assert result.code == 0, result.err
    assert len(list((lab / "runs").rglob("metrics.json"))) == 2


def test_without_the_variable_nothing_of_it_runs(
    lab: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(OWN_PACKAGES)
    refused = command("train", "--config-dir", "mylab/configs", "encoder=pooled", "modality=he")
    assert refused.code == 2
    assert f"packages of your own are named by {OWN_PACKAGES}=…" in refused.err
    assert "mylab.pooled" not in sys.modules


def test_a_package_that_is_not_there_is_named(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OWN_PACKAGES, "mylab_nowhere")
    refused = command("train")
    assert refused.code == 2
    assert refused.err.startswith(f"error: {OWN_PACKAGES} names mylab_nowhere, which is no package")
