"""Whether a value is a number in its limits, and the one line that refuses one that is not.

A configuration takes any word in place of a number, `true` counts as 1 in Python, and NaN passes every
comparison that is written to find what is wrong: so this is decided here alone.
"""

import math
from typing import TypeGuard

from tissueseg.errors import ConfigError


def is_whole(
    value: object, lowest: float | None = None, highest: float | None = None
) -> TypeGuard[int]:
    """Whether it is an int, not a bool, with `lowest` ≤ value ≤ `highest`."""
    return isinstance(value, int) and is_number(value, lowest, highest)


def is_number(
    value: object, lowest: float | None = None, highest: float | None = None
) -> TypeGuard[float]:
    """Whether it is a finite int or float, not a bool, with `lowest` ≤ value ≤ `highest`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, float) and not math.isfinite(value):  # ints may be too long for a float
        return False
    return (lowest is None or value >= lowest) and (highest is None or value <= highest)


def check_whole(
    key: str, value: object, lowest: int, highest: int | None = None, note: str = ""
) -> int:
    """Refuse what is not a whole number in its limits.

    Args:
        key: of the option, for the message.
        value: what stands there.
        lowest: the least it may be.
        highest: the most; None: no limit.
        note: what the message says behind the limits, such as a unit.

    Raises:
        ConfigError: naming the key, the value and the limits.
    """
    if is_whole(value, lowest, highest):
        return value
    limit = "" if highest is None else f" and at most {highest}"
    wanted = f"a whole number of at least {lowest}{limit}{_in_brackets(note)}"
    raise ConfigError(f"{key}={shown(value)}, wanted {wanted}.")


def check_number(
    key: str,
    value: object,
    lowest: float | None = None,
    highest: float | None = None,
    above: float | None = None,
    below: float | None = None,
    note: str = "",
) -> float:
    """Refuse what is not a finite number in its limits.

    Args:
        key: of the option, for the message.
        value: what stands there.
        lowest: the least it may be.
        highest: the most it may be.
        above: what it must exceed.
        below: what it must stay under.
        note: what the message says behind the limits, such as a unit or what null means.

    Raises:
        ConfigError: naming the key, the value and the limits.
    """
    if is_number(value, lowest, highest) and _between(value, above, below):
        return float(value)
    limits = _limits(lowest, highest, above, below)
    raise ConfigError(f"{key}={shown(value)}, wanted {limits}{_in_brackets(note)}.")


def shown(value: object) -> str:
    """A value as it stands in a configuration: null, true and false; else as Python says it."""
    return {None: "null", True: "true", False: "false"}[value] if _is_word(value) else str(value)


def _is_word(value: object) -> TypeGuard[bool | None]:
    return value is None or isinstance(value, bool)


def _between(value: float, above: float | None, below: float | None) -> bool:
    return (above is None or value > above) and (below is None or value < below)


def _limits(
    lowest: float | None, highest: float | None, above: float | None, below: float | None
) -> str:
    if lowest is not None and highest is not None:
        return f"a number {lowest:g} … {highest:g}"
    limits = (("≥", lowest), (">", above), ("≤", highest), ("<", below))
    said = " and ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)
    return f"a finite number {said}".rstrip()


def _in_brackets(note: str) -> str:
    return f" ({note})" if note else ""
