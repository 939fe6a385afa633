"""What convention knows of a channel from its name alone."""

from __future__ import annotations

import pytest

from tissueseg.contracts import Channel
from tissueseg.store.sources.channels import accession, complete, note_stains


@pytest.mark.parametrize(
    "name",
    [
        *("DAPI", "Hoechst 33342", "DNA1", "191Ir_DNA1", "HistoneH3", "dapi-2"),
        *("Iridium", "Iridium (V2)", "iridium_191", "Ir191", "Ir-193", "193Ir", "191 Ir"),
    ],
)
def test_stains_of_dna_are_nuclear_and_stand_for_histone_h3(name: str) -> None:
    assert complete(name) == Channel(name, "P68431", True)


@pytest.mark.parametrize(
    "name", ["CD3", "IRF4", "Ir", "IR-A", "Ir115", "Iridium oxide", "H3K27me3"]
)
def test_other_names_mean_nothing(name: str) -> None:
    assert complete(name) == Channel(name, None, False)


def test_what_a_source_says_of_iridium_goes_before() -> None:
    assert complete("Iridium", "P16401", False) == Channel("Iridium", "P16401", False)


@pytest.mark.parametrize("text", ["", "CD3E", "P07766 ", "P07766\n", "P07766,P01732", "p07766"])
def test_words_that_are_no_accession(text: str) -> None:
    assert accession(text) is None


def test_stains_are_noted_unless_their_protein_is_stated() -> None:
    channels = [complete("DAPI"), None, complete("Iridium"), complete("CD3", "P07766")]
    assert note_stains(channels, {"DAPI"}) == [
        "nuclear channels Iridium stand for histone H3 (P68431)"
    ]
    assert note_stains(channels, {"DAPI", "Iridium"}) == []
