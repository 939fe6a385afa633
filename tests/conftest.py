"""Fixtures every test may use: real images when at hand, commands as users run them, small tissues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image
from quick_composing import compose_quickly
from safetensors.torch import load_file

from tissueseg.contracts import Channel, TissueClass
from tissueseg.store.planes import Tissue

REPOSITORY = Path(__file__).resolve().parent.parent

hypothesis.settings.register_profile("untimed", deadline=None)  # others load the machine, too
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose far more by sharing than they gain, here and in the processes made."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """Shells start what runs in the background deaf to Ctrl-C, and all that it starts."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """What a command that ran in this process leaves would meet tests of other things."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def untrained_encoders() -> Iterator[None]:
    """Commands run on `encoder=tiny`, which costs least, unless a test says otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TISSUESEG_SETTING", "untrained")
        yield


@pytest.fixture(scope="session", autouse=True)
def quick_composing() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        compose_quickly(patch)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real images, which the repository does not hold; tests with them carry the marker `real`."""
    path = Path(os.environ.get("TISSUESEG_SHARED", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("real images are not at hand")
    return path


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, torch.Tensor]]:
    """Read tensors of a published network's tiny instance; tests with them carry `parity`."""
    data = Path(os.environ.get("TISSUESEG_SHARED", REPOSITORY.parent / "shared" / "data"))
    folder = data.parent / "golden"
    if not folder.is_dir():
        pytest.skip("published networks' outputs are not at hand")

    def read(name: str) -> dict[str, torch.Tensor]:
        return load_file(folder / f"{name}.safetensors")

    def assert_error(what: str, error: float, tolerance: float = 1e-5) -> None:
        LARGEST_ERRORS.append(f"{what}: {error:.1e}")
        assert error <= tolerance

    read.folder = folder  # where the weights lie, for those who load them themselves
    read.assert_error = assert_error
    return read


LARGEST_ERRORS: list[str] = []
"""Of every comparison with a published network, shown below the tests."""

MOST_WORKERS = 8  # each takes a GB and some seconds to start


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the same options
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spread the whole suite over the processors, unless `-n` says otherwise.

    Parts of it, benchmarks and what is watched (`-s`, `--pdb`) stay in one process, as all does with
    `-n 0` or `-p no:xdist`.
    """
    option, is_worker = config.option, hasattr(config, "workerinput")
    spread = getattr(option, "numprocesses", 0)  # None: nothing was said; 0: pytest-xdist is off
    if spread is None and not is_worker and is_whole_and_unwatched(config):
        option.numprocesses = spread = min(usable_cpus(), MOST_WORKERS)
        option.dist = "worksteal"  # neighbours share fixtures, and none waits for a last long file
    if spread or is_worker:
        option.benchmark_disable = True  # which it warns of otherwise, below the summary


def is_whole_and_unwatched(config: pytest.Config) -> bool:
    option, here = config.option, Path(__file__).parent
    whole = any(here.is_relative_to(config.invocation_params.dir / arg) for arg in config.args)
    watched = option.capture == "no" or option.usepdb or option.collectonly
    measured = "benchmark" in option.markexpr.replace("not benchmark", "")
    return whole and not watched and not measured


def usable_cpus() -> int:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable or 1


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands what it recorded to the process that shows it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["largest_errors"] = LARGEST_ERRORS


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    LARGEST_ERRORS.extend(getattr(node, "workeroutput", {}).get("largest_errors", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if LARGEST_ERRORS:
        terminalreporter.section("largest absolute errors against published networks")
        for line in LARGEST_ERRORS:
            terminalreporter.line(line)


@pytest.fixture
def run_cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m tissueseg.<command> …` in a folder (tmp_path unless told)."""

    def run(
        command: str, *overrides: str, cwd: Path = tmp_path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", f"tissueseg.{command}", *overrides],
            cwd=cwd,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture
def classes() -> tuple[TissueClass, ...]:
    return (
        TissueClass(0, "background", "#000000"),
        TissueClass(1, "tumor", "#ff0000"),
        TissueClass(2, "immune", "#00ff00"),
    )


@pytest.fixture
def panel() -> tuple[Channel, ...]:
    return (Channel("DAPI", "P68431", True), Channel("CD3", "P07766"))


@pytest.fixture
def make_tissue() -> Callable[..., Tissue]:
    """A tissue of random pixels with square cells of 6 px in every 8, classes 1 and 2 in turn."""

    def make(height: int = 40, width: int = 48, seed: int = 0, **parts: Any) -> Tissue:
        rng = np.random.default_rng(seed)
        instances, classes = square_cells(height, width)
        tissue = Tissue(
            instances=instances,
            classes=classes,
            he=rng.integers(0, 256, (3, height, width), np.uint8),
            sp=rng.integers(0, 4000, (2, height, width), np.uint16),
        )
        return tissue._replace(**parts)

    return make


def square_cells(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[:height, :width]
    ids = 1 + (rows // 8) * -(-width // 8) + columns // 8
    instances = np.where((rows % 8 < 6) & (columns % 8 < 6), ids, 0).astype(np.uint16)
    return instances, np.where(instances > 0, 1 + instances % 2, 0).astype(np.uint8)


class ImageFolder:
    """A user's folder: `a.he.png`, `a.sp.tif`, `a.nuclei.tif`, `a.classes.png`, …, `tissues.yaml`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.description: dict[str, Any] = {
            "mpp": 0.5,
            "images": {"he": "{id}.he.png", "sp": "{id}.sp.tif"},
            "masks": {"instances": "{id}.nuclei.tif", "classes": "{id}.classes.png"},
            "classes": ["background", "tumor", "immune"],
            "channels": ["DAPI", {"name": "CD3", "uniprot": "P07766"}],
        }

    def add(self, name: str, tissue: Tissue) -> None:
        assert tissue.he is not None
        Image.fromarray(np.moveaxis(tissue.he, 0, -1)).save(self.path / f"{name}.he.png")
        tifffile.imwrite(self.path / f"{name}.sp.tif", tissue.sp, metadata={"axes": "CYX"})
        tifffile.imwrite(self.path / f"{name}.nuclei.tif", tissue.instances)
        Image.fromarray(tissue.classes).save(self.path / f"{name}.classes.png")

    def describe(self, **changes: Any) -> None:
        """Write the description; None takes a key out."""
        merged = {k: v for k, v in (self.description | changes).items() if v is not None}
        (self.path / "tissues.yaml").write_text(yaml.safe_dump(merged), encoding="utf-8")

    def only_he(self) -> dict[str, Any]:
        return {"images": {"he": "{id}.he.png"}, "channels": None}

    def only_sp(self) -> dict[str, Any]:
        return {"images": {"sp": "{id}.sp.tif"}}


@pytest.fixture
def image_folder(tmp_path: Path, make_tissue: Callable[..., Tissue]) -> ImageFolder:
    """Two small tissues, described."""
    folder = ImageFolder(tmp_path / "images")
    for seed, name in enumerate(("a", "b")):
        folder.add(name, make_tissue(seed=seed))
    folder.describe()
    return folder
