"""A dataset in the spora layout as a source: its tissues, its tables, what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from layouts import CHANNELS, SIZE, Spora, spora_refusal, write_parquet

from tissueseg.contracts import IGNORE, Channel
from tissueseg.errors import TissueDataError
from tissueseg.store.notices import gather
from tissueseg.store.planes import Window, whole
from tissueseg.store.sources.spora import SporaSource
from tissueseg.store.sources.spora_tables import STATISTICS

WINDOW = Window(5, 3, 30, 40)
CLASSES = ["background", {"name": "tumor"}, {"name": "immune", "types": ["CD4"]}]


@pytest.fixture
def spora(tmp_path: Path) -> Spora:
    return Spora(tmp_path / "data")


def test_pixels_of_the_channels_kept_come_out_window_by_window(spora: Spora) -> None:
    source = SporaSource(spora.path, he=True, classes=CLASSES)
    assert source.tissues == ("a", "b")
    assert source.images == ("he", "sp")
    for tissue in source.tissues:
        opened = source.open(tissue)
        assert (opened.shape, opened.images) == (SIZE, ("he", "sp"))
        planes = opened.read(WINDOW)
        assert planes.he is not None
        assert planes.sp is not None
        part = np.s_[..., 5:35, 3:43]
        np.testing.assert_array_equal(planes.he, spora.he[tissue][part], strict=True)
        np.testing.assert_array_equal(planes.sp, spora.sp[tissue][:2][part], strict=True)
        np.testing.assert_array_equal(planes.instances, spora.instances[part])
        expected = np.where(spora.instances % 2, 1, 2) * (spora.instances > 0)
        np.testing.assert_array_equal(planes.classes, expected[part])


def test_patients_splits_scale_and_files(spora: Spora) -> None:
    source = SporaSource(spora.path, he=True)
    assert [(source.open(t).patient, source.open(t).split) for t in "ab"] == [
        ("p", "train"),
        ("q", "test"),
    ]
    assert source.scale("a") == 1.0
    assert list(source.files("a")) == [
        "imc/1_0mpp/images/a.ome.zarr",
        "he/1_0mpp/images/a.ome.zarr",
        "segmentations/1_0mpp/cell_masks/instances/a.npz",
        "metadata/tissues.parquet",
        "metadata/cells.parquet",
        "imc/channels.parquet",
        "imc/channels_per_tissue.parquet",
        *(f"imc/1_0mpp/standardization/{name}" for name in STATISTICS),
    ]
    assert all(path.exists() for path in source.files("b").values())


def test_channels_that_failed_or_are_missing_somewhere_are_left_out(spora: Spora) -> None:
    source = SporaSource(spora.path)
    assert source.panel == (Channel("DNA1", None, True), Channel("CD3", "P07766"))
    said = " | ".join(source.notices)
    assert "did not pass quality control, left out: EMPTY" in said
    assert "not measured in every tissue, left out: CD8" in said
    assert "histone H3" not in said
    assert [c.name for c in SporaSource(spora.path, channels="all").panel] == [
        "DNA1",
        "CD3",
        "EMPTY",
    ]
    sp = SporaSource(spora.path, channels="all").open("b").read(WINDOW).sp
    np.testing.assert_array_equal(sp, spora.sp["b"][[0, 1, 3], 5:35, 3:43])


def test_all_channels_of_an_image_are_read_where_all_were_measured(spora: Spora) -> None:
    source = SporaSource(spora.path, tissues=["a"])
    assert [c.name for c in source.panel] == ["DNA1", "CD3", "CD8"]
    assert source.panel[2].uniprot is None
    assert "no UniProt accession, left out: CD8 (CD8A_HUMAN)" in source.notices
    given = SporaSource(spora.path, tissues=["a"], uniprot={"CD8": "P01732"})
    assert given.panel[2].uniprot == "P01732"
    assert "is no UniProt accession" in spora_refusal(spora, uniprot={"CD8": "x"})
    assert "source.uniprot has ['CD9']" in spora_refusal(spora, uniprot={"CD9": "P01732"})


def test_published_clips_and_moments_are_reused(spora: Spora) -> None:
    spora.statistics(image_level_upper_quantiles={"CD3": [0.0, float("nan")]})
    source = SporaSource(spora.path)
    assert source.moments == {"0.99": {"mean": [1.0, 2.0], "std": [0.5, 1.5]}}
    assert source.open("a").clips == {"0.99": [10.0, 0.0]}
    assert np.isnan(source.open("b").clips["0.99"][1])
    assert any("published ones" in notice for notice in source.notices)
    plain = SporaSource(spora.path, standardization=False)
    assert plain.moments == plain.open("a").clips == {}


def test_incomplete_or_other_standardisation_is_not_reused(spora: Spora) -> None:
    folder = spora.folder_of_statistics
    lower = folder / "image_level_lower_quantiles.parquet"
    shutil.copy(folder / "image_level_upper_quantiles.parquet", lower)
    assert SporaSource(spora.path).moments == {}
    lower.unlink()
    (folder / "global_level_stds.parquet").unlink()
    source = SporaSource(spora.path)
    assert source.moments == source.open("a").clips == {}
    assert any("global_level_stds.parquet is missing" in notice for notice in source.notices)


def test_moments_that_are_no_numbers_are_refused(spora: Spora) -> None:
    spora.statistics(global_level_means={"CD3": [float("nan")]})
    message = spora_refusal(spora)
    assert "global_level_means.parquet holds no number for CD3" in message
    spora.statistics(global_level_means={"EMPTY": [float("nan")]})  # not kept
    assert SporaSource(spora.path).moments
    spora.statistics(image_level_upper_quantiles={"tissue_id": ["a", "c"]})
    assert "no row for tissue b" in spora_refusal(spora)


def test_types_that_occur_become_classes(spora: Spora) -> None:
    source = SporaSource(spora.path)
    assert [c.name for c in source.classes] == ["background", "CD4", "tumor"]
    assert "classes are the types that occur: CD4, tumor" in source.notices
    classes = source.open("a").read(whole(SIZE)).classes
    expected = np.where(spora.instances % 2, 2, 1) * (spora.instances > 0)
    np.testing.assert_array_equal(classes, expected)


def test_types_no_class_takes_are_refused(spora: Spora) -> None:
    message = spora_refusal(spora, classes=["background", "Tumor", "CD4"])
    assert "'tumor' (did you mean Tumor?)" in message
    assert "has no column cell_typ; it has tissue_id" in spora_refusal(
        spora, types_column="cell_typ"
    )
    assert "source.unknown_types holds ['CD4']" in spora_refusal(
        spora, classes=CLASSES, unknown_types=["CD4"]
    )


def test_without_types_all_cells_are_of_one_class(spora: Spora) -> None:
    source = SporaSource(spora.path, types_column=None)
    assert [c.name for c in source.classes] == ["background", "cell"]
    np.testing.assert_array_equal(source.open("a").read(whole(SIZE)).classes, spora.instances > 0)
    (spora.path / "metadata/cells.parquet").unlink()
    assert "no cells.parquet: all cells are of one class" in SporaSource(spora.path).notices


def test_cells_without_type_are_refused_or_declared(spora: Spora) -> None:
    message = spora_refusal(spora, unknown_types=["CD4"], classes=["background", "tumor"])
    assert "tissue a: " in message
    assert "15 instances without class, such as [2, 4, 6, 8, 10]" in message
    source = SporaSource(spora.path, unknown_types=["CD4"], untyped="ignore")
    assert [c.name for c in source.classes] == ["background", "tumor"]
    tissue = source.open("a")
    classes = tissue.read(whole(SIZE)).classes
    assert (classes[spora.instances == 2] == IGNORE).all()
    assert (classes[spora.instances == 1] == 1).all()
    assert gather({"a": tissue.notices}) == (
        "15 instances without class take class 255 (tissue a)",
    )


def test_rows_without_a_cell_are_counted(spora: Spora) -> None:
    ids = np.unique(spora.instances)[1:].tolist()
    spora.cells(["a"] * 32 + ["z"], [*ids, 900, 901, 1], ["CD4"] * 33)
    tissue = SporaSource(spora.path, tissues=["a"]).open("a")
    assert tissue.notices == {"{n} rows of types without an instance": 2}


def test_a_cell_given_twice_and_ids_that_are_no_numbers_are_refused(spora: Spora) -> None:
    spora.cells(["a", "a", "b"], [1, 1, 1], ["CD4"] * 3)
    assert "gives 1 cells twice, such as cell_id 1" in spora_refusal(spora)
    spora.cells(["a", "a"], ["1", "x"], ["CD4"] * 2)
    assert "cells.parquet row 2: cell_id is 'x', wanted a number" in spora_refusal(spora)


def test_a_tissue_may_be_the_index_of_a_table(spora: Spora) -> None:
    measured = {name: [True, name != "CD8"] for name in CHANNELS}
    index = {"__index_level_0__": ["a", "b"]}
    write_parquet(spora.path / "imc/channels_per_tissue.parquet", measured | index)
    assert len(SporaSource(spora.path).panel) == 2


def test_tables_may_be_missing(spora: Spora) -> None:
    (spora.path / "metadata/tissues.parquet").unlink()
    shutil.rmtree(spora.folder_of_statistics)
    (spora.path / "imc/channels_per_tissue.parquet").unlink()
    source = SporaSource(spora.path, tissues=["a"])
    assert source.open("a").patient is None
    assert "no tissues.parquet: every tissue is its own patient" in source.notices
    assert source.moments == {}
    assert len(source.panel) == 3


def test_tissues_without_image_are_left_out_and_said(spora: Spora) -> None:
    shutil.rmtree(spora.image_path("b"))
    source = SporaSource(spora.path)
    assert source.tissues == ("a",)
    assert "of tissues.parquet without image, left out: tissue b" in source.notices


def test_chunks_that_are_missing_are_refused_when_all_and_counted_when_some(spora: Spora) -> None:
    chunks = spora.image_path("a") / "0" / "c"
    (chunks / "0/0/1").unlink()
    tissue = SporaSource(spora.path).open("a")
    assert tissue.notices["{n} chunks of the SP image are not there and read 0"] == 1
    shutil.rmtree(chunks)
    message = spora_refusal(spora)
    assert "a.ome.zarr has no pixels: all 4 chunks of its level 0 are missing" in message


def test_a_damaged_chunk_is_refused_with_its_place(spora: Spora) -> None:
    (spora.image_path("a") / "0/c/0/0/0").write_bytes(b"damaged" * 50)
    assert "a.ome.zarr cannot be read at row 0, column 0" in spora_refusal(spora)


def test_he_must_be_rgb_of_the_same_size(spora: Spora) -> None:
    path = spora.path / "he/1_0mpp/images/a.ome.zarr"
    shutil.rmtree(path)
    assert "he/1_0mpp/images/a.ome.zarr is missing" in spora_refusal(spora, he=True)
    spora.image("../../../he/1_0mpp/images/a", spora.he["a"][:, :, 1:])
    assert "the H&E image is 40 × 47 px, but the SP image is 40 × 48" in spora_refusal(
        spora, he=True
    )
    shutil.rmtree(path)
    spora.image("../../../he/1_0mpp/images/a", spora.he["a"].astype(np.float32))
    message = spora_refusal(spora, he=True)
    assert "he/1_0mpp/images/a.ome.zarr: H&E has float32 pixels, wanted 8-bit RGB" in message
    shutil.rmtree(path)
    spora.image("../../../he/1_0mpp/images/a", np.moveaxis(spora.he["a"], 0, -1), axes="yxc")
    he = SporaSource(spora.path, he=True).open("a").read(WINDOW).he
    np.testing.assert_array_equal(he, spora.he["a"][:, 5:35, 3:43])


def test_alpha_of_he_is_dropped_and_said(spora: Spora) -> None:
    path = spora.path / "he/1_0mpp/images/a.ome.zarr"
    shutil.rmtree(path)
    opaque = np.concatenate([spora.he["a"], np.full((1, *SIZE), 255, np.uint8)])
    spora.image("../../../he/1_0mpp/images/a", opaque)
    tissue = SporaSource(spora.path, he=True).open("a")
    np.testing.assert_array_equal(tissue.read(WINDOW).he, spora.he["a"][:, 5:35, 3:43], strict=True)
    assert tissue.notices == {"alpha channel of H&E dropped": 1}


def test_a_scale_in_nanometres_is_understood_and_none_is_said(spora: Spora) -> None:
    spora.image("a", spora.sp["a"], scale=1010.0, unit="nanometer")
    source = SporaSource(spora.path)
    assert not source.open("a").notices
    spora.image("a", spora.sp["a"], unit=None)
    (notice,) = source.open("a").notices
    assert "does not state its µm/px, mpp=1 is used" in notice


def test_doubles_become_floats_and_that_is_said(spora: Spora) -> None:
    shutil.rmtree(spora.image_path("a"))
    spora.image("a", spora.sp["a"].astype(np.float64))
    tissue = SporaSource(spora.path).open("a")
    sp = tissue.read(WINDOW).sp
    assert sp is not None
    assert sp.dtype == np.float32
    assert tissue.notices == {"SP intensities converted from float64 to float32": 1}


@pytest.mark.real
def test_the_published_example_is_read_but_its_missing_pixels_are_not(shared_data: Path) -> None:
    source = SporaSource(shared_data / "spora_layout_nopixels", types_column="cell_category")
    assert len(source.panel) == 43
    assert sum(channel.nuclear for channel in source.panel) == 3
    assert [c.name for c in source.classes[1:]] == sorted(
        ["Tumor", "Fibroblast", "Immune", "Other", "T cell", "Vessel"]
    )
    (tissue,) = source.tissues
    assert source._types is not None
    assert len(source._types.classes(tissue, source._type_ids)) == 2185
    with pytest.raises(TissueDataError, match=r"has no pixels: its array 0 is missing"):
        source.open(tissue)
