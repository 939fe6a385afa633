"""Which of a machine's devices a process takes."""

from __future__ import annotations

import pytest
import torch
from stores import compose

from tissueseg.devices import local_number, own_device, processes_here


def test_processes_are_numbered_by_torch_before_slurm() -> None:
    assert local_number({}) == 0
    assert local_number({"SLURM_LOCALID": "3"}) == 3
    assert local_number({"SLURM_LOCALID": "3", "LOCAL_RANK": "1"}) == 1


def test_only_processes_that_share_cpus_are_counted() -> None:
    assert processes_here({}) == processes_here({"SLURM_NTASKS_PER_NODE": "4"}) == 1
    assert processes_here({"LOCAL_WORLD_SIZE": "4"}) == 4


OWN = {
    "1": ["cuda:0", "cuda:1", "cuda:2", "cuda:3"],  # each asks for one, and all have another
    "4": ["cuda:0", "cuda:1", "cuda:2", "cuda:3"],
    "-1": ["cuda:0", "cuda:1", "cuda:2", "cuda:3"],
    "2": ["cuda:0", "cuda:1", "cuda:0", "cuda:1"],
    "[3,1]": ["cuda:3", "cuda:1", "cuda:3", "cuda:1"],
}


@pytest.mark.parametrize(("asked", "wanted"), OWN.items(), ids=OWN)
def test_each_process_of_a_machine_takes_its_own_device(
    monkeypatch: pytest.MonkeyPatch, asked: str, wanted: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    config = compose("trainer=gpu", f"trainer.devices={asked}", name="embed")
    for number, device in enumerate(wanted):
        monkeypatch.setenv("LOCAL_RANK", str(number))
        assert str(own_device(config)) == device


def test_processes_on_cpus_have_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(own_device(compose("trainer.devices=2", name="embed"))) == "cpu"
