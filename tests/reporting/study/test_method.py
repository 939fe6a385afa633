"""What a report says in words of its numbers."""

from __future__ import annotations

from dataclasses import replace

from reports_made import EVIL, comparison, interval, report

from tissueseg.reporting.study.method import cautions, method, random_notes


def of_pairs(made, p_smallest: float):
    pairs = tuple(replace(comparison("a", "b", 0.1), p_smallest=p_smallest) for _ in range(3))
    return " ".join(method(replace(made, ranking=replace(made.ranking, against_baseline=pairs))))


def test_the_averaging_and_the_direction_are_named(tmp_path):
    first = method(report(tmp_path))[0]
    assert "pooled over all pixels of the test tissues; higher is better" in first


def test_it_is_said_when_no_difference_could_have_been_found(tmp_path):
    made = report(tmp_path)
    assert "no difference, however large" in of_pairs(made, 0.02)  # × 3 after Holm
    assert "no difference, however large" not in of_pairs(made, 0.01)


def test_what_intervals_hold_is_said_by_arm_where_it_differs(tmp_path):
    made = report(tmp_path)
    first, *others = made.ranking.arms
    alone = replace(first, interval=interval(0.5, covers="tissues"))
    told = method(replace(made, ranking=replace(made.ranking, arms=(alone, *others))))[1]
    assert f"of tissues for {first.arm}; of tissues and seeds for {others[0].arm} and" in told


def test_counts_and_shares_read_as_one_says_them(tmp_path):
    told = " ".join(method(report(tmp_path, arms=2)))
    assert "hold the truth in 95 % of studies" in told
    assert "over the 1 comparison with" in told
    assert "over its 1 pair." in told


def test_scores_without_bounds_are_not_said_to_be_cut(tmp_path):
    made = report(tmp_path)
    measure = replace(made.ranking.measure, key="test/hv_mse_image", higher_is_better=False)
    told = method(replace(made, ranking=replace(made.ranking, measure=measure)))
    assert "cut at 0 and 1" not in told[1]
    assert "lower is better" in told[0]


def test_what_is_corrected_and_what_is_not_covered_is_said(tmp_path):
    told = " ".join(method(report(tmp_path)))
    assert "Intervals of differences are not corrected for the number of comparisons." in told
    assert "for these folds' training sets" in told
    assert "where one of these cannot be made there is no p." in told


def test_patients_are_exchanged_and_tissues_won(tmp_path):
    made = report(tmp_path)
    measure = replace(made.ranking.measure, has_patients=True)
    told = " ".join(method(replace(made, ranking=replace(made.ranking, measure=measure))))
    assert "exchanges the two arms within patients" in told
    assert "mean difference over patients" in told
    assert "share of tissues where the arm is ahead" in told
    assert "They cover the noise of patients and seeds." in told


def test_cautions_are_said_once(tmp_path):
    made = report(tmp_path)
    again = replace(made, notes=["seed 7 lacks a fold", "two commits"])
    assert cautions(again) == [
        "seed 7 lacks a fold",
        "two commits",
        "Not finished: slots/0/1: CUDA out of memory",
    ]


def test_random_parts_name_the_arms_that_had_them(tmp_path):
    made = report(tmp_path)
    runs = [run if run.arm == EVIL else replace(run, environment={}) for run in made.runs]
    (note,) = random_notes(replace(made, runs=runs))
    assert f"virtues came from no checkpoint in {EVIL}." in note
