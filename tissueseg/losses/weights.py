"""Summands and their weights, as they stand in a configuration."""

from collections.abc import Mapping
from typing import Any

from tissueseg.errors import ConfigError
from tissueseg.numbers import check_number, shown


def parts(given: object, key: str, field: str) -> dict[str, Mapping[str, Any]]:
    """Summands by name; one that is null is left out, as overrides take away what a group brought.

    Args:
        given: name -> {<field>: weight, loss: what it builds}, or null.
        key: where they stand, for messages.
        field: what a weight is called there.

    Raises:
        ConfigError: something else.
    """
    wanted = {field, "loss"}
    entries = _named(given, key, f"a name, {field} and loss a term")
    kept = {name: part for name, part in entries.items() if part is not None}
    for name, part in kept.items():
        if not isinstance(part, Mapping):
            raise ConfigError(f"{key}.{name}={shown(part)}, wanted {field} and loss, or null.")
        if part.keys() != wanted:
            said = ", ".join(map(str, part)) or "nothing"
            raise ConfigError(f"{key}.{name} holds {said}; wanted {field} and loss, nothing else.")
        if not callable(part["loss"]):
            raise ConfigError(
                f"{key}.{name}.loss={shown(part['loss'])}, wanted a _target_ and its options."
            )
    return kept


def positive(weights: object, key: str, field: str = "") -> dict[str, float]:
    """Those that are not 0; 0 leaves a summand out.

    Args:
        weights: name -> weight.
        key: where they stand, for messages.
        field: what a weight is called there, behind its name.

    Raises:
        ConfigError: a weight that is negative or no finite number, or none that is positive.
    """
    given = {
        name: check_number(_place(key, name, field), weight, lowest=0, note="0 leaves it out")
        for name, weight in _named(weights, key, "a name and a weight each").items()
    }
    kept = {name: weight for name, weight in given.items() if weight > 0}
    if not kept:
        what = "term" if field == "weight" else "entry"
        raise ConfigError(f"{key} has no {what} of positive weight; give at least one.")
    return kept


def _named(given: object, key: str, wanted: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"{key}={shown(given)}, wanted {wanted}.")
    return given


def _place(*names: str) -> str:
    return ".".join(filter(None, names))
