"""Write the image's pins: the versions of this environment, on which the tests ran, as PyPI has them.

    python .image/pin.py      # with the Python of an environment that passed the tests, over the network

requirements.txt is installed. constraints.txt holds what others ask for by themselves: the CUDA libraries
of torch's wheels on PyPI, which a CPU build of torch leaves out, and the tools that build wheels.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXTRAS = "hub,fast,anndata,cluster,remote"
BUILD_TOOLS = (
    *("hatchling", "packaging", "pathspec", "pluggy", "tomlkit", "trove-classifiers"),
    "setuptools",  # of antlr4-python3-runtime, which has no wheel
)
PIP = (sys.executable, "-m", "pip", "--isolated", "--quiet")


def main() -> None:
    """Pin."""
    tested = {name: version.partition("+")[0] for name, version in _installed().items()}
    pins = _resolved(tested)
    cuda = {name for name in pins if name not in tested and name not in BUILD_TOOLS}
    tools = {name: tested.get(name) or pins[name] for name in BUILD_TOOLS}
    _write("requirements.txt", {name: pins[name] for name in pins if name not in cuda})
    _write("constraints.txt", {name: pins[name] for name in cuda} | tools)


def _installed() -> dict[str, str]:
    """Name -> version of what this environment holds."""
    found = {_plain(found.name): found.version for found in distributions()}
    return {name: version for name, version in found.items() if name not in ("tissueseg", "pip")}


def _resolved(tested: dict[str, str]) -> dict[str, str]:
    """Name -> version of what pip would install of PyPI, kept to the versions that were tested."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "tested.txt"), Path(folder, "report.json")
        constraints.write_text("".join(f"{n}=={v}\n" for n, v in tested.items()), encoding="utf-8")
        what = ("-c", str(constraints), "--report", str(report), f"{HERE.parent}[{EXTRAS}]")
        command = [*PIP, "install", "--dry-run", "--ignore-installed", *what]
        subprocess.run(command, check=True)  # noqa: S603 - our own words
        items = json.loads(report.read_text(encoding="utf-8"))["install"]
    found = {_plain(i["metadata"]["name"]): i["metadata"]["version"] for i in items}
    return {name: version for name, version in found.items() if name != "tissueseg"}


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _write(name: str, pins: dict[str, str]) -> None:
    lines = [f"{package}=={version}\n" for package, version in sorted(pins.items())]
    (HERE / name).write_text("# Written by .image/pin.py.\n" + "".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
