"""Finished runs to a report: what is ranked, against what, and what is cautioned about."""

from __future__ import annotations

from pathlib import Path

import pytest
from study_made import CLASSES, write_study

from tissueseg.errors import ConfigError
from tissueseg.reporting.records.run_record import read_runs
from tissueseg.reporting.study.compare import METRIC, Wanted, compare
from tissueseg.reporting.study.report import StudyReport

ARMS = {"baseline": 0.0, "better": 0.15, "same": 0.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("study")
    write_study(root, ARMS, folds=(1, 2), seeds=(0, 1, 2, 3), tissues=4, cells=True)
    return root


def report(*folders: Path, **wanted: object) -> StudyReport:
    return compare(*read_runs(folders), Wanted(**wanted), "report")  # pyright: ignore[reportArgumentType]


def test_the_effect_that_was_made_is_found_and_no_other(study: Path) -> None:
    found = report(study)
    assert found.ranking.measure.key == METRIC
    assert found.conclusion.startswith("better is best")
    against = {c.arm: c for c in found.ranking.against_baseline}
    assert against["better"].p_holm < 0.05 < against["same"].p_holm
    low, high = against["better"].difference.low, against["better"].difference.high
    assert low < 0.15 < high


def test_the_studys_baseline_is_its_first_arm_unless_told(study: Path) -> None:
    assert report(study).ranking.baseline == "baseline"
    assert report(study, baseline="same").ranking.baseline == "same"
    with pytest.raises(ConfigError, match="nothing"):
        report(study, baseline="nothing")


def test_arms_can_be_chosen(study: Path) -> None:
    found = report(study, arms=["same", "better"])
    assert {a.arm for a in found.ranking.arms} == {"same", "better"}
    with pytest.raises(ConfigError, match=r"arms=x: no run is of it; choose from baseline"):
        report(study, arms=["x"])


def test_every_class_has_every_arm_in_the_rankings_order(study: Path) -> None:
    found = report(study)
    assert list(found.by_class) == [c["name"] if isinstance(c, dict) else c for c in CLASSES]
    order = [a.arm for a in found.ranking.arms]
    assert all([r.arm for r in results] == order for results in found.by_class.values())


def test_cells_rank_too(study: Path) -> None:
    found = report(study, metric="test/bpq_image")
    assert found.ranking.arms[0].arm == "better"
    assert found.by_class  # of pixels, on the same side


def test_the_side_that_chose_the_epoch_is_cautioned_about(study: Path) -> None:
    said = report(study, metric="val/dice/macro_foreground").notes
    assert any("val chose the epoch" in note for note in said)
    assert not any("val chose the epoch" in note for note in report(study).notes)


def test_the_protocol_says_what_is_ranked_by(tmp_path: Path) -> None:
    config = {"protocol": {"name": "demo", "metric": "test/iou/macro"}}
    write_study(tmp_path, {"a": 0.0, "b": 0.1}, config=config)
    found = report(tmp_path)
    assert found.ranking.measure.key == "test/iou/macro"
    assert found.title == "decoders, protocol demo"
    assert report(tmp_path, title="mine").title == "mine"


def test_two_studies_stand_in_one_report(study: Path, tmp_path: Path) -> None:
    write_study(tmp_path, {"a": 0.0}, study="gating", folds=(1, 2), seeds=(0, 1), tissues=4)
    found = report(study, tmp_path)
    assert {"decoders/baseline", "gating/a"} <= {a.arm for a in found.ranking.arms}
