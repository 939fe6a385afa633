"""Which protein a channel's name stands for: whole names, evened out, each for one protein only."""

import csv
import re
from importlib.resources import files

import pytest
from safetensors.torch import save_file
from torch import ones

from tissueseg.contracts import Channel
from tissueseg.data.markers import MarkerTable, aliases, normalised


def channels(*names):
    return tuple(Channel(name) for name in names)


def found(name):
    """The protein a name stands for in the alias table."""
    return aliases().get(normalised(name), (None, None))[0]


@pytest.fixture
def table(tmp_path):
    """A table of three vectors."""
    path = tmp_path / "esm2.safetensors"
    save_file({uniprot: ones(4) for uniprot in ("P68431", "P46013", "P07766")}, path)
    return MarkerTable(str(path))


STAINS = (
    "DAPI,dapi,DAPI-01,DAPI_2,Hoechst,Hoechst 1,Hoechst33342,DNA,DNA1,DNA_2,dsDNA,SYTO13,SYTOX Green,"
    "DRAQ5,H3,HH3,HistoneH3,Histone H3,191Ir,193Ir-DNA2,DNA1_Ir191,Iridium"
)


@pytest.mark.parametrize("name", STAINS.split(","))
def test_stains_of_dna_stand_for_histone_h3(table, name):
    (match,) = table.matches(channels(name))
    assert (match.key, match.how) == ("P68431", "nuclear stain")


@pytest.mark.parametrize("name", ["DNAM1", "H3.1b", "DAPIx", "Nuc", "nucleus", "cDNA", "EMPTY"])
def test_other_names_are_no_stains_of_dna(table, name):
    (match,) = table.matches(channels(name))
    assert match.how != "nuclear stain"


def test_a_nuclear_protein_is_itself_and_an_unknown_nuclear_channel_a_stain(table):
    panel = (Channel("Ki-67", None, True), Channel("nuclei", None, True))
    matches = table.matches(panel)
    assert [m.key for m in matches] == ["P46013", "P68431"]


@pytest.mark.parametrize(
    ("spellings", "uniprot"),
    [
        (("CD3", "cd3", "CD3e", "CD3E", "CD3 ε", "CD3-epsilon", "CD3_E"), "P07766"),
        (("Pan-CK", "PanCK", "pan-cytokeratin", "Keratin-pan", "PanKRT", "pan.CK"), "P02533"),
        (("αSMA", "SMA", "a-SMA", "alpha-SMA", "ACTA2", "alphaSMA"), "P62736"),
        (("HLA-DR", "HLADR", "HLA.DR", "HLA-DR-DQ-DP", "HLADRDPDQ"), "P01903"),
        (("PD-1", "PD1", "PDCD1", "CD279"), "Q15116"),
        (("PD-L1", "PDL1", "CD274"), "Q9NZQ7"),
        (("Na+/K+ ATPase", "NaKATPase", "NaK ATPase"), "P05023"),
        (("IFN-γ", "IFNg", "IFN gamma", "IFNγ"), "P01579"),
        (("NF-κB", "NFkB", "p65"), "Q04206"),
        (("β-catenin", "BetaCatenin", "Beta Catenin", "ß-catenin"), "P35222"),
        (("TCRγδ", "gdTCR", "TCR gamma delta"), "B7Z8K6"),
        (("CK8/18", "CK8-18", "CK8_18", "CK818"), "P05787"),
        (("γH2AX", "gH2AX", "H2AX"), "P16104"),
        (("pS6", "p-S6", "Phospho S6"), "P62753"),
        (("Ki67", "Ki-67", "KI 67", "MKI67"), "P46013"),
    ],
)
def test_spellings_of_a_marker_meet(spellings, uniprot):
    assert {name: found(name) for name in spellings} == dict.fromkeys(spellings, uniprot)


@pytest.mark.parametrize(
    "name",
    ["CD", "CD3x", "CD3_1", "CD3.1", "CD3 (1)", "CD1 1b", "CD31a", "anti-CD3", "CK", "", "-"],
)
def test_names_match_whole_or_not_at_all(name):
    assert found(name) is None


def test_neighbours_in_name_are_not_neighbours_in_kind():
    assert found("CD3") != found("CD31") != found("CD30")
    assert found("CD45") != found("CD45RO") != found("CD45RA")


def test_no_name_of_the_table_stands_for_two_proteins_and_none_is_listed_twice():
    with files("tissueseg.data").joinpath("marker_names.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    owner = {}
    for row in rows:
        names = [n for n in row["names"].split(";") if n]
        names += [] if "-" in row["uniprot"] else [row["gene"]]
        for name in names:
            assert normalised(name), row
            assert owner.setdefault(normalised(name), row["uniprot"]) == row["uniprot"], name
        assert len({normalised(n) for n in names}) == len(names), row
    assert len({row["uniprot"] for row in rows}) == len(rows) >= 200
    assert owner.items() == {name: uniprot for name, (uniprot, _) in aliases().items()}.items()


def test_accessions_of_the_table_are_accessions():
    accession = re.compile(
        r"([OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9]([A-Z][A-Z0-9]{2}[0-9]){1,2})(-[0-9]+)?"
    )
    assert [u for u, _ in aliases().values() if not accession.fullmatch(u)] == []


def test_proteins_that_stand_for_what_is_none_follow_virtues():
    names = {"panCK": "P02533", "CD15": "P22083", "CD45RA": "P08575-8", "HLA-DR": "P01903"}
    names |= {"p75": "P08138", "PDN": "Q86YL7", "TCF1/TCF7": "P36402", "CD57": "Q9P2W7"}
    assert {name: found(name) for name in names} == names


DELIBERATE = {
    "Tryptase": ("Q15661", "P20231"),  # beta-2, all but the same, is the one VirTues' tables hold
    "MastChyTry": ("Q15661", "P20231"),
    "CDH": ("P12830", None),  # any cadherin
    "PIN": ("P01308", None),  # proinsulin to one, PIN1 to others
    "DAPI": ("", "P68431"),
    "DNA1": ("", "P68431"),
    "DNA3": ("", "P68431"),
}


@pytest.mark.real
def test_marker_names_of_real_panels_agree_but_where_we_mean_to_differ(shared_data, table):
    with (shared_data / "marker_embeddings" / "marker_to_uniprot.csv").open() as file:
        stated = {row["marker_name"]: row["uniprot"] for row in csv.DictReader(file)}
    matches = table.matches(channels(*stated))
    ours = {m.channel.name: m.uniprot for m in matches}
    differ = {n: (stated[n], ours[n]) for n in stated if (stated[n] or None) != ours[n]}
    assert differ == DELIBERATE
