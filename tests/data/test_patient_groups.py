"""Patients in a row: how they are drawn, cut and chosen."""

import hashlib

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
