"""Where numbers came from: once what all runs share, and in the table what they do not."""

from __future__ import annotations

from dataclasses import replace

from reports_made import report

from tissueseg.reporting.study.markdown import study_markdown
from tissueseg.reporting.study.provenance import run_rows, shared_facts

OWN = ("arm", "fold", "seed", "score", "epoch kept", "fingerprint", "run")


def with_first(made, **environment):
    """The report whose first run was made with something else."""
    first, *others = made.runs
    return replace(
        made, runs=[replace(first, environment=first.environment | environment), *others]
    )


def test_what_all_runs_share_is_said_once(tmp_path):
    made = report(tmp_path)
    assert shared_facts(made) == [
        "commit: 560a201ca252-dirty",
        "encoder: tiny_random_init 6345cc75d141",
        "machine: Linux-made, 1 × NVIDIA H200",
        "packages: tissueseg 0.1.0, python 3.11.7, torch 2.13.0",
    ]
    assert run_rows(made).header == OWN


def test_a_fact_that_differs_is_a_column(tmp_path):
    made = with_first(report(tmp_path), commit="fff", machine={"system": "Mac"})
    rows = run_rows(made)
    assert rows.header == (*OWN[:5], "commit", "machine", *OWN[5:])
    told = {row[-1]: row[5:7] for row in rows.rows}
    assert told.pop(made.runs[0].place) == ["fff", "Mac, no GPU"]
    assert {tuple(cells) for cells in told.values()} == {
        ("560a201ca252-dirty", "Linux-made, 1 × NVIDIA H200")
    }
    assert [fact.partition(":")[0] for fact in shared_facts(made)] == ["encoder", "packages"]


def test_of_packages_only_those_that_differ_are_in_the_table(tmp_path):
    made = with_first(report(tmp_path), packages={"torch": "1.0"})
    rows = run_rows(made)
    assert rows.header == (*OWN[:5], "packages", *OWN[5:])
    assert {row[5] for row in rows.rows} == {"torch 1.0", "torch 2.13.0"}
    assert shared_facts(made)[-1] == "packages: tissueseg 0.1.0, python 3.11.7"


def test_a_run_without_its_environment_hides_no_other_s(tmp_path):
    made = report(tmp_path)
    first, *others = made.runs
    made = replace(made, runs=[replace(first, environment={}), *others])
    row = next(row for row in run_rows(made).rows if row[-1] == first.place)
    assert row[5:9] == ["–", "tiny_random_init", "–", "–"]
    assert shared_facts(made) == []


def test_a_report_without_runs_shares_nothing(tmp_path):
    made = replace(report(tmp_path), runs=[])
    assert shared_facts(made) == []
    assert run_rows(made).rows == []


def test_markdown_says_it_once_too(tmp_path):
    text = study_markdown(report(tmp_path)).split("## Provenance")[1]
    assert text.count("560a201ca252-dirty") == 1
    assert "- machine: Linux-made, 1 × NVIDIA H200" in text
