"""Cautions that a reader of a comparison needs, and none where all was the same."""

from dataclasses import replace

import pytest
from study_made import write_study

from tissueseg.errors import ConfigError
from tissueseg.reporting.records.comparable import check_comparable, random_parts
from tissueseg.reporting.records.run_record import read_runs

TRAINED = {"name": "virtues", "random_init": False, "parts": []}


@pytest.fixture
def records(tmp_path):
    """Two arms, one fold, two seeds, an encoder that has learnt."""
    root = write_study(tmp_path / "s", {"a": 0, "b": 0}, folds=[1], seeds=[0, 1])
    return [said(record, encoder=TRAINED) for record in read_runs([root])[0]]


def said(record, **environment):
    return replace(record, environment={**record.environment, **environment})


def test_nothing_is_said_of_runs_that_are_alike(records):
    assert check_comparable(records) == []


@pytest.mark.parametrize(
    ("environment", "note"),
    [
        ({"commit": "f00"}, "Runs are of different commits: 0123456789ab (3 runs), f00 (1 run)."),
        (
            {"commit": None},
            "Runs are of different commits: 0123456789ab (3 runs), unknown (1 run).",
        ),
        (
            {"packages": {"torch": "2.0", "numpy": "2.4.6"}},
            "Runs are of different torch versions: 2.13.0 (3 runs), 2.0 (1 run).",
        ),
        (
            {"tissueseg": "0.2.0"},
            "Runs are of different tissueseg versions: 0.1.0 (3 runs), 0.2.0 (1 run).",
        ),
        (
            {"machine": {"gpus": ["H100", "H100"]}},
            "Runs are of different machines, so their costs differ for that too: 2 CPU cores (3 runs), "
            "2 × H100 (1 run).",
        ),
    ],
)
def test_what_differs_is_said_with_its_number_of_runs(records, environment, note):
    assert check_comparable([*records[:3], said(records[3], **environment)]) == [note]


def test_changed_code_is_said(records):
    changed = [said(record, commit="f00-dirty") for record in records]
    assert check_comparable(changed) == ["4 of 4 runs had code that is in no commit (-dirty)."]


def test_a_tissue_that_was_changed_is_an_error(records):
    digests = {**records[3].environment["digests"], "tissue_003": "another"}
    with pytest.raises(ConfigError, match=r"tissue tissue_003 was not the same in a/.* and b/"):
        check_comparable([*records[:3], said(records[3], digests=digests)])


def test_stores_are_compared_by_name_where_digests_are_not_known(records):
    moved = said(records[3], store="/other/place/demo-0123.zarr", digests={})
    assert check_comparable([*records[:3], moved]) == []
    other = said(records[3], store="/other/orion.zarr", digests={})
    assert check_comparable([*records[:3], other]) == [
        "Runs are of different stores: demo-0123.zarr (3 runs), orion.zarr (1 run)."
    ]
    assert check_comparable([*records[:3], said(records[3], store="/other/orion.zarr")]) == []


def test_arms_that_had_more_than_others_are_said(records):
    longer = [replace(r, config={**r.config, "epochs": 9}) for r in records[2:]]
    assert check_comparable([*records[:2], longer[0]]) == [
        "Arms differ in their number of epochs: a 4, b 9.",
        "Arms differ in their number of trainings: a 2, b 1.",
    ]


def test_decoders_that_were_not_trained_are_said(records):
    untrained = replace(records[3], metrics={**records[3].metrics, "epoch": -1})
    assert check_comparable([*records[:3], untrained]) == [
        "b/fold_1-seed_1 kept the decoder as it was loaded: none of its epochs."
    ]


def test_features_that_were_not_the_same_are_said(records):
    stored = {"features": "stored in /one/place/features.zarr", "embeddings": "e1" * 32}
    assert check_comparable([*records[:3], said(records[3], **stored)]) == [
        "Runs are of different sources of features: encoded online (3 runs), stored (1 run)."
    ]
    moved = stored | {"features": "stored in /other/place/features.zarr"}
    alike = [said(r, **(stored if r.seed else moved)) for r in records]
    assert check_comparable(alike) == []
    other = [said(r, embeddings="f2" * 32) if r.arm == "b" else r for r in alike]
    assert check_comparable(other) == [
        "Arms had other stores of features of encoder virtues: a e1e1e1e1e1e1; b f2f2f2f2f2f2."
    ]
    of_another = [said(r, encoder=TRAINED | {"name": "tiny"}) if r.arm == "b" else r for r in other]
    assert check_comparable(of_another) == []


def test_parts_of_encoders_that_have_learnt_nothing_are_told(records):
    pair = {
        "name": "pair",
        "random_init": True,
        "parts": [
            {"name": "cellvit", "random_init": False},
            {"name": "virtues", "random_init": True},
        ],
    }
    assert random_parts(said(records[0], encoder=pair)) == ["virtues"]
    assert random_parts(said(records[0], encoder=pair["parts"][1])) == ["virtues"]
    assert random_parts(said(records[0], encoder=TRAINED)) == []
