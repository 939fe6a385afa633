"""What processes tell each other: two of them, and one alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from gloo_pair import in_two

from tissueseg.errors import ConfigError, PeerLostError
from tissueseg.modules.group import ALONE, Group, joined, rank_draws, seed_draws, set_draws


def test_one_alone_tells_itself() -> None:
    assert ALONE.leads
    assert ALONE.told({"a": 1}) == {"a": 1}
    assert ALONE.gathered(3) == [3]
    assert ALONE.highest(2) == 2
    assert ALONE.in_turn(lambda: "made") == "made"
    with joined(0, 1, 0, cuda=False) as group:
        assert group is ALONE


def test_the_leader_is_heard_and_all_are_gathered_by_number(tmp_path: Path) -> None:
    def job(group: Group) -> Any:
        own = {"of": group.number, "path": Path("a")}
        return group.leads, group.told(own)["of"], group.gathered(own), group.highest(group.number)

    gathered = [{"of": 0, "path": Path("a")}, {"of": 1, "path": Path("a")}]
    assert in_two(job, tmp_path) == [(True, 0, gathered, 1), (False, 0, gathered, 1)]


def test_the_leader_has_the_first_turn(tmp_path: Path) -> None:
    def job(group: Group) -> Any:
        seen = group.in_turn(lambda: (tmp_path / "made").exists() or (tmp_path / "made").touch())
        return bool(seen), group.in_turn(lambda: group.number)

    assert in_two(job, tmp_path) == [(False, 0), (True, 1)]


def test_when_the_leader_cannot_the_others_do_not(tmp_path: Path) -> None:
    def job(group: Group) -> Any:
        done = []

        def turn() -> None:
            done.append(group.number)
            raise ConfigError("no such store")

        with pytest.raises((ConfigError, PeerLostError)) as error:
            group.in_turn(turn)
        return type(error.value).__name__, str(error.value), done

    first, second = in_two(job, tmp_path)
    assert first == ("ConfigError", "no such store", [0])
    assert second == (
        "PeerLostError",
        "the first process of this job has ended: see what it says.",
        [],
    )


def test_a_turn_that_only_another_cannot_take_leaves_the_leader_s(tmp_path: Path) -> None:
    def job(group: Group) -> Any:
        try:
            return group.in_turn(lambda: 1 // (1 - group.number))
        except ZeroDivisionError:
            return "failed"

    assert in_two(job, tmp_path) == [1, "failed"]


def draws(seed: int, epoch: int, number: int) -> list[float]:
    seed_draws(seed, epoch, number)
    return torch.rand(4).tolist()


def test_draws_follow_seed_epoch_and_process_alone() -> None:
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**32 - 1, 10**6, 63)]
    made = [draws(*place) for place in places]
    torch.rand(9)
    assert [draws(*place) for place in places] == made
    assert len({tuple(drawn) for drawn in made}) == len(places)


def test_draws_go_on_where_they_were_seen() -> None:
    seed_draws(0, 0, 0)
    torch.rand(3)
    seen = rank_draws()
    after = torch.rand(3)
    set_draws(seen)
    assert torch.equal(torch.rand(3), after)
