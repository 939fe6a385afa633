"""Everything a report says, before it takes a form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tissueseg.reporting.ranking import ArmResult, Ranking
from tissueseg.reporting.records.run_record import RunRecord, Unfinished


@dataclass(frozen=True)
class StudyReport:
    """A comparison of arms by their runs."""

    title: str  # such as "decoders, protocol demo"
    question: str  # what the study asks; empty where nobody said
    conclusion: str  # one sentence, plain text
    ranking: Ranking
    by_class: Mapping[str, Sequence[ArmResult]]  # class -> arms in the ranking's order
    colors: Mapping[str, str]  # class -> #rrggbb
    runs: Sequence[RunRecord]
    unfinished: Sequence[Unfinished]
    notes: Sequence[str]  # cautions, shown above everything
    command: str  # that made this report
