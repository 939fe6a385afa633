"""A study whose parts contradict each other, and options that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import SIZE, Study, study_refusal, write_csv

from tissueseg.errors import TissueDataError, TissuesegError
from tissueseg.store.sources.study import StudySource


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "data")


def pickled_sp(study: Study) -> None:
    path = study.path / "cycif/images_resized/a.npy"
    np.save(path, np.full((3, *SIZE), "x", object), allow_pickle=True)


def last_axis(study: Study) -> None:
    study.array("cycif/images_resized", "a", np.moveaxis(study.sp["a"], 0, -1))


def missing_file(study: Study) -> None:
    (study.path / "he/images_resized/b.png").unlink()


def foreground(study: Study) -> None:
    study.array("cell_masks/segmentation", "a", (study.instances > 0).astype(np.uint8))


def tissue_twice(study: Study) -> None:
    study.annotate({"tissue_id": ["a", "b", "a"]})


def escaping_tissue(study: Study) -> None:
    study.annotate({"tissue_id": ["a", "../b", "c"]})


def absolute_tissue(study: Study) -> None:
    study.annotate({"tissue_id": ["a", "/b", "c"]})


def strange_flag(study: Study) -> None:
    study.annotate({"cycif": [1, 2, 0]})


def no_tissue(study: Study) -> None:
    study.annotate({"cycif": [0, 0, 0]})


def ragged(study: Study) -> None:
    path = study.path / "tissue_annotations.csv"
    path.write_text(path.read_text() + "d,1\n")


def swapped_genes(study: Study) -> None:
    study.genes({"name": ["CD3", "DAPI", "CD8"], "protein_id": ["", "", ""]})


def strange_genes(study: Study) -> None:
    study.genes({"name": ["CD4"], "protein_id": [""]})


def channel_twice(study: Study) -> None:
    write_csv(study.path / "cycif/channels.csv", {"channel_name": ["CD3", "CD3", "CD8"]})


def fewer_channels(study: Study) -> None:
    write_csv(study.path / "cycif/channels.csv", {"channel_name": ["DAPI", "CD3"]})
    study.genes({"name": [], "protein_id": []})


def no_column(study: Study) -> None:
    write_csv(study.path / "cycif/channels.csv", {"channel": ["DAPI"]})


def no_encoder(study: Study) -> None:
    study.encoder.unlink()


REFUSALS: dict[Callable[[Study], None], str] = {
    pickled_sp: "a.npy cannot be read",
    last_axis: "has shape (40, 48, 3), but channels.csv names 3",
    missing_file: "b.png is missing",
    foreground: "looks like a foreground mask",
    tissue_twice: "tissue_annotations.csv line 4: tissue_id 'a' is given twice",
    escaping_tissue: "tissue_annotations.csv line 3: '../b' is no plain tissue id",
    absolute_tissue: "tissue_annotations.csv line 3: '/b' is a path",
    strange_flag: "tissue_annotations.csv line 3: cycif is '2', wanted 1 or 0",
    no_tissue: "has no tissue with he and cycif",
    ragged: "tissue_annotations.csv line 5 has 2 values, but 6 columns",
    swapped_genes: "gene_dict_orion.csv line 2: channel 0 is 'CD3', but channels.csv has 'DAPI'",
    strange_genes: "['CD4'] are not among its channels",
    channel_twice: "channels.csv gives the names ['CD3'] more than once",
    fewer_channels: "has shape (3, 40, 48), but channels.csv names 2",
    no_column: "channels.csv has no column channel_name; it has channel",
    no_encoder: "labelencoder_broad_cell_type.npy is missing",
}


@pytest.mark.parametrize(
    ("change", "said"), REFUSALS.items(), ids=lambda c: getattr(c, "__name__", "")
)
def test_data_that_contradict_each_other_are_refused(
    change: Callable[[Study], None], said: str, study: Study
) -> None:
    change(study)
    assert said in study_refusal(study)


OPTIONS: dict[str, tuple[Mapping[str, Any], str]] = {
    "mpp": ({"mpp": 500}, "source.mpp=500, wanted µm per pixel"),
    "modalities": ({"modalities": ["sp"]}, "choose he and cycif, or one"),
    "untyped": ({"untyped": "drop"}, "choose error or ignore"),
    "name": (
        {"name": "other"},
        "gene_dict_other.csv is missing; there are ['gene_dict_orion.csv']",
    ),
    "escaping name": ({"name": "/../x"}, "no plain tissue id"),
    "no background": ({"classes": ["tumor", "immune"]}, "must begin with background"),
}


@pytest.mark.parametrize(("options", "said"), OPTIONS.values(), ids=OPTIONS)
def test_options_are_checked(options: Mapping[str, Any], said: str, study: Study) -> None:
    assert said in study_refusal(study, **options)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TissuesegError, match="is not a folder"):
        StudySource(tmp_path / "none", mpp=0.5)
    with pytest.raises(TissueDataError, match=r"tissue_annotations\.csv is missing"):
        StudySource(tmp_path, mpp=0.5)
