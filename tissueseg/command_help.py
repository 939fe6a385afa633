"""`--help` of a command: what its configuration file says of itself, its choices, and its options.

It is read from the file that the command composes, so that it cannot say anything else. Hydra's own,
which prints the whole composition, is several screens long.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from tissueseg.config import CONFIG_DIR
from tissueseg.own_packages import config_dirs

HELP = ("--help", "-h")
QUIET = ("--quiet", "-q")
_INDENT = 2
_SHARED = ("cells",)  # options of several commands
_COMMENT = re.compile(r"^(\w+):[^#]*#\s*(.*)$")  # behind a key that is not indented
_ADDED = re.compile(r"\+(\w+)=")  # in the usage: groups that are not chosen from unless asked for


def help_text(name: str, width: int = 100) -> str:
    """What there is to say of `configs/<name>.yaml`.

    Args:
        name: of the command.
        width: characters a line.
    """
    text = (CONFIG_DIR / f"{name}.yaml").read_text(encoding="utf-8")
    usage, about = _header(text)
    config = yaml.safe_load(text)
    defaults = config.pop("defaults")
    options = list(_options(config, _comments(text)))
    for part in (entry for entry in defaults if entry in _SHARED):
        shared = (CONFIG_DIR / f"{part}.yaml").read_text(encoding="utf-8")
        options += _options(yaml.safe_load(shared), _comments(shared))
    lines = [usage, "", *textwrap.wrap(about, width), ""]
    if groups := list(_groups(text, usage)):
        lines += ["Choose, as group=choice:", *_table(groups, width), ""]
    lines += ["Set, as key=value (null: none, ???: has to be given):"]
    lines += _table(options, width)
    if "train" in defaults:
        lines += ["", "All that train takes: python -m tissueseg.train --help"]
    lines += [
        "",
        "--cfg job shows the whole composition and runs nothing; -q prints errors alone. Every key, with",
        f"what it means, stands in configs/{name}.yaml and the groups' files beside it.",
    ]
    return "\n".join(line.rstrip() for line in lines)


def _header(text: str) -> tuple[str, str]:
    """Usage and description: the comment that a file begins with."""
    comment = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.removeprefix("#").strip())
    usage, _, about = "\n".join(comment).partition("\n\n")
    return usage, " ".join(about.split())


def _groups(text: str, usage: str) -> Iterator[tuple[str, str]]:
    """Groups that a command chooses from, and their choices."""
    defaults = text.partition("defaults:")[2].partition("\n\n")[0]
    named = re.findall(r"^  - (\w+):", defaults, re.MULTILINE)
    for group in (*named, *(f"+{added}" for added in _ADDED.findall(usage))):
        folders = (folder / group.lstrip("+") for folder in config_dirs())
        found = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
        if found:
            yield group, " | ".join(found)


def _comments(text: str) -> Mapping[str, str]:
    """What stands behind keys, and in the lines below that go on with it."""
    found: dict[str, str] = {}
    key = None
    for line in text.splitlines():
        if match := _COMMENT.match(line):
            key = match[1]
            found[key] = match[2]
        elif key and line.startswith("#"):
            found[key] += " " + line.removeprefix("#").strip()
        else:
            key = None
    return found


def _options(config: Mapping[str, Any], comments: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Keys with their values, and what is said of them; what lies below one key in one line."""
    for key, value in config.items():
        if key == "hydra":
            continue
        if isinstance(value, dict):
            yield f"{key}.", ", ".join(f"{k}={_shown(v)}" for k, v in value.items())
        else:
            yield f"{key}={_shown(value)}", comments.get(key, "")


def _shown(value: Any) -> str:
    """As it is written on a command line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_shown(v) for v in value) + "]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def _table(rows: list[tuple[str, str]], width: int) -> list[str]:
    """Two columns, the second wrapped."""
    first = min(max(len(name) for name, _ in rows), 24)
    lines = []
    for name, said in rows:
        parts = textwrap.wrap(said, width - first - 2 * _INDENT) or [""]
        if len(name) > first:
            lines.append(" " * _INDENT + name)
            name = ""
        for number, part in enumerate(parts):
            lines.append(f"{'':{_INDENT}}{name if not number else '':{first}}{'':{_INDENT}}{part}")
    return lines
