"""Plain values that were spoilt: of other types, missing, renamed, deep; and YAML and JSON of them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from copy import deepcopy
from random import Random
from typing import Any

import yaml
from fuzz.fuzzing import spoil

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 255, 256, 10**6, 10**30, 0.5, -0.5, 1e308, 5e-324),
    *(float("nan"), float("inf"), -float("inf"), "", " ", "x", "é", "µ\u200b\u202e", "\n", "a\nb"),
    *("0", "1", "nan", "null", "true", "{id}", "{id}.he.png", "{0}", "{", "}}", "%s", "../x", "/"),
    *("/etc/passwd", "~", "http://x", "${x}", "${seed}", "${oc.env:HOME}", "${", "???", "a" * 5000),
    *("\0", "\x07", "#ff0000", "(", "(?P<a>", "[", "*", "background", "a.b", "a/b", "-", ":", "="),
    *([], {}, [[]], [None], [1, 2], ["a", "a"], {"": None}, {"a": {"b": {"c": 1}}}, {"x": 1}),
    *(datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1, 1, 1), b"\xff\0", {"name": "x"}),
)

_LINES = (
    "- x",
    "\tx: 1",
    "x: &a [1, 2]\ny: *a",
    "x: *nowhere",
    "<<: {mpp: 2}",
    "<<: 3",
    "? [a, b]\n: 1",
    "? {a: b}\n: 1",
    "? !!binary /w==\n: 1",
    "1: 2",
    "null: 1",
    "true: 1",
    "1.5: x",
    ".nan: x",
    "2024-01-01: x",
    "x: !!python/object/apply:os.system ['touch pwned']",
    "x: !!python/name:os.system",
    "x: !unknown y",
    "x: !!set {a, b}",
    "x: !!omap [a: 1]",
    "x: !!pairs [a: 1, a: 2]",
    "x: !!binary notbase64!",
    "x: !!int word",
    "x: !!float word",
    "x: !!bool maybe",
    "x: !!timestamp never",
    "x: !!null 3",
    "x: !!str {a: b}",
    "x: !!seq {a: b}",
    "x: !!map [a]",
    "x: 2024-99-99",
    "x: 12:99:99",
    "x: 1_000",
    "x: 0o17",
    "x: 0b2",
    "x: 1" + "0" * 5000,
    "---",
    "...",
    "--- x\n--- y",
    "%YAML 9.9\n---",
    "%TAG ! tag:x,2000:\n---",
    'x: "\\ud800"',
    'x: "\\uZZZZ"',
    'x: "unended',
    "x: |\n",
    "x: >-\n  a\n b",
    "x: [" + "[" * 2000,
    "x: " + "{a: " * 2000,
    "x: " + "[" * 300 + "]" * 300,
    "@x: 1",
    "`x: 1",
    "# only this",
    "\ufeffx: 1",
    "\x85",
    "x: !!python/tuple [1]",
    "x: ! y",
    "!!map x: y",
    "&a : *a",
    "x: &x {y: *x}",
)
_ENCODINGS = ("utf-16", "utf-8-sig", "utf-32", "latin-1", "cp037")


def spoil_tree(random: Random, tree: Any, odd: Sequence[Any] = ODD) -> Any:
    """A copy with up to three nodes replaced, taken out, renamed, doubled, wrapped or swapped."""
    spoilt = deepcopy(tree)
    for _ in range(random.choice((0, 1, 1, 1, 2, 3))):
        places = _places(spoilt)
        if not places:
            return random.choice(odd)
        node, key = random.choice(places)
        match random.randrange(9):
            case 0 | 1 | 2:
                node[key] = deepcopy(random.choice(odd))
            case 3:
                del node[key]
            case 4 if isinstance(node, dict):
                node[random.choice(("x", "", f"{key}s", str(key).upper(), 1, None))] = node.pop(key)
            case 4 | 5:
                other, place = random.choice(places)
                node[key] = deepcopy(other.get(place) if isinstance(other, dict) else other)
            case 6:
                node[key] = random.choice(([node[key]], {"x": node[key]}, [node[key]] * 2))
            case 7:
                node[key] = str(node[key])
            case 8 if isinstance(node[key], list | dict):
                node[key] = type(node[key])()
            case 8 if isinstance(node[key], int | float):
                node[key] = random.choice((-node[key], node[key] * 1e9, node[key] + 0.5))
    return spoilt


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every container with every key or index in it."""
    keys = list(tree) if isinstance(tree, dict) else []
    keys = list(range(len(tree))) if isinstance(tree, list) else keys
    here = [(tree, key) for key in keys]
    return here + [place for key in keys for place in _places(tree[key])]


def spoilt_yaml(random: Random, tree: Any, others: Sequence[bytes] = ()) -> bytes:
    """YAML of a tree whose values, lines, encoding or bytes are spoilt."""
    kind = random.randrange(6)
    if kind < 4:
        tree = spoil_tree(random, tree)
    flow = random.choice((False, False, None, True))
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, default_flow_style=flow)
    if kind == 3 or kind == 4:
        text = _spoilt_lines(random, text)
    data = text.encode("utf-8", "surrogatepass")
    if kind == 5:
        data = spoil(random, data, others, words=True)
    if not random.randrange(40):
        data = text.encode(random.choice(_ENCODINGS), "replace")
    return data


def spoilt_json(random: Random, tree: Any, others: Sequence[bytes] = ()) -> bytes:
    """JSON of a tree whose values or bytes are spoilt."""
    if random.randrange(5):
        tree = spoil_tree(random, tree)
        data = json.dumps(tree, default=str).encode()
    else:
        data = spoil(random, json.dumps(tree).encode(), others, words=True)
    if not random.randrange(60):
        data = random.choice(
            (b"[" * 100_000, b'{"a":' * 100_000, data.decode(errors="replace").encode("utf-16"))
        )
    return data


def _spoilt_lines(random: Random, text: str) -> str:
    lines = text.splitlines()
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(lines) + 1)
        indent = " " * random.choice((0, 0, 2, 4))
        match random.randrange(5):
            case 0 | 1:
                lines[at:at] = [indent + line for line in random.choice(_LINES).split("\n")]
            case 2:
                lines[at:at] = lines[random.randrange(len(lines)) :][: random.choice((1, 2))]
            case 3 if lines:
                at = random.randrange(len(lines))
                lines[at] = random.choice(("\t", " ", "  ")) + lines[at]
            case 4 if lines:
                at = random.randrange(len(lines))
                key, colon, value = lines[at].partition(":")
                mark = random.choice(
                    (" &a", " *a", " !!str", " !!int", " !!python/none", " |", " >")
                )
                lines[at] = f"{key}{colon}{mark}{value}"
    return "\n".join(lines) + "\n"
