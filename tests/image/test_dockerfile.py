"""The container image, as far as that can be read: `.ci/image` carries out its steps."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tissueseg.__main__ import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"
ENTRYPOINT = ROOT / ".image" / "entrypoint"
EXTRAS = ("hub", "fast", "anndata", "cluster", "remote")

Entry = Callable[..., subprocess.CompletedProcess[str]]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # where its NamedTuples look for their annotations
    spec.loader.exec_module(module)
    return module


dockerfile = _load(ROOT / ".ci" / "dockerfile.py")
STEPS = dockerfile.read_steps(DOCKERFILE.read_text(encoding="utf-8"))
IMAGE = dockerfile.last_stage(STEPS)


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / ".image" / name).read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {package: Version(version) for package, version in pairs}


def copied() -> list[str]:
    """What the build takes from the checkout."""
    copies = (s for s in STEPS if s.word == "COPY" and "from" not in dict(s.flags))
    return [source for step in copies for source in step.rest.split()[:-1]]


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    said = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_what_is_copied_is_there() -> None:
    assert copied()
    assert [source for source in copied() if not (ROOT / source).exists()] == []


def test_the_build_sees_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[0] == "*"  # runs/, wandb/, .git and whatever else comes to lie there
    assert allowed == {source.split("/")[0] for source in copied()}
    assert {"**/__pycache__", "**/*.zarr"} <= set(rules[len(allowed) + 1 :])  # the last rule wins


def test_what_is_pinned_is_what_the_package_wants() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    installed = pins("requirements.txt")
    refused = [
        line
        for line in map(Requirement, wanted)
        if line.name.replace("_", "-") not in installed
        or installed[line.name.replace("_", "-")] not in line.specifier
    ]
    assert refused == []
    assert _load(ROOT / ".image" / "pin.py").EXTRAS.split(",") == list(EXTRAS)


def test_builds_use_what_is_pinned() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]
    (hatchling,) = map(Requirement, build["requires"])
    assert pins("constraints.txt")[hatchling.name] in hatchling.specifier
    both = pins("constraints.txt").keys() & pins("requirements.txt").keys()
    assert all(pins("constraints.txt")[n] == pins("requirements.txt")[n] for n in both)


def test_no_pin_is_of_one_machines_build_of_a_package() -> None:
    for name in ("requirements.txt", "constraints.txt"):
        assert [str(v) for v in pins(name).values() if v.local] == []


def test_the_base_has_the_cuda_that_torch_brings() -> None:
    base = next(step.rest for step in STEPS if step.word == "ARG")
    cuda = re.fullmatch(r"BASE=nvidia/cuda:(\d+\.\d+)\.\d+-base-ubuntu24\.04", base)
    assert cuda is not None
    toolkit = pins("constraints.txt")["cuda-toolkit"]
    assert cuda[1] == f"{toolkit.major}.{toolkit.minor}"


def test_dependencies_are_a_layer_below_the_code() -> None:
    words = [(step.stage, step.word, step.rest) for step in STEPS]
    pinned = next(i for i, w in enumerate(words) if "-r requirements.txt" in w[2])
    code = next(i for i, w in enumerate(words) if w[1] == "COPY" and "tissueseg" in w[2])
    assert pinned < code
    assert words[pinned][0] == "dependencies"
    assert not [w for w in words[:pinned] if "pyproject.toml" in w[2]]


def test_the_image_runs_as_anyone_but_root_and_is_no_service() -> None:
    words = {step.word: step.rest for step in IMAGE}
    assert words["USER"] == "1000:0"
    assert words["WORKDIR"] == "/work"
    assert "HEALTHCHECK" not in words
    home = dockerfile.environment(IMAGE, Path("/there"))["HOME"]
    assert home == "/there/home/tissueseg"
    writable = next(step.rest for step in IMAGE if "-m 1777" in step.rest).split()
    assert writable[-2:] == ["/home/tissueseg", "/work"]


def test_the_entrypoint_passes_signals_on() -> None:
    words = [step.rest for step in IMAGE if step.word == "ENTRYPOINT"]
    assert words == ['["tini", "-s", "--", "tissueseg-entrypoint"]']
    started = subprocess.Popen(
        ["sh", str(ENTRYPOINT), "sh", "-c", "echo $$"], stdout=subprocess.PIPE
    )
    said, _ = started.communicate(timeout=60)
    assert int(said) == started.pid  # itself, with no shell between that would keep signals


@pytest.fixture
def entry(tmp_path: Path) -> Entry:
    """Starts the entrypoint with a `python` that prints its words and its home."""
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$HOME" "$@"\n')
    python.chmod(0o755)

    def start(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        there = {"PATH": f"{python.parent}:/usr/bin:/bin", "TMPDIR": str(tmp_path), **environment}
        command = ["sh", str(ENTRYPOINT), *words]
        return subprocess.run(command, env=there, capture_output=True, text=True, timeout=60)

    return start


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_known_by_its_name(entry: Entry, tmp_path: Path, command: str) -> None:
    said = entry(command, "a b", "c=", HOME=str(tmp_path))
    assert said.stdout.splitlines()[1:] == ["-m", f"tissueseg.{command}", "a b", "c="]
    assert said.stderr == ""


@pytest.mark.parametrize("words", [(), ("--help",)])
def test_no_command_lists_them(entry: Entry, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert entry(*words, HOME=str(tmp_path)).stdout.splitlines()[1:] == ["-m", "tissueseg"]


def test_any_program_is_started_as_it_stands(entry: Entry, tmp_path: Path) -> None:
    said = entry("python", "-m", "tissueseg.train", "epochs=1", HOME=str(tmp_path))
    assert said.stdout.splitlines()[1:] == ["-m", "tissueseg.train", "epochs=1"]
    assert entry("sh", "-c", "exit 7", HOME=str(tmp_path)).returncode == 7


@pytest.mark.parametrize("home", [None, "", "/nowhere", "/dev/null"])
def test_a_home_that_cannot_be_written_is_replaced(
    entry: Entry, tmp_path: Path, home: str | None
) -> None:
    said = entry("train", **({} if home is None else {"HOME": home}))
    used = Path(said.stdout.splitlines()[0])
    assert (used.parent, used.is_dir()) == (tmp_path, True)
    assert said.stderr.startswith(f"notice: HOME={home or ''} cannot be written")
    assert len(said.stderr.splitlines()) == 1
