"""Weights of summands, as they stand in a configuration."""

import math
from collections.abc import Mapping

from tissueseg.errors import ConfigError


def positive(weights: Mapping[str, float], key: str, field: str = "") -> dict[str, float]:
    """Those that are not 0; 0 leaves a summand out.

    Args:
        weights: name -> weight.
        key: where they stand, for messages.
        field: what a weight is called there, behind its name.

    Raises:
        ConfigError: a weight that is negative or no finite number, or none that is positive.
    """
    for name, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float):
            fits = False
        else:
            fits = math.isfinite(weight) and weight >= 0
        if not fits:
            place = ".".join(filter(None, (key, name, field)))
            raise ConfigError(f"{place}={weight}, wanted a finite number ≥ 0; 0 leaves it out.")
    kept = {name: float(weight) for name, weight in weights.items() if weight > 0}
    if not kept:
        what = "term" if field == "weight" else "entry"
        raise ConfigError(f"{key} has no {what} of positive weight; give at least one.")
    return kept
