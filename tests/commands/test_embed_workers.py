"""Workers of `embed`: on which devices, with which words, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from feature_runs import WORDS, feature_store, write_cohort
from stores import compose, random_tissue

from tissueseg import ranks
from tissueseg.composition import one_line
from tissueseg.contracts import Modality
from tissueseg.devices import chosen_devices, own_device
from tissueseg.errors import ConfigError
from tissueseg.store.embedding_writer import work_folder
from tissueseg.store.embeddings import EmbeddingStore, State
from tissueseg.store.tissues import TissueStore

Command = Callable[..., Any]  # name, overrides -> code, out, err


def states(cohort: Path, features: Path) -> dict[str, State]:
    """What a store of features has of each tissue of a cohort."""
    tissues = TissueStore(cohort)
    digests = {t: tissues.image_digests(t, Modality.HE) for t in tissues.tissues}
    return EmbeddingStore(features).states(digests)


class Worker:
    """Stands for a process that has ended."""

    def __init__(self, code: int) -> None:
        self.poll = self.wait = lambda: code
        self.kill = self.send_signal = lambda *_: None


class Workers:
    """Stands for `subprocess`: processes that end at once with the codes they were given."""

    def __init__(self, *codes: int) -> None:
        self.codes, self.commands = iter(codes), list[list[str]]()
        self.devices = list[str]()

    def Popen(self, command: list[str], env: dict[str, str], process_group: int) -> Worker:
        self.commands.append(command)
        self.devices.append(env["LOCAL_RANK"])
        assert env["OMP_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"]  # if the user says so
        assert process_group == 0  # of its own: the signals of a terminal are passed on
        return Worker(next(self.codes))

    def words(self) -> list[list[str]]:
        """Of each worker's command line, behind the name of the module."""
        assert {tuple(c[:3]) for c in self.commands} == {(sys.executable, "-m", "tissueseg.embed")}
        return [command[3:] for command in self.commands]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Workers]:
    """From its call on, workers end with these codes."""

    def end_with(*codes: int) -> Workers:
        made = Workers(*codes)
        monkeypatch.setattr(ranks, "subprocess", made)
        return made

    return end_with


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as anyone asks."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_a_worker_that_is_killed_is_told_of(
    command: Command, here: Path, workers: Callable[..., Workers]
) -> None:
    workers(0, -signal.SIGKILL)
    result = command("embed", *WORDS, "trainer.devices=2")
    assert (result.code, result.err) == (
        137,
        "error: process 2 of 2 was ended by SIGKILL, as systems do that are out of memory: the others "
        "go on. Start the same command again for what they leave.\n",
    )


@pytest.mark.parametrize(
    ("codes", "worst"), [((0, 0), 0), ((0, 2), 2), ((2, 0), 2), ((2, 130), 130)]
)
def test_the_worst_exit_code_is_that_of_all(
    command: Command,
    here: Path,
    workers: Callable[..., Workers],
    codes: tuple[int, int],
    worst: int,
) -> None:
    workers(*codes)
    result = command("embed", *WORDS, "trainer.devices=2")
    assert (result.code, result.err) == (worst, "")


def test_workers_are_given_the_words_of_their_job(
    command: Command, here: Path, workers: Callable[..., Workers]
) -> None:
    made = workers(*[0] * 4)
    swept = ("--multirun", *WORDS, "encoder.seed=0,1", "hydra.sweep.dir=swept")
    assert command("embed", *swept, "trainer.devices=2", "batch_size=4").code == 0
    given = ("trainer.devices=2", "batch_size=4")
    jobs = [[*WORDS, f"encoder.seed={seed}", *given] for seed in (0, 0, 1, 1)]
    wanted = [[word.replace(" ", "") for word in job] for job in jobs]
    assert made.words() == wanted  # a sweep spells lists without blanks


def test_each_gpu_has_a_worker(
    command: Command,
    here: Path,
    workers: Callable[..., Workers],
    two_gpus: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = workers(0, 0)
    for asked, gpus in (("auto", ["cuda:0", "cuda:1"]), ("[1,0]", ["cuda:1", "cuda:0"])):
        made.codes, made.devices = iter((0, 0)), []
        asking = ("trainer=gpu", f"trainer.devices={asked}")
        assert command("embed", *WORDS, *asking).code == 0
        assert [own(number, *asking, monkeypatch=monkeypatch) for number in made.devices] == gpus


def own(number: str, *words: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The device of a process of that number."""
    with monkeypatch.context() as patch:
        patch.setenv("LOCAL_RANK", number)
        return str(own_device(compose(*words, name="embed")))


def devices(*words: str) -> list[str]:
    return [str(device) for device in chosen_devices(compose(*words, name="embed"))]


@pytest.mark.parametrize(("asked", "count"), [("1", 1), ("2", 2), ("-1", 1), ("auto", 1)])
def test_a_cpu_has_as_many_workers_as_asked_for(asked: str, count: int) -> None:
    assert devices(f"trainer.devices={asked}") == ["cpu"] * count


@pytest.mark.parametrize("asked", ["two", "'0,1'", "2.5", "0", "-2", "true", "null", "[]", "[0,1]"])
def test_devices_that_cannot_be_counted_are_one_line(asked: str) -> None:
    with pytest.raises(ConfigError) as caught:
        devices(f"trainer.devices={asked}")
    assert str(caught.value).startswith("trainer.devices=")
    assert "wanted how many, -1 for all, or, of CUDA, a list" in one_line(caught.value)
    assert "\n" not in str(caught.value)


GPUS = {
    "1": ["cuda:0"],
    "2": ["cuda:0", "cuda:1"],
    "-1": ["cuda:0", "cuda:1"],
    "auto": ["cuda:0", "cuda:1"],
    "[0,1]": ["cuda:0", "cuda:1"],
    "[1]": ["cuda:1"],
}


@pytest.mark.parametrize(("asked", "found"), GPUS.items(), ids=GPUS)
def test_gpus_are_counted_or_named(two_gpus: None, asked: str, found: list[str]) -> None:
    assert devices("trainer=gpu", f"trainer.devices={asked}") == found


@pytest.mark.parametrize("asked", ["3", "[0,2]", "[-1]", "[0,one]", "[]"])
def test_gpus_that_are_not_there_are_refused(two_gpus: None, asked: str) -> None:
    with pytest.raises(ConfigError, match="but this machine has 2 CUDA devices"):
        devices("trainer=gpu", f"trainer.devices={asked}")


def test_a_task_of_a_cluster_takes_its_own_gpu(
    two_gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task, gpu in (("0", "cuda:0"), ("1", "cuda:1"), ("2", "cuda:0")):
        monkeypatch.setenv("SLURM_LOCALID", task)
        assert devices("trainer=gpu", "trainer.devices=1") == [gpu]
        assert str(own_device(compose("trainer=gpu", name="embed"))) == gpu
    assert devices("trainer=gpu", "trainer.devices=2") == ["cuda:0", "cuda:1"]
    assert devices("trainer.devices=1") == ["cpu"]


SLOW = ("views=8", "batch_size=1", "threads=1", "trainer.devices=2")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        (signal.SIGTERM, 143, ""),
        (signal.SIGINT, 130, "interrupted\n" * 2),
        (signal.SIGKILL, -9, "the process that started this one is gone: it ends, too\n" * 2),
    ],
    ids=["terminated", "interrupted", "killed"],
)
def test_workers_end_with_the_command_that_began_them(
    here: Path, sent: signal.Signals, code: int, said: str
) -> None:
    write_cohort(here, {n: random_tissue(1024, 1024, patient=n) for n in "abc"})
    command, pipe = [sys.executable, "-m", "tissueseg.embed", *WORDS, *SLOW], subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as parent:
        assert parent.stdout is not None
        at_work = (line for line in parent.stdout if line.startswith("encoding "))
        assert {next(at_work), next(at_work)} == {"encoding a\n", "encoding b\n"}
        parent.send_signal(sent)
        out, err = parent.communicate()  # until all who write into these pipes have ended
    assert (parent.returncode, err) == (code, said)
    assert out == ""
    found = states(here / "cohort.zarr", feature_store(here))
    assert set(found.values()) == {State.MISSING}
    assert list(work_folder(feature_store(here)).glob("tissues/*")) == []
