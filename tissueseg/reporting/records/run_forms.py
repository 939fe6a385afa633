"""What the small files of a run hold where a report looks.

What a report does not look at may be anything, and what it looks for may be missing: runs of other
versions say more or less.
"""

from __future__ import annotations

from tissueseg.forms import NUMBER, TEXT, Columns, Each, Either, Form, Listed, Maybe

_NUMBERS = Either((NUMBER, Listed(NUMBER)))
_BINS = ("low", "high", "confidence", "accuracy")

SIDE: Form = {
    "pooled": Each(_NUMBERS),
    "tissues": Each(Each(_NUMBERS)),
    "study": Each(NUMBER),
    "calibration": Columns((*_BINS, "pixels"), NUMBER, {"ece": NUMBER, "brier": NUMBER}),
    "cells": {
        "scores": Each(NUMBER),
        "tissues": Each(Each(NUMBER)),
        "type_names": Listed(str),
        "types": Listed(Listed(NUMBER)),
        "reliability": Columns((*_BINS, "cells"), NUMBER),
    },
}
"""Scores of a side, in `metrics.json`."""

METRICS: Form = {
    "classes": Listed(str),
    "epoch": int,
    "monitor": TEXT,
    "encoder": TEXT,
    "metrics": Each(NUMBER),
}
CONFIG: Form = {
    "seed": int,
    "epochs": NUMBER,
    "split": Maybe({"fold": Either((TEXT, NUMBER))}),
    "protocol": Maybe({"metric": TEXT}),
    "study": Maybe(
        {"name": TEXT, "arm": TEXT, "baseline": TEXT, "question": TEXT}
        | {"arms": Maybe(Either((dict, Listed(str))))}
    ),
}
_ENCODER = {"name": TEXT, "sha256": TEXT}
ENVIRONMENT: Form = {
    "commit": TEXT,
    "command": Maybe(Listed(str)),
    "fingerprint": TEXT,
    "tissueseg": TEXT,
    "python": TEXT,
    "features": TEXT,
    "packages": Maybe(Each(TEXT)),
    "machine": Maybe({"system": TEXT, "gpus": Maybe(Listed(str))}),
    "encoder": Maybe({**_ENCODER, "parts": Maybe(Listed(_ENCODER))}),
    "data": Maybe({"classes": Maybe(Listed({"name": TEXT, "color": TEXT}))}),
    "split": Maybe(Each(Maybe(Either((Listed(str), dict))))),
    "patients": Maybe(Each(TEXT)),
    "digests": Maybe(Each(str)),
}
JOB: Form = {"arm": str, "label": str, "state": str, "line": TEXT}
COST: Form = dict.fromkeys(
    ("parameters", "trained_parameters", "steps", "step_s", "fit_s", "peak_bytes", "devices"),
    NUMBER,
) | {"gpu_hours": NUMBER, "peak_of": TEXT, "step_of": TEXT}
