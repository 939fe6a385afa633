"""A student study's layout as a source: its tissues, its classes, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layouts import SIZE, Study, study_refusal

from tissueseg.contracts import IGNORE, Channel
from tissueseg.store.notices import gather
from tissueseg.store.planes import Window, whole
from tissueseg.store.sources.study import StudySource

WINDOW = Window(5, 3, 30, 40)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "data")


def test_pixels_and_masks_come_out_window_by_window(study: Study) -> None:
    source = StudySource(study.path, mpp=0.5)
    assert source.images == ("he", "sp")
    for tissue in source.tissues:
        opened = source.open(tissue)
        assert (opened.shape, opened.images) == (SIZE, ("he", "sp"))
        planes = opened.read(WINDOW)
        assert planes.he is not None
        assert planes.sp is not None
        part = np.s_[..., 5:35, 3:43]
        np.testing.assert_array_equal(planes.he, study.he[tissue][part], strict=True)
        np.testing.assert_array_equal(planes.sp, study.sp[tissue][part], strict=True)
        np.testing.assert_array_equal(planes.instances, study.instances[part])
        np.testing.assert_array_equal(planes.classes, study.classes[part])
        assert not isinstance(planes.sp, np.memmap)


def test_classes_panel_patients_splits_scale_and_files(study: Study) -> None:
    source = StudySource(study.path, mpp=0.5)
    assert [c.name for c in source.classes] == ["background", "tumor", "immune"]
    assert source.panel == (
        Channel("DAPI", "P68431", True),
        Channel("CD3", "P07766"),
        Channel("CD8"),
    )
    assert [(source.open(t).patient, source.open(t).split) for t in "ab"] == [
        ("p", "train"),
        ("q", None),
    ]
    assert source.scale("a") == 0.5
    assert StudySource(study.path, mpp="unknown").scale("a") is None
    assert list(source.files("a")) == [
        "he/images_resized/a.png",
        "cycif/images_resized/a.npy",
        "cell_masks/segmentation/a.npy",
        "cell_masks/broad_cell_type/a.npy",
        "tissue_annotations.csv",
        "cycif/channels.csv",
        "cycif/gene_dict_orion.csv",
        "cell_masks/labelencoder_broad_cell_type.npy",
    ]
    assert all(path.is_file() for path in source.files("b").values())


def test_tissues_without_a_wanted_modality_are_left_out_and_said(study: Study) -> None:
    source = StudySource(study.path, mpp=0.5)
    assert source.tissues == ("a", "b")
    assert "without cycif, left out: tissue c" in source.notices
    assert "no UniProt accession, left out: CD8 (CD8A)" in source.notices
    he = StudySource(study.path, mpp=0.5, modalities=["he"])
    assert (he.tissues, he.images, he.panel) == (("a", "b", "c"), ("he",), ())
    assert he.open("c").read(WINDOW).sp is None
    sp = StudySource(study.path, mpp=0.5, modalities=["cycif"])
    assert (sp.tissues, sp.images) == (("a", "b"), ("sp",))
    study.annotate({"patient_id": ["", "q", "q"]})
    assert (
        "no patient_id, each is its own patient: tissue a"
        in StudySource(study.path, mpp=0.5).notices
    )


def test_class_names_without_background_shift_by_one_if_the_masks_say_so(study: Study) -> None:
    study.encode(np.array(["tumor", "immune"], object))
    source = StudySource(study.path, mpp=0.5)
    assert [c.name for c in source.classes] == ["background", "tumor", "immune"]
    assert "class 1 is its first name, 'tumor'" in source.notices[-1]
    np.testing.assert_array_equal(source.open("a").read(whole(SIZE)).classes, study.classes)


@pytest.mark.parametrize("names", [["tumor"], ["tumor", "immune", "stroma"]])
def test_class_names_that_could_be_shifted_or_not_are_refused(
    names: list[str], study: Study
) -> None:
    study.encode(np.array(names, object))
    message = study_refusal(study)
    assert f"but the highest id in the masks is 2, not {len(names)}" in message
    assert "source.classes=[background, …]" in message
    given = StudySource(study.path, mpp=0.5, classes=["background", "tumor", "immune"])
    assert [c.name for c in given.classes] == ["background", "tumor", "immune"]
    np.testing.assert_array_equal(given.open("a").read(whole(SIZE)).classes, study.classes)


def test_class_ids_without_name_are_refused(study: Study) -> None:
    study.encode(np.array(["Unlabeled", "tumor"], object))
    assert "holds class ids [2], but there are 2 classes, 0 … 1" in study_refusal(study)


def test_other_words_for_background_are_said(study: Study) -> None:
    study.encode(np.array(["bg", "tumor", "immune"]))
    source = StudySource(study.path, mpp=0.5)
    assert source.classes[0].name == "background"
    assert "class 'bg' is taken for background" in source.notices


def test_an_instance_of_several_classes_takes_the_most_frequent(study: Study) -> None:
    study.classes[0, 0] = 1  # instance 1 is of class 2
    study.classes[7, 7] = 1  # outside of instances
    study.array("cell_masks/broad_cell_type", "a", study.classes)
    tissue = StudySource(study.path, mpp=0.5).open("a")
    classes = tissue.read(whole(SIZE)).classes
    assert (classes[study.instances == 1] == 2).all()
    assert gather({"a": tissue.notices}) == (
        "1 instances of several classes took the most frequent one (tissue a)",
        "1 pixels keep their class outside instances (tissue a)",
    )


def test_instances_without_class_are_refused_or_declared(study: Study) -> None:
    study.classes[study.instances == 3] = 0
    study.array("cell_masks/broad_cell_type", "a", study.classes)
    message = study_refusal(study)
    assert "tissue a: " in message
    assert "1 instances without class, such as [3]" in message
    assert "source.untyped=ignore" in message
    tissue = StudySource(study.path, mpp=0.5, untyped="ignore").open("a")
    assert (tissue.read(whole(SIZE)).classes[study.instances == 3] == IGNORE).all()
    assert tissue.notices == {"{n} instances without class take class 255": 1}


def test_masks_of_another_size_are_refused_or_stretched(study: Study) -> None:
    for folder in ("segmentation", "broad_cell_type"):
        full = study.instances if folder == "segmentation" else study.classes
        for tissue in "ab":
            study.array(f"cell_masks/{folder}", tissue, full[::2, ::2])
    message = study_refusal(study)
    assert "is 20 × 24 px, but the image is 40 × 48 (height × width), 1 : 2.00: export" in message
    assert "Or set source.resize_masks=true to stretch it." in message
    tissue = StudySource(study.path, mpp=0.5, resize_masks=True).open("a")
    planes = tissue.read(whole(SIZE))
    twice = study.instances[::2, ::2].repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(planes.instances, twice)
    stretched = "masks stretched (nearest pixel) from 20 × 24 to 40 × 48 px"
    assert tissue.notices == {stretched: 2}
    study.array("cell_masks/segmentation", "a", study.instances.T)
    message = study_refusal(study, resize_masks=True)
    assert "is 48 × 40 px, but the image is 40 × 48 (height × width): its sides are" in message
    assert "resize_masks" not in message


def test_he_and_sp_that_differ_by_a_pixel_are_refused(study: Study) -> None:
    study.picture("a", study.he["a"][:, :39])
    message = study_refusal(study)
    assert "the SP image is 40 × 48 px, but the H&E image is 39 × 48" in message
    assert "crop or pad them to one frame" in message


def test_other_numbers_become_floats_and_that_is_said(study: Study) -> None:
    study.array("cycif/images_resized", "a", study.sp["a"].astype(">i4"))
    tissue = StudySource(study.path, mpp=0.5).open("a")
    sp = tissue.read(WINDOW).sp
    assert sp is not None
    assert sp.dtype == np.float32
    np.testing.assert_array_equal(sp, study.sp["a"][:, 5:35, 3:43])
    assert list(tissue.notices) == ["SP intensities converted from >i4 to float32"]


def test_proteins_go_by_name_where_the_table_is_shorter(study: Study) -> None:
    study.genes({"name": ["CD8", "CD3"], "protein_id": ["P01732", "P07766"]})
    source = StudySource(study.path, mpp=0.5)
    assert [c.uniprot for c in source.panel] == ["P68431", "P07766", "P01732"]
    assert "channels without a row in gene_dict_orion.csv: DAPI" in source.notices
    assert StudySource(study.path, mpp=0.5, name=None).panel[1].uniprot is None


def test_proteins_go_by_position_where_names_differ(study: Study) -> None:
    study.genes({"name": ["DAPI", "CD3e", "CD8"], "protein_id": ["", "P07766", ""]})
    source = StudySource(study.path, mpp=0.5)
    assert source.panel[1] == Channel("CD3", "P07766")
    assert "channel CD3 is called CD3e in gene_dict_orion.csv" in source.notices
