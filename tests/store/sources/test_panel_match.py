"""Channels of a file found by name, spelling or protein, and never by resemblance."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.contracts import Channel
from tissueseg.errors import TissueDataError
from tissueseg.store.sources.channels import complete
from tissueseg.store.sources.panel_match import match_panel, spelling


def match(panel: Sequence[str], found: Sequence[str | None]) -> tuple[int, ...]:
    channels = [None if name is None else complete(name) for name in found]
    return match_panel([complete(name) for name in panel], channels, "a.tif").positions


def refused(panel: Sequence[str], found: Sequence[str | None]) -> str:
    with pytest.raises(TissueDataError) as caught:
        match(panel, found)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "other", "same"),
    [
        ("HLA-DR", "hla dr", True),
        ("E_CAD", "E-Cad", True),
        ("CD3", "CD31", False),
        ("CD3_1", "CD31", False),
        ("CK8/18", "ck8-18", True),
        ("Ki67", "Ki-67", True),
    ],
)
def test_spelling_evens_out_case_and_separators_alone(name: str, other: str, same: bool) -> None:
    assert (spelling(name) == spelling(other)) is same


def test_the_order_is_the_panels() -> None:
    assert match(["CD3", "DAPI", "panCK"], ["DAPI", "CD8", "pan-CK", "CD3"]) == (3, 0, 2)


def test_an_exact_name_goes_before_a_spelling() -> None:
    assert match(["CD-3", "cd3"], ["cd3", "CD-3"]) == (1, 0)


def test_stains_of_dna_stand_for_each_other_and_that_is_said() -> None:
    found = [complete("CD3"), complete("Hoechst")]
    matched = match_panel([complete("DAPI"), complete("CD3")], found, "a.tif")
    assert matched.positions == (1, 0)
    assert "channel Hoechst is taken for DAPI" in matched.notes


def test_one_channel_serves_once() -> None:
    assert "lacks the channels DNA2" in refused(["DNA1", "DNA2"], ["DNA1", "CD3"])


def test_accessions_match_whatever_the_names() -> None:
    panel, found = [Channel("T cells", "P07766")], [None, Channel("CD3e", "P07766")]
    assert match_panel(panel, found, "a.tif").positions == (1,)


def test_what_is_missing_and_what_there_is_are_named() -> None:
    said = refused(["DAPI", "CD8", "CD20"], ["DAPI", "CD3", None])
    assert "a.tif lacks the channels CD8, CD20" in said
    assert "it holds DAPI, CD3: " in said
    assert "image.channels=[…]" in said


def test_what_could_be_two_channels_is_refused() -> None:
    said = refused(["DAPI"], ["DAPI", "CD3", "DAPI"])
    assert "DAPI of the panel could be DAPI (no. 1), DAPI (no. 3)" in said
    assert "could be DAPI_1 (no. 1), DAPI_2 (no. 2)" in refused(["Hoechst"], ["DAPI_1", "DAPI_2"])


def test_repeated_channels_that_nobody_wants_are_no_matter() -> None:
    assert match(["CD3"], ["EMPTY", "CD3", "EMPTY"]) == (1,)


def test_nothing_is_said_of_a_panel_that_is_the_files() -> None:
    names = [complete(name) for name in ("CD3", "CD8")]
    assert match_panel(names, names, "a.tif").notes == ()


@settings(deadline=None, max_examples=50)
@given(st.permutations(["DAPI", "CD3", "CD31", "CD8", "CD8a", "E-cadherin"]), st.data())
def test_any_panel_is_found_in_any_order(names: list[str], data: st.DataObject) -> None:
    panel = data.draw(st.lists(st.sampled_from(names), unique=True, min_size=1))
    assert [names[i] for i in match(panel, names)] == panel
