"""What of a side's scores depends on nothing but decoder and tissues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def of_pixels(side: Mapping[str, Any]) -> dict[str, Any]:
    """Scores from counts, which are the same in batches of whatever size."""
    return {key: side[key] for key in ("pooled", "tissues")}
