"""A cluster of shell scripts: `sbatch`, `srun` and `runai` that record what they are given."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "slurm"

RECORD = """#!{python} -IS
import json, os, sys
with open({record!r}, "a") as file:
    file.write(json.dumps({{"words": sys.argv, "env": dict(os.environ)}}) + "\\n")
"""
SBATCH = """
import re, shutil, subprocess
words = sys.argv[1:]
at = next(i for i, word in enumerate(words) if not word.startswith("-"))
shutil.copy(words[at], {spooled!r})  # SLURM runs a copy, which lies elsewhere
with open({spooled!r}) as file:
    asked = dict(re.findall(r"^#SBATCH --([\\w-]+)=(\\S+)$", file.read(), re.MULTILINE))
asked |= dict(word[2:].split("=", 1) for word in words[:at])
os.environ["SLURM_CPUS_PER_TASK"] = asked["cpus-per-task"]
os.environ["SLURM_NTASKS_PER_NODE"] = asked["ntasks-per-node"]
os.environ["SLURM_NNODES"] = asked["nodes"]
codes = []
for task in sorted(set(asked.get("array", "0").split("-"))):  # the first and the last are enough
    os.environ |= {"SLURM_ARRAY_TASK_ID": task} if "array" in asked else {}
    codes.append(subprocess.run(["/bin/bash", {spooled!r}, *words[at + 1:]]).returncode)
sys.exit(max(codes))
"""
SRUN = """
words = sys.argv[1:]
while words[0].startswith("--"):
    words.pop(0)
os.environ["SLURM_PROCID"] = "0"
os.environ["SLURM_CPU_BIND"] = "quiet,mask_cpu:0x3"
os.execvp(words[0], words)
"""
EXIT = """
sys.exit(int(os.environ.get("TEST_EXIT", "0")))
"""


class Call(NamedTuple):
    """How a command was started."""

    words: list[str]
    env: Mapping[str, str]


class Cluster:
    """A folder with stand-ins, first on PATH; `python` is one too, which records and exits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "spool").mkdir()
        ends = {"sbatch": SBATCH, "srun": SRUN, "python": EXIT, "runai": EXIT}
        for name, text in ends.items():
            self.add(name, text)
        self.env = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(folder),
            "SLURM_JOB_ID": "4711",
            "SLURM_MEM_PER_NODE": "8192",
            "SLURMD_NODENAME": "node7",
            "SLURM_CONF": "/run/slurm.conf",
            "SRUN_CPUS_PER_TASK": "6",
            "SBATCH_ACCOUNT": "pathology",
        }

    def add(self, name: str, then: str = "") -> Path:
        """A command that records its words and environment, and then does something."""
        path = self.bin / name
        record = RECORD.format(python=sys.executable, record=str(self._record(name)))
        path.write_text(record + then.replace("{spooled!r}", repr(str(self.folder / "spool/job"))))
        path.chmod(0o755)
        return path

    def calls(self, name: str) -> list[Call]:
        record = self._record(name)
        lines = record.read_text().splitlines() if record.exists() else []
        return [Call(r["words"][1:], r["env"]) for r in map(json.loads, lines)]

    def only(self, name: str) -> Call:
        """How a command was started, by all tasks in the same way."""
        calls = self.calls(name)
        assert calls
        assert all(call.words == calls[0].words for call in calls)
        return calls[0]

    def shell(self, line: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A line as a user types it, in the repository."""
        return subprocess.run(
            ["/bin/bash", "-c", line],
            env=self.env | env,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def _record(self, name: str) -> Path:
        return self.folder / f"{name}.jsonl"


def examples(script: str) -> list[str]:
    """The command lines in the comments at a script's top; what they export stands before each."""
    lines = (SCRIPTS / script).read_text().splitlines()
    typed = [line[4:] for line in lines if line.startswith("#   ") and f"slurm/{script}" in line]
    exports = [line[4:] for line in lines if line.startswith("#   export ")]
    return ["; ".join([*exports, line]) for line in typed if not line.startswith("slurm/")]


def recorded(cluster: Cluster, line: str) -> str:
    """What an example comes to: `srun` and the command it starts, or the command line of `runai`."""
    done = cluster.shell(line)
    assert done.returncode == 0, done.stderr
    if "runai_" in line:
        return done.stdout.rstrip("\n")
    flags = [word for word in cluster.only("srun").words if word.startswith("--")]
    return shlex.join(["srun", *flags, "python", *cluster.only("python").words])


def after(word: str, line: str) -> list[str]:
    """The words of a command line that follow one of them."""
    words = shlex.split(line)
    return words[words.index(word) + 1 :]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)
