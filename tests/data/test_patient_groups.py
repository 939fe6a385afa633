"""Patients in a row: how they are drawn, cut and chosen."""

import hashlib
from itertools import chain, combinations

import pytest

from tissueseg.data.patient_groups import consecutive, in_drawn_order, in_order, take, tissues_of


def test_a_patient_s_place_is_a_hash_of_seed_and_name():
    def key(name: str) -> bytes:
        return hashlib.blake2b(name.encode(), key=b"5").digest()

    names = {name: name for name in "abcdefghij"}
    drawn = in_drawn_order(names, 5)
    assert drawn == [(name,) for name in sorted(names, key=key)]


def test_parts_are_never_left_without_patients_they_are_due():
    groups = in_order({"a1": "a", "a2": "a", "a3": "a", "a4": "a", "b": "b", "c": "c"})
    parts = consecutive(groups, (1, 1, 1), least=1)
    assert [tissues_of(part) for part in parts] == [("a1", "a2", "a3", "a4"), ("b",), ("c",)]
    assert [len(part) for part in consecutive(groups, (1, 1, 1))] == [1, 0, 2]


def test_choosing_patients_leaves_some_to_the_other_sides():
    assert take([("a",), ("b",), ("c", "d", "e", "f")], 2, most=1) == [("a",)]


@pytest.mark.parametrize("tissues", [1, 2.5, 4.2, 7, 11.9])
@pytest.mark.parametrize("most", [1, 2, 4])
def test_no_other_choice_of_so_few_patients_is_nearer(tissues: float, most: int):
    sizes = [(2, 1, 5, 3, 1), (4, 4, 4), (1, 1, 1, 1, 1, 1), (6, 2, 2, 3)]
    for row in sizes:
        groups = [tuple(f"{i}_{j}" for j in range(size)) for i, size in enumerate(row)]
        every = chain.from_iterable(combinations(groups, n) for n in range(1, most + 1))
        off = min(abs(sum(map(len, choice)) - tissues) for choice in every)
        taken = take(groups, tissues, most)
        assert len(taken) <= most
        assert abs(len(tissues_of(taken)) - tissues) == pytest.approx(off)


def test_of_patients_of_one_tissue_the_first_are_chosen_however_many_there_are():
    groups = [(f"{i:05d}",) for i in range(20_000)]
    assert take(groups, 3000.4, len(groups)) == groups[:3000]
