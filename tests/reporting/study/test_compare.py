"""Finished runs to a report: what is ranked, against what, and what is cautioned about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study_made import CLASSES, made_confusion, write_run, write_study

from tissueseg.errors import ConfigError, RunFolderError
from tissueseg.reporting.records.run_record import Unfinished, read_runs
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

    with pytest.raises(ConfigError, match=r"arms=\[\]: wanted one arm at least of baseline"):
        report(study, arms=[])


def test_the_level_of_the_tests_is_that_which_was_wanted(study: Path) -> None:
    strict = report(study, alpha=1e-6).ranking
    assert strict.alpha == 1e-6
    assert len(strict.groups) == 1


def test_choices_other_than_the_studys_are_said(study: Path, tmp_path: Path) -> None:
    assert report(study).notes == ()
    assert report(study, arms=["same", "better"], baseline="same").notes == (
        "2 of 3 arms are shown: better, same.",
        "Baseline same, not the study's baseline.",
    )
    config = {"protocol": {"name": "demo", "metric": "test/iou/macro"}}
    write_study(tmp_path, {"a": 0.0, "b": 0.1}, config=config)
    assert report(tmp_path, metric="test/dice/macro").notes == (
        "Ranked by test/dice/macro, not by the protocol's test/iou/macro.",
    )


def test_runs_of_which_none_has_finished_are_named(tmp_path: Path) -> None:
    unfinished = [Unfinished(f"study/arm/{n}", "failed: CUDA out of memory") for n in range(5)]
    with pytest.raises(RunFolderError) as found:
        compare([], unfinished, Wanted(), "report")
    assert "none has finished" in str(found.value)
    assert "study/arm/0: failed: CUDA out of memory; " in str(found.value)
    assert "; 2 more)" in str(found.value)


def test_classes_and_ranking_leave_out_the_same_tissues(study: Path) -> None:
    records, _ = read_runs([study])
    fewer = [r for r in records if (r.arm, r.fold) != ("better", "2")]
    found = compare(fewer, [], Wanted(), "report")
    assert {result.units for result in found.ranking.arms} == {4}
    assert {r.units for results in found.by_class.values() for r in results} == {4}
    (note,) = (n for n in found.ranking.notes if "fold 2" in n)
    assert note.endswith("arms=[baseline,same] leaves it out.")


def test_classes_have_no_arm_that_is_not_ranked(study: Path) -> None:
    records, _ = read_runs([study])
    without = [replace(r, evaluations={}) if r.arm == "same" else r for r in records]
    found = compare(without, [], Wanted(metric="test/bpq_image"), "report")
    assert {a.arm for a in found.ranking.arms} == {"baseline", "better"}
    assert {r.arm for results in found.by_class.values() for r in results} == {"baseline", "better"}
    assert any("Arm same is left out" in note for note in found.notes)


def test_a_class_that_arms_have_on_other_tissues_costs_its_row_alone(tmp_path: Path) -> None:
    """No tissue has a b_cell; each arm sees some in a tissue of its own."""
    for n, arm in enumerate("ab"):
        counts = np.stack([made_confusion(1, (0.7, 0.2, 0.1, 0)) for _ in range(2)])
        counts[n, 0, 3] += 9
        write_run(
            tmp_path / arm, arm=arm, tissues={"test": ["t0", "t1"]}, confusions={"test": counts}
        )
    found = report(tmp_path, metric="test/dice_tissue/macro_foreground")
    assert list(found.by_class) == ["background", "tumor", "stroma"]
    assert any(note.startswith("Class b_cell is not shown: arms a, b have") for note in found.notes)


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


@pytest.mark.parametrize("classes", [None, [], [{"name": "a"}, {"color": "#112233"}]])
def test_classes_without_colours_cost_no_report(
    classes: list[dict[str, str]] | None, study: Path
) -> None:
    records, unfinished = read_runs([study])
    data = {"classes": classes}
    odd = [replace(r, environment={**r.environment, "data": data}) for r in records]
    assert compare(odd, unfinished, Wanted(), "report").colors == {}
