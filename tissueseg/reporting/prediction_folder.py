"""The folder of a prediction: which tissues are complete in it, and by what they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tissueseg.errors import TissueDataError
from tissueseg.reporting.runs import write_json
from tissueseg.reporting.tissue_summary import TissueSummary

STAMP = "prediction.json"
"""Stands in the folder of every tissue that is complete, and says how it was made."""


def write_stamp(
    folder: Path,
    made_by: Mapping[str, Any],
    exports: Sequence[str],
    summary: TissueSummary,
    job: str,
) -> None:
    """Say that a tissue's folder is complete; the last that is written to it.

    Args:
        folder: of the tissue.
        made_by: all that its cells depend on.
        exports: what was written of them.
        summary: for its page.
        job: name of what found them.
    """
    stamp = {"made_by": made_by, "exports": list(exports), "job": job}
    write_json(folder / STAMP, stamp | {"summary": summary.as_dict()})


def is_complete(folder: Path) -> bool:
    """Whether a folder holds a predicted tissue."""
    return _stamp(folder) is not None


def is_there(
    folder: Path, made_by: Mapping[str, Any], exports: Sequence[str], again: str | None = None
) -> bool:
    """Whether a tissue was predicted before, by the same means, with all that is wanted of it.

    Args:
        folder: of the tissue.
        made_by: all that its cells depend on.
        exports: what is wanted of them.
        again: name of a job that predicts again what others have predicted; None: it is kept.

    Raises:
        TissueDataError: something else stands in its place.
    """
    if not folder.exists():
        return False
    if (found := _stamp(folder)) is None:
        raise TissueDataError(f"{folder} was not made by predict: choose another out.")
    if again is not None and found.get("job") != again:
        return False
    differ = sorted(key for key in made_by if found["made_by"].get(key) != made_by[key])
    lacking = sorted(set(exports) - set(found["exports"]))
    if not differ and not lacking:
        return True
    if again is not None:
        return False
    how = f"made with another {', '.join(differ)}" if differ else f"without {', '.join(lacking)}"
    raise TissueDataError(f"{folder} exists already, {how}: choose another out or overwrite=true.")


def found_in(out: Path) -> list[TissueSummary]:
    """Of all complete tissues in the folder of a prediction, by their names."""
    shown = (folder for folder in sorted(out.iterdir()) if not folder.name.startswith("."))
    stamps = map(_stamp, shown)  # hidden ones may be complete, too, and left by who was killed
    return [TissueSummary.from_dict(stamp["summary"]) for stamp in stamps if stamp]


def _stamp(folder: Path) -> dict[str, Any] | None:
    """What a complete tissue's folder says of itself; None: it is none."""
    try:
        found = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(found, dict) and {"made_by", "exports", "summary"} <= set(found)
    return found if whole else None
