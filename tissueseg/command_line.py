"""What stands on a command line, before Hydra reads it: short words, the setting, a study's protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from tissueseg.config import CONFIG_DIR

SHORT = {
    "predict": {"store": "store.path", "image": "image.file"},
    "evaluate": {"store": "store.path"},
}
"""Command -> words that are short for an option."""

_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@:-]*=|~[A-Za-z_]")
_STUDY_PROTOCOL = re.compile(r"^study_protocol: *(\w+)", re.MULTILINE)


def completed(name: str, argv: Sequence[str]) -> list[str]:
    """A command line with what it leaves to others: `$TISSUESEG_SETTING`, and a study's protocol.

    Not by interpolation in the defaults list: Hydra refuses settings that override groups there. Its
    parser takes overrides on one side of a flag only, so they are gathered behind the flags.

    Args:
        name: of the command.
        argv: program and words.
    """
    program, *arguments = argv
    overrides = [_spell_out(name, a) for a in arguments if _OVERRIDE.match(a)]
    flags = [a for a in arguments if not _OVERRIDE.match(a)]
    setting = os.environ.get("TISSUESEG_SETTING")
    goes_on = _said("resume", overrides) not in (None, "auto")  # as the run was configured
    if setting and not goes_on and not _said("setting", overrides) and _has(name, "setting"):
        overrides.insert(0, f"setting={setting}")
    if _said("+study", overrides) and not _said("protocol", overrides) and _has(name, "protocol"):
        setting = _said("setting", overrides) or "demo"
        chosen = _STUDY_PROTOCOL.search(_text(f"setting/{setting}.yaml"))
        overrides += [f"protocol={chosen[1]}"] if chosen else []
    return [program, *flags, *overrides]


def _has(name: str, group: str) -> bool:
    """Whether a command chooses from a group: itself, or as `train` does, whose words it takes."""
    defaults = _text(f"{name}.yaml")
    return f"- {group}:" in defaults + (_text("train.yaml") if "- train\n" in defaults else "")


def _said(key: str, overrides: Sequence[str]) -> str | None:
    """What the command line gives for a key; None: nothing."""
    given = (o.partition("=") for o in overrides)
    return next((value for name, _, value in given if name == key), None)


def _text(name: str) -> str:
    """A file of the configuration tree; empty where there is none, which Hydra then says."""
    path = CONFIG_DIR / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _spell_out(name: str, word: str) -> str:
    """`store=PATH` in full, where a command knows such short forms."""
    key, mark, value = word.partition("=")
    full = SHORT.get(name, {}).get(key)
    plain_value = bool(mark) and value not in ("", "null") and not value.startswith("{")
    return f"{full}={value}" if full and plain_value else word
