"""Fingerprints: every field counts, and what differs is named so that one knows what to change."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tissueseg.store.fingerprint import Check, Difference, differences, fingerprint, flat

FIELDS = {
    "version": 1,
    "modality": "he_sp",
    "encoder": {"name": "vit", "spec": {"halo_px": 0, "channels": [16, 16, 16, 16]}},
    "files": {"encoder.weights": "a" * 64, "encoder.markers": None},
    "normaliser": {"sp_mean": [0.25, 1.5, 2.0, 2.5, 3.0, 4.0]},
    "data": {"mpp": 0.5, "panel": ["DAPI", "CD3", "CD8", "CD20", "CD68"]},
    "tiling": {"tile_px": 128, "edges": ["pad", "shift"]},
    "views": {"dihedral": 4, "extra": 0},
    "dtype": "float16",
    "precision": "32-true",
}


def changed(name: str, value: Any, fields: dict[str, Any] = FIELDS) -> dict[str, Any]:
    """The fields with one of them, named by its keys, another."""
    key, _, rest = name.partition("/")
    return fields | {key: changed(rest, value, fields[key]) if rest else value}


def said(stored: dict[str, Any], wanted: dict[str, Any], check: Check = Check.STRICT) -> list[str]:
    return [str(found) for found in differences(stored, wanted, check)]


CHANGES = {
    "version": (2, "version 1 ≠ 2"),
    "modality": ("he", "modality he_sp ≠ he"),
    "encoder/spec/halo_px": (16, "encoder.spec.halo_px 0 ≠ 16"),
    "encoder/spec/channels": ([8] * 4, "encoder.spec.channels [16, 16, 16, 16] ≠ [8, 8, 8, 8]"),
    "files/encoder.weights": ("b" * 64, "encoder.weights sha aaaaaaaa… ≠ sha bbbbbbbb…"),
    "normaliser/sp_mean": (
        [0.25, 1.5, 2.125, 2.5, 3.0, 4.5],
        "normaliser.sp_mean[2] 2.0 ≠ 2.125",
    ),
    "data/mpp": (None, "data.mpp 0.5 ≠ nothing"),
    "data/panel": (["DAPI", "CD3", "CD8", "CD20"], "data.panel[4] CD68 ≠ nothing"),
    "tiling/tile_px": (256, "tiling.tile_px 128 ≠ 256"),
    "tiling/edges": (["pad"], "tiling.edges ['pad', 'shift'] ≠ ['pad']"),
    "views/dihedral": (8, "views.dihedral 4 ≠ 8"),
    "dtype": ("bfloat16", "dtype float16 ≠ bfloat16"),
    "precision": ("bf16-mixed", "precision 32-true ≠ bf16-mixed"),
}
HOW = {"tiling/edges", "views/dihedral", "dtype", "precision"}


@pytest.mark.parametrize("name", CHANGES)
def test_every_field_counts_and_is_named(name):
    value, message = CHANGES[name]
    wanted = changed(name, value)
    assert said(FIELDS, wanted) == [message]
    assert fingerprint(FIELDS) != fingerprint(wanted)


@pytest.mark.parametrize("name", CHANGES)
def test_match_overlooks_how_features_were_made_and_nothing_else(name):
    value, message = CHANGES[name]
    found = said(FIELDS, changed(name, value), Check.MATCH)
    assert found == ([] if name in HOW else [message])


@pytest.mark.parametrize("check", Check)
def test_alike_is_alike_in_any_order_of_keys(check):
    backwards = {key: FIELDS[key] for key in reversed(FIELDS)}
    assert differences(FIELDS, backwards, check) == []
    assert fingerprint(FIELDS) == fingerprint(backwards)


def test_differences_come_in_the_order_of_their_names():
    wanted = FIELDS
    for name in reversed(CHANGES):
        wanted = changed(name, CHANGES[name][0], wanted)
    found = [difference.field for difference in differences(FIELDS, wanted)]
    assert found == sorted(found)
    assert len(found) == len(CHANGES)


@pytest.mark.parametrize("check", Check)
def test_files_that_a_run_does_not_name_may_be_any(check):
    """A machine without the weights trains on what was made of them."""
    assert said(FIELDS, changed("files/encoder.weights", None), check) == []
    assert said(changed("files/encoder.weights", None), FIELDS, check) == [
        "encoder.weights nothing ≠ sha aaaaaaaa…"
    ]
    assert said(FIELDS, changed("data/mpp", None), check) != []  # a fact, not a file


def test_fields_that_one_side_lacks():
    assert said({"a": 1, "b": 2}, {"b": 2, "c": {"d": 3}}) == ["a 1 ≠ nothing", "c.d nothing ≠ 3"]
    assert said({"files": {"a": "x"}}, {"files": {}}) == [
        "files nothing ≠ {}",
        "a x ≠ nothing",
    ]
    assert said({"a": {}}, {"a": {}}) == []


def test_nested_mappings_are_joined_by_dots_and_empty_ones_kept():
    nested = {"a": {"b": {"c": 1}, "d": {}}, "e": [{"f": 2}], "g": {}}
    assert flat(nested) == {"a.b.c": 1, "a.d": {}, "e": [{"f": 2}], "g": {}}


LISTS = [
    ([1, 2, 3, 4, 5], [1, 2, 3, 4, 6], Difference("x[4]", 5, 6)),
    ([1, 2, 3, 4, 5], [9], Difference("x[0]", 1, 9)),
    ([1, 2, 3, 4, 5], [1], Difference("x[1]", 2, None)),
    ([], [1, 2, 3, 4, 5], Difference("x[0]", None, 1)),
    ([1, 2, 3, 4, None], [1, 2, 3, 4], Difference("x[4]", None, None)),  # by its length alone
    ([1, 2, 3, 4], [1, 2, 3, 5], Difference("x", [1, 2, 3, 4], [1, 2, 3, 5])),  # short: whole
    ([1, 2, 3, 4, 5], None, Difference("x", [1, 2, 3, 4, 5], None)),
    ("abcdefg", "abcdefh", Difference("x", "abcdefg", "abcdefh")),
    ([1, 2, 3, 4, 5], "12345", Difference("x", [1, 2, 3, 4, 5], "12345")),
    ("12345", [1, 2, 3, 4, 5], Difference("x", "12345", [1, 2, 3, 4, 5])),
]


@pytest.mark.parametrize(("stored", "wanted", "difference"), LISTS)
def test_of_long_lists_the_first_entry_that_differs(stored, wanted, difference):
    assert differences({"x": stored}, {"x": wanted}) == [difference]


values = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "xy"])
lists = st.lists(values, max_size=7)
nested = st.dictionaries(st.sampled_from("abc"), values | lists, max_size=3)
fields = st.dictionaries(st.sampled_from(["a", "files", "views", "dtype"]), values | lists | nested)


@given(fields, fields)
def test_match_finds_what_strict_finds_but_for_how_features_were_made(one, two):
    strict, match = (differences(one, two, check) for check in (Check.STRICT, Check.MATCH))
    assert match == [d for d in strict if not d.field.startswith(("views", "dtype"))]
    assert all(" ≠ " in str(difference) for difference in strict)
    assert differences(one, one) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("f" * 64, "sha ffffffff…"),
        ("-" * 64, "-" * 64),
        (0.25, "0.25"),
        (0.2500001, "0.2500001"),
        (None, "nothing"),
    ],
)
def test_values_are_shown_short(value, shown):
    assert str(Difference("x", value, 1)) == f"x {shown} ≠ 1"
