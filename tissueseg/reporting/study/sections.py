"""Sections of a study's page below its ranking: what the runs did, pictured, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np

from tissueseg.reporting.page_parts import table
from tissueseg.reporting.records.run_record import RunRecord
from tissueseg.reporting.study.charts import legend
from tissueseg.reporting.study.class_charts import share_ratios
from tissueseg.reporting.study.figures import Curves, curves, reliability
from tissueseg.reporting.study.from_runs import (
    arms_of,
    bins_of,
    classes_of,
    confusion_of,
    curve_of,
    kept_of,
    runs_of,
    shares_of,
    side_of,
)
from tissueseg.reporting.study.provenance import listed_runs, run_rows, shared_facts
from tissueseg.reporting.study.report import StudyReport
from tissueseg.reporting.study.rows import (
    Rows,
    calibration_rows,
    cost_rows,
    share_rows,
)

_WHOLE = 60  # characters of the longest name that is not broken

_LOSSES = {"train/loss": "training loss", "val/loss": "validation loss"}


def rows_table(rows: Rows) -> str:
    """Plain rows as a table of the page."""
    return table(rows.header, [[_cell(cell) for cell in row] for row in rows.rows], rows.numbers)


def learning(report: StudyReport) -> Iterator[str]:
    """Losses and the monitored number by epoch."""
    yield "<h2>Learning curves</h2>"
    arms = arms_of(report)
    monitors = dict.fromkeys(str(run.metrics.get("monitor", "")) for run in report.runs)
    names = {**_LOSSES, **{name: name for name in monitors if name and name not in _LOSSES}}
    shown = [curves(drawn) for name in names if (drawn := _curves(report, name, names[name])).arms]
    if not shown:
        yield _soft("Left out: no run kept its history.")
        return
    yield legend(arms)
    yield f'<div class="sides">{"".join(shown)}</div>'
    yield _soft(
        "Lines: mean over an arm's runs (folds and seeds); bands: from its lowest to its highest run; "
        "dots: the epochs whose decoders were kept. Losses of arms that minimise different losses "
        "cannot be compared."
    )


def shares(report: StudyReport) -> Iterator[str]:
    """How much of every class is predicted, and how much there is."""
    yield "<h2>Predicted and true share of classes</h2>"
    arms, side = arms_of(report), side_of(report)
    found = [shares_of(runs_of(report, arm), side) for arm in arms]
    truths: dict[str, float] = {}
    for name, (truth, _) in (item for of_arm in found for item in of_arm.items()):
        truths.setdefault(name, truth)
    if not truths:
        yield _soft(f"Left out: no run kept its confusion counts of {side}.")
        return
    ratios = np.array([[_ratio(of_arm.get(name)) for name in truths] for of_arm in found])
    yield legend(arms)
    drawn = share_ratios(list(truths), list(truths.values()), ratios, arms)
    yield f'<div class="sides">{drawn}{rows_table(share_rows(report))}</div>'
    differ = any(truths[name] != shares[0] for of_arm in found for name, shares in of_arm.items())
    other = " Arms saw other tissues: the true share is that of the first with the class." * differ
    yield _soft(
        f"Shares of all known pixels of {side}, summed over an arm's runs. ×: predicted share by the "
        f"true share; triangles lie beyond the scale, on the left also what is never predicted.{other}"
    )


def confusions(report: StudyReport) -> Iterator[str]:
    """What became of every class, as a table of shades for every arm."""
    side, shown = side_of(report), []
    for arm in arms_of(report):
        runs = runs_of(report, arm)
        if (counts := confusion_of(runs, side)) is not None:
            shown.append(_confusion(arm, classes_of(runs), counts))
    yield "<h2>Confusion</h2>"
    if not shown:
        yield _soft(f"Left out: no run kept its confusion counts of {side}.")
        return
    yield f'<div class="sides">{"".join(shown)}</div>'
    yield _soft("Rows: truth, per cent of its pixels; columns: prediction. Summed over runs.")


def calibration(report: StudyReport) -> Iterator[str]:
    """Whether probabilities can be believed."""
    yield "<h2>Calibration</h2>"
    arms, shown = arms_of(report), []
    for of, title in (("pixels", "classes of pixels"), ("cells", "types of cells")):
        found = {i: bins_of(runs_of(report, a), side_of(report), of) for i, a in enumerate(arms)}
        known = {i: bins for i, bins in found.items() if bins is not None}
        if known:
            shown.append(reliability(known, title))
    if not shown:
        yield _soft("Left out: no run counted how often its probabilities come true.")
        return
    yield legend(arms)
    yield f'<div class="sides">{"".join(shown)}{rows_table(calibration_rows(report))}</div>'
    yield _soft(
        "Below the dashed line an arm is surer than it is right. ECE: mean distance of confidence and "
        "accuracy over bins, of all runs' counts; Brier: mean squared error of the probabilities."
    )


def cost(report: StudyReport) -> Iterator[str]:
    """What every arm took."""
    yield "<h2>Cost</h2>"
    if not any(run.cost for run in report.runs):
        yield _soft("Left out: no run measured what it cost.")
        return
    yield rows_table(cost_rows(report))
    yield _soft(
        "Medians over an arm's runs that measured it; peak memory of the largest run: of the GPU (cuda) "
        "or of the whole process."
    )


def provenance(report: StudyReport) -> Iterator[str]:
    """Where every number came from."""
    yield "<h2>Provenance</h2>"
    if facts := shared_facts(report):
        yield f"<p>All runs:</p><ul>{''.join(f'<li>{escape(fact)}</li>' for fact in facts)}</ul>"
    yield rows_table(run_rows(report))
    told = (escape(_command(run)) for run in listed_runs(report))
    commands = "".join(f"<li><code>{words}</code></li>" for words in told)
    yield f"<details><summary>Commands of the runs</summary><ol>{commands}</ol></details>"
    yield f"<p>This report: <code>{escape(report.command)}</code></p>"


def _cell(words: str) -> str:
    """Plain words as HTML; what has no spaces, as names and digests, is not broken."""
    whole = len(words) <= _WHOLE and " " not in words
    return f'<span class="whole">{escape(words)}</span>' if whole else escape(words)


def _ratio(shares: tuple[float, float] | None) -> float:
    """Predicted by true share; NaN where the class does not occur."""
    return shares[1] / shares[0] if shares and shares[0] else math.nan


def _curves(report: StudyReport, name: str, title: str) -> Curves:
    arms = {i: runs_of(report, arm) for i, arm in enumerate(arms_of(report))}
    found = {i: curve for i, runs in arms.items() if (curve := curve_of(runs, name)) is not None}
    return Curves(title, found, {i: kept_of(arms[i], name) for i in found})


def _confusion(arm: str, names: Sequence[str], counts: np.ndarray) -> str:
    truth = counts.sum(axis=1, keepdims=True)
    parts = np.divide(counts, truth, out=np.zeros(counts.shape), where=truth > 0)
    head = "".join(f'<th class="up">{escape(name)}</th>' for name in names)
    lines = [f"<tr><th></th>{head}<th>pixels</th></tr>"]
    for name, row, total in zip(names, parts, truth[:, 0], strict=True):
        cells = "".join(_shade(float(part), bool(total)) for part in row)
        told = f'<th class="row">{escape(name)}</th>{cells}<td>{total:,.0f}</td>'
        lines.append(f"<tr>{told}</tr>")
    grid = f'<div class="scroll"><table class="grid">{"".join(lines)}</table></div>'
    return f"<figure><figcaption>{escape(arm)}</figcaption>{grid}</figure>"


def _shade(part: float, known: bool) -> str:
    if not known:
        return "<td>–</td>"
    told = "&lt;1" if 0 < part < 0.005 else f"{100 * part:.0f}"
    return f'<td style="background:rgba(58,110,165,{0.7 * part:.2f})">{told}</td>'


def _command(run: RunRecord) -> str:
    command = run.environment.get("command") or []
    words = command if isinstance(command, str) else " ".join(map(str, command))
    return f"{run.place}: {words or '–'}"


def _soft(words: str) -> str:
    return f'<p class="soft">{escape(words)}</p>'
