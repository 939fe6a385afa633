"""Protein vectors of a panel: names matched whole, isoforms kept, and nothing lost unseen."""

import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tissueseg.contracts import Channel
from tissueseg.data.markers import MarkerTable
from tissueseg.errors import ConfigError, SpecMismatchError, WeightsError, WeightsNotFoundError

PANEL = (Channel("DAPI", "P68431", True), Channel("CD3"), Channel("CD4"))
ORION = "CD31,CD45,CD68,CD4,FOXP3,CD8a,CD45RO,CD20,PD-L1,CD3e,CD163,E-cadherin,PD-1,Ki67,Pan-CK,SMA"
WIDTH = 6


def vectors(*ids):
    return {uniprot: torch.full((WIDTH,), float(i)) for i, uniprot in enumerate(ids)}


def channels(*names):
    return tuple(Channel(name) for name in names)


@pytest.fixture
def table(tmp_path):
    """A function that writes a table and says where it lies."""

    def write(*ids, tensors=None):
        path = tmp_path / "esm2.safetensors"
        save_file(tensors or vectors(*ids), path)
        return str(path)

    return write


@pytest.fixture
def folder(tmp_path):
    for uniprot, vector in vectors("P68431", "P07766", "P01730").items():
        torch.save(vector, tmp_path / f"{uniprot}.pt")
    return tmp_path


def refusal(kind, call):
    with pytest.raises(kind) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_vectors_come_in_the_order_of_the_panel(table):
    markers = MarkerTable(table("P01730", "P07766", "P68431", "P11836"))(PANEL)
    assert markers.channels == (0, 1, 2)
    assert markers.vectors.dtype == np.float32
    assert markers.vectors[:, 0].tolist() == [2, 1, 0]


def test_vectors_of_half_precision_become_float32(table):
    path = table(tensors={"P07766": torch.full((WIDTH,), 0.5, dtype=torch.bfloat16)})
    markers = MarkerTable(path)(channels("CD3"))
    assert markers.vectors.dtype == np.float32
    assert (markers.vectors == 0.5).all()


def test_a_folder_gives_what_a_file_gives_and_reads_only_what_is_needed(folder, table):
    (folder / "P11836.pt").write_bytes(b"not a tensor")
    markers = MarkerTable(str(folder))(PANEL)
    same = MarkerTable(table("P68431", "P07766", "P01730"))(PANEL)
    np.testing.assert_array_equal(markers.vectors, same.vectors)
    said = refusal(WeightsError, lambda: MarkerTable(str(folder))(channels("CD20")))
    assert "P11836.pt" in said


def test_a_vector_may_lie_in_a_dictionary_of_one(folder):
    torch.save({"mean": torch.ones(WIDTH)}, folder / "P07766.pt")
    assert MarkerTable(str(folder))(channels("CD3")).vectors.tolist() == [[1] * WIDTH]
    torch.save({"mean": torch.ones(WIDTH), "std": torch.ones(WIDTH)}, folder / "P07766.pt")
    said = refusal(WeightsError, lambda: MarkerTable(str(folder))(channels("CD3")))
    assert "P07766.pt holds 2 tensors" in said


def test_a_table_may_lie_on_the_hub(table, monkeypatch):
    path, asked = table("P07766"), []
    hub = type("hub", (), {"hf_hub_download": lambda *a, **k: asked.append((a, k)) or path})
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    markers = MarkerTable("hf://owner/tables/esm2.safetensors@v1")(channels("CD3"))
    assert len(markers.channels) == 1
    assert asked == [(("owner/tables", "esm2.safetensors"), {"revision": "v1"})]


def test_no_table_says_what_one_is():
    for call in (MarkerTable(None), MarkerTable(None).matches):
        said = refusal(WeightsError, lambda call=call: call(PANEL))
        assert "markers.table=" in said
        assert "esm2_t30_150M_UR50D" in said


def test_a_missing_or_empty_table_is_refused(tmp_path):
    missing = MarkerTable(str(tmp_path / "none.safetensors"))
    assert "none.safetensors" in refusal(WeightsNotFoundError, lambda: missing(PANEL))
    assert "<UniProt>.pt" in refusal(WeightsError, lambda: MarkerTable(str(tmp_path))(PANEL))


def test_one_vector_of_a_folder_is_no_table(folder):
    said = refusal(WeightsError, lambda: MarkerTable(str(folder / "P07766.pt"))(PANEL))
    assert "folder" in said


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        (torch.ones(WIDTH + 1), f"P07766 is {WIDTH + 1} wide and P01730 {WIDTH}"),
        (torch.ones(1, WIDTH), r"P07766 has shape \[1, 6\]"),
        (torch.ones(0), r"P07766 has shape \[0\]"),
        (torch.tensor([1, 2, 3, 4, 5, torch.nan]), "P07766 holds values that are not finite"),
    ],
)
def test_vectors_that_cannot_be_used_are_named(table, vector, says):
    path = table(tensors={"P07766": vector, "P01730": torch.ones(WIDTH)})
    assert re.search(says, refusal(WeightsError, lambda: MarkerTable(path)(PANEL[1:])))


@pytest.mark.parametrize("option", ["unmatched", "duplicates"])
def test_options_it_does_not_know_are_refused(option):
    said = refusal(ConfigError, lambda: MarkerTable("t.safetensors", **{option: "ignore"}))
    assert f"markers.{option}=ignore: choose from refuse" in said


def test_channels_without_a_vector_are_all_named(table):
    panel = (*PANEL, *channels("EMPTY", "EMPTY", "CD20"))
    path = table("P68431", "P07766", "P01730")
    said = refusal(SpecMismatchError, lambda: MarkerTable(path)(panel))
    assert "EMPTY ×2, CD20 (P11836 has no vector)." in said
    assert "markers.unmatched=drop" in said
    dropped = MarkerTable(path, unmatched="drop")(panel)
    assert dropped.channels == (0, 1, 2)
    assert len(dropped.vectors) == 3


def test_a_name_of_several_lines_is_told_in_one(table):
    said = refusal(SpecMismatchError, lambda: MarkerTable(table("P07766"))(channels("a\nb", "")))
    assert "a b, (no name)." in said


@pytest.mark.parametrize("panel", [(), channels("EMPTY", "autofluorescence")])
def test_a_panel_without_any_vector_is_refused_even_when_dropping(table, panel):
    said = refusal(SpecMismatchError, lambda: MarkerTable(table("P07766"), unmatched="drop")(panel))
    assert f"none of the panel's {len(panel)} channels" in said


def test_channels_of_one_protein_are_refused_kept_once_or_all_kept(table):
    panel = channels("DAPI_1", "CD3", "DAPI_2", "CD3e", "CD4")
    path = table("P68431", "P07766", "P01730")
    said = refusal(SpecMismatchError, lambda: MarkerTable(path)(panel))
    assert "DAPI_1, DAPI_2 = P68431; CD3, CD3e = P07766." in said
    assert "markers.duplicates=first or all" in said
    assert MarkerTable(path, duplicates="first")(panel).channels == (0, 1, 4)
    every = MarkerTable(path, duplicates="all")(panel)
    assert every.channels == (0, 1, 2, 3, 4)
    np.testing.assert_array_equal(every.vectors[0], every.vectors[2])


def test_a_channel_left_out_is_no_duplicate(table):
    panel = channels("CD3", "CD20", "CD20")
    assert MarkerTable(table("P07766"), unmatched="drop")(panel).channels == (0,)


def test_what_the_store_states_goes_before_the_name(table):
    path = table("P07766", "P01730")
    (match,) = MarkerTable(path).matches((Channel("CD3", "P01730"),))
    assert (match.uniprot, match.how, match.known, match.key) == (
        "P01730",
        "stated",
        True,
        "P01730",
    )


def test_matches_say_how_a_channel_is_known(table):
    panel = channels("CD3", "Hoechst", "EMPTY", "CD20")
    matches = MarkerTable(table("P07766", "P68431")).matches(panel)
    assert [m.how for m in matches] == [
        "alias of CD3E",
        "nuclear stain",
        "no such name",
        "alias of MS4A1",
    ]
    assert [m.known for m in matches] == [True, True, False, False]
    assert [m.uniprot for m in matches] == ["P07766", "P68431", None, "P11836"]


def test_an_isoform_is_kept_where_the_table_has_it_and_said_where_not(table):
    panel = (*channels("CD45RO"), Channel("CD45RA", "P08575-8"))
    kept = MarkerTable(table("P08575", "P08575-4", "P08575-8")).matches(panel)
    assert [m.key for m in kept] == ["P08575-4", "P08575-8"]
    fallen = MarkerTable(table("P08575")).matches(panel)
    assert [m.key for m in fallen] == ["P08575", "P08575"]
    assert [m.how for m in fallen] == [
        "alias of PTPRC, canonical P08575 for P08575-4",
        "stated, canonical P08575 for P08575-8",
    ]


def test_two_isoforms_that_fall_back_to_one_vector_are_duplicates(table):
    said = refusal(
        SpecMismatchError, lambda: MarkerTable(table("P08575"))(channels("CD45", "CD45RO"))
    )
    assert "CD45, CD45RO = P08575" in said


@pytest.fixture
def real_table(shared_data):
    return str(shared_data / "marker_embeddings" / "esm2_t30_150M_UR50D.safetensors")


@pytest.mark.real
def test_the_orion_panel_with_its_nuclear_stain_has_all_its_vectors(real_table):
    panel = channels(*ORION.split(","), "DAPI")
    markers = MarkerTable(real_table)(panel)
    assert markers.channels == tuple(range(17))
    assert markers.vectors.shape == (17, 640)
    assert MarkerTable(real_table).matches(panel)[6].key == "P08575-4"


@pytest.mark.real
def test_a_panel_of_repeated_and_empty_names_is_refused_in_one_line(shared_data, real_table):
    listed = (shared_data / "mx_nomask" / "codex_ramces_28ch.markers.txt").read_text()
    panel = channels(*listed.split("\n")[:28])
    said = refusal(SpecMismatchError, lambda: MarkerTable(real_table)(panel))
    assert "EMPTY ×3." in said
    said = refusal(SpecMismatchError, lambda: MarkerTable(real_table, unmatched="drop")(panel))
    assert "DAPI ×7, HistoneH3 = P68431." in said
    kept = MarkerTable(real_table, unmatched="drop", duplicates="first")(panel)
    assert len(kept.channels) == 18
