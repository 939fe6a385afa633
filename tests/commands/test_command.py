"""How commands start, and that what they compose is what is documented."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tissueseg.__main__ import COMMANDS
from tissueseg.building import build
from tissueseg.composition import one_line
from tissueseg.errors import ConfigError


def test_the_package_lists_its_commands() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tissueseg"], capture_output=True, text=True, check=True
    )
    for name in COMMANDS:
        assert f"python -m tissueseg.{name} " in result.stdout
        import_module(f"tissueseg.{name}")


@pytest.mark.parametrize("name", COMMANDS)
def test_composing_imports_no_torch(name: str) -> None:
    code = (
        f"import sys, runpy; sys.argv = ['{name}', '--cfg', 'job'];"
        f"runpy.run_module('tissueseg.{name}', run_name='__main__', alter_sys=True);"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_targets_are_built_from_trusted_packages_only(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    node = {
        "list": [{"_target_": "os.system", "command": f"touch {mark}"}],
        "_target_": "torch.nn.ReLU",
    }
    with pytest.raises(ConfigError, match=r"os\.system"):
        build(OmegaConf.create(node))
    assert not mark.exists()


def test_errors_become_one_line() -> None:
    text = "In 'train': Could not find 'encoder/tinny'\n\nAvailable options:\n\ttiny\n\tuni\n"
    said = one_line(ValueError(text + "Config search path:\n\tprovider=main"))
    assert said == (
        "In 'train': Could not find 'encoder/tinny'. Choose from: tiny, uni (did you mean tiny?)"
    )
    assert one_line(ValueError()) == "ValueError"
