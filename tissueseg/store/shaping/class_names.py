"""Which class of a source becomes which of a store, by name.

As plain data or YAML, with everything it may hold; names are those of the source unless said otherwise:

    rename: {Tumour: tumor}              # old: new
    merge: {lymphoid: [T cell, B cell]}  # new: [old, old]
    drop: [debris]                       # instances and pixels become background
    ignore: [mitosis]                    # pixels become class 255; instances stay
    unknown: unlabeled                   # the class that means "type not known": class 255 too
    keep: [stroma]                       # every class that is neither here, renamed nor merged is ignored
    types: none                          # all instances are of one class, nucleus; goes with drop only
    colors: {tumor: "#e6194b"}           # by new names; left out: that of the first old class

New ids count in the order in which the source's classes first need them; background stays 0.
"""

from __future__ import annotations

import difflib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tissueseg.contracts import IGNORE, TissueClass
from tissueseg.errors import ConfigError
from tissueseg.store.sources.description import Section, open_description

NUCLEUS = "nucleus"
_KEYS = ("rename", "merge", "drop", "ignore", "unknown", "keep", "types", "colors")


class Mapped(NamedTuple):
    """A class map on the classes of one source."""

    classes: tuple[TissueClass, ...]
    ids: np.ndarray  # (256,) uint8: old id -> new; ids that the source's table has not stay
    fates: dict[int, str]  # old id -> drop, ignore or unknown
    untyped: bool  # every instance is a nucleus


@dataclass(frozen=True)
class ClassMap:
    """What becomes of each class, by name."""

    where: str  # file or key, for messages
    names: tuple[tuple[str, str, str], ...] = ()  # old, new, rename | merge
    fates: tuple[tuple[str, str], ...] = ()  # old, drop | ignore | unknown
    keep: tuple[str, ...] | None = None
    untyped: bool = False
    colors: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, source: Any, where: str = "class_map") -> ClassMap:
        """Check plain data, or the YAML file that a path names.

        Raises:
            ConfigError: a file that cannot be read, or one line with key, what stands there and what to
                write.
        """
        if isinstance(source, str | Path):
            return cls._of(open_description(Path(source), _KEYS))
        return cls.parse(source, where)

    @classmethod
    def parse(cls, value: Any, where: str = "class_map") -> ClassMap:
        """Check plain data.

        Raises:
            ConfigError: one line with key, what stands there and what to write.
        """
        return cls._of(Section(dict(value) if isinstance(value, Mapping) else value, where, _KEYS))

    @classmethod
    def _of(cls, top: Section) -> ClassMap:
        listed = {key: top.texts(key) for key in ("drop", "ignore")}
        listed["unknown"] = tuple(filter(None, (top.get("unknown", str, None),)))
        made = cls(
            top.where,
            names=_names(top),
            fates=tuple((old, key) for key, olds in listed.items() for old in olds),
            keep=top.texts("keep") if top.get("keep", list, None) is not None else None,
            untyped=top.choice("types", ("given", "none")) == "none",
            colors=_texts(top, "colors"),
        )
        for name, color in made.colors.items():
            if not re.fullmatch("#[0-9a-fA-F]{6}", color):
                raise ConfigError(f"{top.at('colors')}.{name} is {color!r}, wanted '#rrggbb'.")
        made._check_once()
        made._check_untyped()
        return made

    def apply(self, classes: Sequence[TissueClass]) -> Mapped:
        """The new table, and where each old id goes.

        Raises:
            ConfigError: names that the table has not, a map of background, two classes of one name, or no
                class left.
        """
        self._check_names(classes)
        fates = self._all_fates(classes)
        ids = np.arange(IGNORE + 1, dtype=np.uint8)
        table = {classes[0].name: classes[0]}
        new_names = {old: new for old, new, _ in self.names}
        for old in classes[1:]:
            fate = fates.get(old.id)
            if fate is not None:
                ids[old.id] = 0 if fate == "drop" else IGNORE
                continue
            name = NUCLEUS if self.untyped else new_names.get(old.name, old.name)
            new = table.setdefault(name, TissueClass(len(table), name, old.color))
            ids[old.id] = new.id
        if len(table) < 2:
            raise ConfigError(
                f"{self.where} leaves no class of {_listed([c.name for c in classes[1:]])}: keep one."
            )
        return Mapped(self._coloured(table), ids, fates, self.untyped)

    def _check_once(self) -> None:
        keys: dict[str, list[str]] = defaultdict(list)
        for old, key in (*((old, key) for old, _, key in self.names), *self.fates):
            keys[old].append(key)
        for old in self.keep or ():
            if any(old == fated for fated, _ in self.fates):
                keys[old].append("keep")
        for old, found in keys.items():
            if len(found) > 1:
                raise ConfigError(
                    f"{self.where} maps {old!r} twice, by {' and '.join(found)}: keep one of them."
                )

    def _check_untyped(self) -> None:
        others = [key for _, _, key in self.names] + [key for _, key in self.fates if key != "drop"]
        others += ["keep"] if self.keep is not None else []
        if self.untyped and others:
            raise ConfigError(
                f"{self.where} has `types: none` and `{others[0]}`: without types, classes can only be "
                "dropped. Keep one of them."
            )

    def _check_names(self, classes: Sequence[TissueClass]) -> None:
        background, old_names = classes[0].name, [c.name for c in classes[1:]]
        given = [(old, key) for old, _, key in self.names] + list(self.fates)
        new_names = [new for _, new, _ in self.names]
        for name, key in (*given, *((name, "keep") for name in self.keep or ())):
            allowed = [*old_names, *new_names] if key == "keep" else old_names
            if name == background:
                raise ConfigError(f"{self.where}: {key} has {name!r}, which always stays class 0.")
            if name not in allowed:
                raise ConfigError(f"{self.where}: {key} has {name!r}, {_no_class(name, allowed)}")
        for new in new_names:
            if new.lower() in (background.lower(), "background"):
                raise ConfigError(f"{self.where} makes classes {new!r}: to do that, `drop` them.")
        self._check_clashes(classes)

    def _check_clashes(self, classes: Sequence[TissueClass]) -> None:
        """One name for several classes is no slip in a merge only."""
        fates = self._all_fates(classes)
        by_name = {old: (new, key) for old, new, key in self.names}
        ways: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for old in classes[1:]:
            if old.id not in fates:
                new, key = by_name.get(old.name, (old.name, ""))
                ways[new].append((old.name, key))
        for new, olds in ways.items():
            if len(olds) > 1 and any(key != "merge" for _, key in olds):
                names = ", ".join(old for old, _ in olds)
                raise ConfigError(
                    f"{self.where} gives the name {new!r} to several classes ({names}): if they are one, "
                    f"use merge: {{{new}: [{names}]}}."
                )

    def _all_fates(self, classes: Sequence[TissueClass]) -> dict[int, str]:
        fates = dict(self.fates)
        if self.keep is not None:
            kept = {*self.keep, *(old for old, _, _ in self.names)}
            fates = {c.name: "ignore" for c in classes[1:] if c.name not in kept} | fates
        return {c.id: fates[c.name] for c in classes[1:] if c.name in fates}

    def _coloured(self, table: dict[str, TissueClass]) -> tuple[TissueClass, ...]:
        names = list(table)[1:]
        for name, color in self.colors.items():
            if name not in names:
                raise ConfigError(f"{self.where}: colors has {name!r}, {_no_class(name, names)}")
            table[name] = replace(table[name], color=color)
        return tuple(table.values())


def _names(top: Section) -> tuple[tuple[str, str, str], ...]:
    renamed = tuple((old, new, "rename") for old, new in _texts(top, "rename").items())
    merge, new_names = _under(top, "merge")
    for new in new_names:
        if not merge.get(new, list):
            raise ConfigError(f"{merge.at(new)} names no class: list those to merge.")
    return (*renamed, *((old, new, "merge") for new in new_names for old in merge.texts(new)))


def _texts(top: Section, key: str) -> dict[str, str]:
    section, names = _under(top, key)
    return {name: section.get(name, str) for name in names}


def _under(top: Section, key: str) -> tuple[Section, tuple[str, ...]]:
    """A mapping whose keys are names of classes, and these."""
    given = {str(name): value for name, value in top.get(key, dict, {}).items()}
    return Section(given, top.at(key), tuple(given)), tuple(given)


def _no_class(name: str, names: Collection[str]) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are {_listed(names)}."
    return f"which is no class: {hint}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "none"
