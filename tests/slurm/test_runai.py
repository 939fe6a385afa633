"""The Run:ai scripts: the command line they print, and submit when told to."""

from __future__ import annotations

import os
import shlex

import pytest
from stores import compose

from .conftest import Cluster, examples

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts")

SETUP = {
    "RUNAI_PROJECT": "pathology",
    "RUNAI_IMAGE": "registry/tissueseg:0.8",
    "RUNAI_PVC": "data:/data",
    "RUNAI_NODE_POOL": "a100",
    "RUNAI_JOB": "my-run",
}
SCRIPTS = ("runai_train.sh", "runai_embed.sh")
ODD = ["a b", "+x=[1,2]", "it's", "$HOME", "*", '"', "k={a: 'b c'}", "", "-v", "--"]
COMMON = [
    *("--project", "pathology", "--image", "registry/tissueseg:0.8", "--node-pools", "a100"),
    *("--existing-pvc", "claimname=data,path=/data", "--working-dir", "/data", "--large-shm"),
    *("--termination-grace-period", "2m", "-e", "HOME=/tmp"),
]
KEPT = ["run_dir=runs/my-run", "resume=auto"]


def printed(cluster: Cluster, line: str, **env: str) -> list[str]:
    """The command line that a script prints, which it must not run."""
    done = cluster.shell(line, **env)
    assert done.returncode == 0, done.stderr
    assert "SUBMIT=1" in done.stderr
    assert cluster.calls("runai") == []
    return shlex.split(done.stdout)


@pytest.mark.parametrize("line", [line for script in SCRIPTS for line in examples(script)])
def test_an_example_prints_what_it_would_submit(line: str, cluster: Cluster) -> None:
    shown = printed(cluster, line)
    assert cluster.shell(line, SUBMIT="1").returncode == 0
    assert ["runai", *cluster.only("runai").words] == shown
    words = shown[shown.index("--command") :]
    assert words[-len(shlex.split(line.partition(".sh ")[2])) :] == shlex.split(
        line.partition(".sh ")[2]
    )
    assert "--existing-pvc claimname=data,path=/data" in " ".join(shown)


def test_one_gpu_is_a_plain_training(cluster: Cluster) -> None:
    shown = printed(cluster, "slurm/runai_train.sh setting=orion", **SETUP)
    start = ["runai", "training", "submit", "my-run", *COMMON, "--gpu-devices-request", "1"]
    command = ["python", "-m", "tissueseg.train", "trainer=gpu", *KEPT, "setting=orion"]
    assert shown == [*start, "--command", "--", *command]


def test_several_gpus_of_a_node_are_ranks_that_train_starts(cluster: Cluster) -> None:
    shown = printed(cluster, "slurm/runai_train.sh", **SETUP, RUNAI_GPUS="4")
    command = ["python", "-m", "tissueseg.train", "trainer=ddp", "trainer.devices=4", *KEPT]
    assert shown[:4] == ["runai", "training", "submit", "my-run"]
    assert shown[-len(command) - 4 :] == ["--gpu-devices-request", "4", "--command", "--", *command]


def test_several_nodes_are_pods_in_which_torchrun_starts_the_ranks(cluster: Cluster) -> None:
    line = "slurm/runai_train.sh 'name=my run'"
    shown = printed(cluster, line, **SETUP, RUNAI_GPUS="4", RUNAI_NODES="3")
    assert shown[:5] == ["runai", "training", "pytorch", "submit", "my-run"]
    asked = " ".join(shown[: shown.index("--command")])
    assert "--workers 2 " in asked  # and the first pod, which is no worker
    assert "--gpu-devices-request 4 --master-gpu-devices-request 4" in asked
    cluster.add("torchrun")
    inside = {"RANK": "2", "MASTER_ADDR": "my-run-master-0", "MASTER_PORT": "23456"}
    assert cluster.shell(shlex.join(shown[shown.index("--") + 1 :]), **inside).returncode == 0
    ranks = ["--nnodes=3", "--nproc-per-node=4", "--node-rank=2", "--master-addr=my-run-master-0"]
    trainer = ["trainer=ddp", "trainer.devices=4", "trainer.num_nodes=3"]
    assert cluster.only("torchrun").words == [
        *(*ranks, "--master-port=23456", "-m", "tissueseg.train"),
        *(*trainer, *KEPT, "name=my run"),
    ]


def test_pods_share_the_tissues_of_embed(cluster: Cluster) -> None:
    shown = printed(cluster, "slurm/runai_embed.sh views.dihedral=8", **SETUP, RUNAI_PODS="8")
    pods = ["--gpu-devices-request", "1", "--parallelism", "8", "--runs", "8"]
    command = ["python", "-m", "tissueseg.embed", "trainer=gpu", "views.dihedral=8"]
    start = ["runai", "training", "submit", "my-run", *COMMON]
    assert shown == [*start, *pods, "--command", "--", *command]


@pytest.mark.parametrize(
    "words",
    [
        ["trainer=gpu", *KEPT],
        ["trainer=ddp", "trainer.devices=4", *KEPT],
        ["trainer=ddp", "trainer.devices=4", "trainer.num_nodes=3", *KEPT],
    ],
    ids=["a GPU", "a node", "nodes"],
)
def test_train_knows_the_words_that_are_added(words: list[str]) -> None:
    config = compose(*words)
    assert config.run_dir == "runs/my-run"
    assert config.resume == "auto"


@pytest.mark.parametrize("nodes", ["1", "2"])
def test_words_arrive_as_they_were_given(nodes: str, cluster: Cluster) -> None:
    line = f"slurm/runai_train.sh {shlex.join(ODD)}"
    assert printed(cluster, line, **SETUP, RUNAI_NODES=nodes)[-len(ODD) :] == ODD
    assert cluster.shell(line, **SETUP, SUBMIT="1").returncode == 0
    assert cluster.only("runai").words[-len(ODD) :] == ODD


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("name", SETUP)
def test_a_missing_variable_is_named_in_one_line(name: str, script: str, cluster: Cluster) -> None:
    env = {key: value for key, value in SETUP.items() if key != name}
    done = cluster.shell(f"slurm/{script} setting=orion", SUBMIT="1", **env)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {name} is not set, wanted ")
    assert len(done.stderr.splitlines()) == 1
    assert cluster.calls("runai") == []


@pytest.mark.parametrize(
    ("script", "name", "value"),
    [
        ("runai_train.sh", "RUNAI_PVC", "data"),
        ("runai_train.sh", "RUNAI_PVC", "data:relative"),
        ("runai_train.sh", "RUNAI_JOB", "My_Run"),
        ("runai_train.sh", "RUNAI_JOB", "a" * 60),
        ("runai_train.sh", "RUNAI_GPUS", "0"),
        ("runai_train.sh", "RUNAI_NODES", "two"),
        ("runai_embed.sh", "RUNAI_PODS", "-1"),
    ],
)
def test_a_value_that_cannot_be_is_refused(
    script: str, name: str, value: str, cluster: Cluster
) -> None:
    done = cluster.shell(f"slurm/{script}", **(SETUP | {name: value}))
    assert done.returncode == 2
    assert f"{name}={value}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_more_flags_come_before_the_command(cluster: Cluster) -> None:
    flags = "--env-secret WANDB_API_KEY=wandb,key=token --run-as-uid 1234"
    shown = printed(cluster, "slurm/runai_embed.sh", **SETUP, RUNAI_FLAGS=flags)
    assert shown[shown.index("--command") - 4 : shown.index("--command")] == flags.split()


def test_a_refused_submission_ends_with_the_code_of_runai(cluster: Cluster) -> None:
    done = cluster.shell("slurm/runai_train.sh", **SETUP, SUBMIT="1", TEST_EXIT="7")
    assert done.returncode == 7
