"""One worker per tissue, whoever races, dies, sleeps or decides by what it saw too long ago."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from claims_made import PATIENCE_S, files, take

from tissueseg.store import claims as claims_module
from tissueseg.store.claims import Claim, Claims

RACER = """
import os, sys
from pathlib import Path
from tissueseg.store.claims import Claims

folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
taken = []
with Claims(folder / "claims") as claims:
    print("ready", flush=True)
    sys.stdin.readline()
    for name in (f"t.{i}" for i in range(30)):
        if claims.take(name):
            taken.append(name)
    print(*taken, flush=True)
    sys.stdin.readline()
    while rounds:
        if claim := claims.take("contested"):
            rounds -= 1
            os.close(os.open(folder / "inside", os.O_CREAT | os.O_EXCL))  # fails if another is inside
            os.unlink(folder / "inside")
            assert claim.held()
            claim.release()
            (folder / f"round-{claim.path.stem}").touch(exist_ok=False)
"""

HOLDER = """
import sys
from pathlib import Path
from tissueseg.store.claims import Claims

claim = Claims(Path(sys.argv[1])).take("t")
print("held" if claim and claim.held() else "refused", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Run a script in a process of its own, killed at the end if it has not ended."""
    with ExitStack() as stack:

        def run(script: str, *arguments: object) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", script, *map(str, arguments)]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def write_claim(folder: Path, age_s: float, **changed: Any) -> Path:
    """Leave a claim as another host would have, last touched so long ago."""
    path = folder / "t" / "1.claim"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"host": "far", "pid": 1, "start": 1, "nonce": "n"} | changed))
    age(path, age_s)
    return path


def test_processes_that_race_hold_each_name_once_and_one_at_a_time(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    rounds = 40
    racers = [start(RACER, tmp_path, rounds) for _ in range(4)]
    assert [says(racer) for racer in racers] == ["ready"] * 4
    for racer in racers:
        go_on(racer)
    taken = [name for racer in racers for name in says(racer).split()]
    assert sorted(taken) == sorted(f"t.{i}" for i in range(30))
    for racer in racers:
        go_on(racer)
    for racer in racers:
        racer.communicate(timeout=60)
    assert [racer.returncode for racer in racers] == [0] * 4
    generations = [int(path.name.rpartition("-")[2]) for path in tmp_path.glob("round-*")]
    assert sorted(generations) == list(range(1, 4 * rounds + 1))


def test_killed_holder_of_this_host_is_replaced_at_once(
    worker: Callable[..., Claims], start: Callable[..., subprocess.Popen[str]]
) -> None:
    mine = worker()
    holder = start(HOLDER, mine.folder)
    assert says(holder) == "held"
    assert mine.take("t") is None
    holder.kill()
    deadline = time.monotonic() + 30
    while not (claim := mine.take("t")) and time.monotonic() < deadline:
        time.sleep(0.01)  # it is a zombie soon, as nobody has waited for it
    assert claim is not None
    assert claim.held()
    assert holder.returncode is None
    assert files(mine) == ["t/2.claim"]


def test_process_id_that_was_given_out_again_is_not_the_holder(
    worker: Callable[..., Claims],
) -> None:
    mine, host = worker(), claims_module.host()
    here = claims_module.began(os.getpid())
    path = write_claim(mine.folder, 0, host=host, pid=os.getpid(), start=here)
    assert mine.take("t") is None
    if here is None:
        pytest.skip("the system does not tell when processes began")
    write_claim(mine.folder, 0, host=host, pid=os.getpid(), start=here - 1)
    assert take(mine).path.name == "2.claim"
    assert not path.exists()


def test_living_holder_of_this_host_keeps_its_claim_however_old(
    worker: Callable[..., Claims],
) -> None:
    claim = take(worker())
    age(claim.path, 10 * PATIENCE_S)
    assert worker().take("t") is None
    assert claim.held()


@pytest.mark.parametrize("content", [None, "", '{"host": "fa', "[]"])
def test_foreign_and_half_written_claims_die_after_the_patience(
    worker: Callable[..., Claims], content: str | None
) -> None:
    mine = worker()
    for age_s, taken in ((0, False), (PATIENCE_S - 60, False), (PATIENCE_S + 60, True)):
        path = write_claim(mine.folder, 0)
        if content is not None:
            path.write_text(content)
        age(path, age_s)
        assert bool(mine.take("t")) is taken
    assert files(mine) == ["t/2.claim"]


def test_age_is_told_by_the_clock_of_the_file_server(
    worker: Callable[..., Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, now = worker(), time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10 * PATIENCE_S)
    write_claim(mine.folder, 0)
    assert mine.take("t") is None
    assert files(mine) == ["t/1.claim"]


def test_of_many_racers_for_a_dead_claim_one_wins(worker: Callable[..., Claims]) -> None:
    racers = [worker() for _ in range(8)]
    write_claim(racers[0].folder, 2 * PATIENCE_S)
    barrier, won = threading.Barrier(len(racers)), []

    def race(claims: Claims) -> None:
        barrier.wait()
        won.append(claims.take("t"))

    threads = [threading.Thread(target=race, args=(racer,)) for racer in racers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = [claim for claim in won if claim]
    assert len(won) == len(racers)
    assert winner.held()
    assert files(racers[0]) == ["t/2.claim"]


def during_judgement(
    claims: Claims, monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]
) -> None:
    """Let things happen once this worker has seen a claim and found it dead, before it acts."""
    judge, left = claims._is_dead, [happens]

    def slow(path: Path) -> bool:
        dead = judge(path)
        if left:
            left.pop()()
        return dead

    monkeypatch.setattr(claims, "_is_dead", slow)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_late_taker_disturbs_no_holder_of_a_later_generation(
    worker: Callable[..., Claims], monkeypatch: pytest.MonkeyPatch, turns: int
) -> None:
    late, rival, third, held, seen = worker(), worker(), worker(), [], []

    def others_come_and_go() -> None:
        for _ in range(turns):
            take(rival).release()
        held.append(take(third))

    write_claim(late.folder, 2 * PATIENCE_S)
    during_judgement(late, monkeypatch, others_come_and_go)
    create = Claim._create
    monkeypatch.setattr(
        Claim, "_create", lambda claim: (create(claim), seen.extend(c.held() for c in held))[0]
    )
    assert late.take("t") is None
    assert seen
    assert all(seen)
    assert held[0].held()
    assert files(late) == [f"t/{turns + 2}.claim"]


def test_late_taker_gets_what_was_released_meanwhile(
    worker: Callable[..., Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    late, rival = worker(), worker()
    write_claim(late.folder, 2 * PATIENCE_S)
    during_judgement(late, monkeypatch, lambda: take(rival).release())
    claim = take(late)
    assert claim.path.name == "3.claim"
    assert files(late) == ["t/3.claim"]


def test_suspended_holder_loses_and_leaves_its_successor_alone(
    worker: Callable[..., Claims], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = worker()
    with monkeypatch.context() as patch:
        patch.setattr(claims_module, "host", lambda: "far")
        suspended = take(worker())
    assert mine.take("t") is None
    age(suspended.path, PATIENCE_S + 60)
    assert suspended.held()
    successor = take(mine)
    assert not suspended.held()
    suspended.release()
    assert successor.held()
    assert files(mine) == ["t/2.claim"]
    assert worker().take("t") is None


def test_heart_beats_for_all_claims_until_they_are_closed(worker: Callable[..., Claims]) -> None:
    claims = worker(beat_s=0.01)
    lost, *kept = [take(claims, name) for name in ("a", "b", "c")]
    lost.path.unlink()  # must not stop the heart
    assert not lost.held()
    for _ in range(3):
        for claim in kept:
            age(claim.path, 2 * PATIENCE_S)
        old, deadline = time.time() - PATIENCE_S, time.monotonic() + 30
        while any(c.path.stat().st_mtime < old for c in kept) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert all(claim.path.stat().st_mtime > old for claim in kept)
    claims.close()
    assert not claims._heart.is_alive()
    with pytest.raises(RuntimeError, match="closed"):
        claims.take("d")


def test_a_name_is_taken_once_whoever_asks_in_the_process(worker: Callable[..., Claims]) -> None:
    mine, other = worker(), worker()
    claim = take(mine)
    assert mine.take("t") is None
    assert other.take("t") is None
    claim.release()
    claim.release()
    assert not claim.held()
    assert take(other).path.name == "2.claim"


def test_claim_of_the_same_file_name_is_not_mistaken_for_ones_own(
    worker: Callable[..., Claims],
) -> None:
    claim = take(worker())
    claim.path.unlink()  # the folder was emptied by hand
    other = take(worker())
    assert other.path == claim.path
    assert not claim.held()
    claim.release()
    assert other.held()


def test_a_holder_here_is_told_from_one_elsewhere(worker: Callable[..., Claims]) -> None:
    mine = worker()
    claim = mine.take("t")
    assert claim
    assert mine.held_here("t")
    claim.release()
    assert not mine.held_here("t")
    (mine.folder / "t/1.free").unlink()
    write_claim(mine.folder, 0)
    assert mine.take("t") is None
    assert not mine.held_here("t")


def test_leaving_releases_everything(worker: Callable[..., Claims]) -> None:
    with worker() as mine:
        claims = [take(mine, name) for name in ("a", "b")]
    assert not any(claim.held() for claim in claims)
    assert files(mine) == ["a/1.free", "b/1.free"]
    assert take(worker(), "a")


def test_names_with_dots_and_numbers_are_not_mixed_up(worker: Callable[..., Claims]) -> None:
    mine, other = worker(), worker()
    names = ["t", "t.1", "t.1.claim", "t.1.claim.2", "t.2", "é ü (1)", "x" * 200]
    claims = [take(mine, name) for name in names]
    assert [claim.path.parent.name for claim in claims] == names
    assert [other.take(name) for name in names] == [None] * len(names)
    claims[0].release()
    assert all(claim.held() for claim in claims[1:])
    assert take(other, "t").path.name == "2.claim"
