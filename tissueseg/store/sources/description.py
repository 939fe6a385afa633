"""The short YAML that describes a folder of images: read, checked and turned into plain types.

Everything a user can get wrong in it is said here, with file and key, before an image is opened.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Collection, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tissueseg.contracts import IGNORE, TissueClass
from tissueseg.errors import ConfigError
from tissueseg.store.reading.claims import COARSEST_MPP
from tissueseg.store.reading.rasters import IMAGE_SUFFIXES, MASK_SUFFIXES, TABLE_SUFFIXES
from tissueseg.store.reading.yaml_text import load_yaml
from tissueseg.store.sources.channels import ChannelList

_COLORS = ("#000000", "#e6194b", "#3cb44b", "#4363d8", "#ffe119", "#f58231", "#911eb4", "#46f0f0")
_COLORS += ("#f032e6", "#bcf60c", "#fabebe", "#008080", "#e6beff", "#9a6324", "#800000", "#808000")


@dataclass(frozen=True)
class TypeTable:
    """A table that gives each instance its class."""

    file: str  # pattern with {id}
    id: str = "id"  # column of instance ids
    type: str = "type"  # column of class names, their `types`, or class ids
    untyped: tuple[str, ...] = ()  # values that mean: not known


@dataclass(frozen=True)
class Description:
    """What the YAML says; patterns are paths inside the folder with `{id}` for the tissue."""

    mpp: float | None  # µm per pixel; None: stated as unknown
    images: dict[str, str]  # he, sp -> pattern
    instances: str | None  # pattern of the instance masks; None: tissues without labels
    class_image: str | None  # pattern of the class images
    types: TypeTable | None
    ignore: str | None  # pattern of the masks of unclear regions
    classes: tuple[TissueClass, ...]
    type_ids: dict[str, int]  # what may stand in a table -> class id
    channels: ChannelList
    patient: re.Pattern[str] | None  # on the id; None: every tissue is its own patient
    tissues: tuple[str, ...] | None  # the ids to take; None: all there are
    untyped: str  # error | ignore

    @property
    def patterns(self) -> tuple[str, ...]:
        """Every file a tissue has, first image first."""
        table = self.types.file if self.types else None
        masks = (self.instances, self.class_image, table, self.ignore)
        return (*self.images.values(), *(pattern for pattern in masks if pattern))


def read_description(path: Path) -> Description:
    """Read and check a description.

    Raises:
        ConfigError: one line with file, key, what stands there and what to write.
    """
    known = ("mpp", "images", "masks", "classes", "channels", "patient", "tissues", "untyped")
    top = open_description(path, known)
    given = top.get("masks", dict, None)
    masks = Section({} if given is None else given, top.at("masks"), _MASKS)
    instances = None if given is None else masks.require_pattern("instances", MASK_SUFFIXES)
    types = parse_types(masks)
    class_image = masks.pattern("classes", MASK_SUFFIXES, None)
    if types and class_image:
        raise ConfigError(f"{masks.where} gives both `classes` and `types`: keep one of them.")
    if class_image and class_image == masks.pattern("instances", MASK_SUFFIXES, None):
        raise ConfigError(
            f"{masks.where} gives one file for `instances` and `classes`: cells need ids."
        )
    images = _images(top)
    if instances in images.values():
        raise ConfigError(
            f"{masks.at('instances')} is {instances!r}, which is the image: name the mask."
        )
    named = instances is None and names_classes(top)
    classes, type_ids = parse_classes(top, needed=bool(types or class_image or named))
    channels = top.get("channels", (list, dict), None)
    return Description(
        mpp=parse_mpp(top),
        images=images,
        instances=instances,
        class_image=class_image,
        types=types,
        ignore=masks.pattern("ignore", MASK_SUFFIXES, None),
        classes=classes,
        type_ids=type_ids,
        channels=ChannelList.parse(channels if "sp" in images else None, top.at("channels")),
        patient=parse_patient(top),
        tissues=top.texts("tissues") or None,
        untyped=top.choice("untyped", ("error", "ignore")),
    )


def names_classes(top: Section) -> bool:
    """Whether classes are listed: without labels they need not be, but may."""
    return top.get("classes", list, None) is not None


def open_description(path: Path, known: Collection[str]) -> Section:
    """The YAML of a description, whose keys are among the known ones."""
    try:
        value = load_yaml(path, _UniqueKeyLoader)
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read: {error}. Mend the file.") from error
    return Section(value, str(path), known)


class Section:
    """A mapping of the description, asked key by key so that errors name file and key.

    Raises:
        ConfigError: not a mapping, or keys it does not know.
    """

    def __init__(self, value: Any, where: str, known: Collection[str]) -> None:
        self.where, self._value = where, value
        if not isinstance(value, dict):
            raise ConfigError(f"{where} holds {value!r}, wanted keys: {', '.join(known)}.")
        for key in value:
            if key not in known:
                close = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}."
                raise ConfigError(f"{where} has the unknown key {key!r}: {hint}")

    def at(self, key: str) -> str:
        """File and key, for messages."""
        return f"{self.where}{'.' if ': ' in self.where else ': '}{key}"

    def get(self, key: str, kind: type | tuple[type, ...], *default: Any) -> Any:
        """A value of the wanted type; without default the key must be there."""
        value = self._value.get(key)
        if value is None:
            if default:
                return default[0]
            raise ConfigError(f"{self.at(key)} is missing.")
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(dict.fromkeys(_KINDS[k] for k in kinds))
            raise ConfigError(f"{self.at(key)} is {value!r}, wanted {wanted}.")
        if isinstance(value, str) and not value.strip():
            raise ConfigError(f"{self.at(key)} is empty text: say what is meant, or leave it out.")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of words, each once; empty when it is not there."""
        words = (str(word) for word in self.get(key, list, []))  # ids may look like numbers
        return tuple(dict.fromkeys(words))

    def choice(self, key: str, options: tuple[str, ...]) -> str:
        """One of some words; the first is the default."""
        value = self.get(key, str, options[0])
        if value not in options:
            raise ConfigError(f"{self.at(key)} is {value!r}: choose {' or '.join(options)}.")
        return value

    def pattern(self, key: str, suffixes: tuple[str, ...], *default: None) -> str | None:
        """A file pattern with `{id}` and a suffix that can be read."""
        value = self.get(key, str, *default)
        if value is None:
            return None
        if "{id}" not in value:
            raise ConfigError(f"{self.at(key)} is {value!r}: put {{id}} where the tissue stands.")
        if not value.lower().endswith(suffixes):
            raise ConfigError(f"{self.at(key)} is {value!r}, wanted {', '.join(suffixes)}.")
        return value

    def require_pattern(self, key: str, suffixes: tuple[str, ...]) -> str:
        """A file pattern that must be there."""
        return str(self.pattern(key, suffixes))


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, but a key given twice is an error and not a lost line; and without aliases.

    Ten lines of aliases to aliases become gigabytes as soon as a message shows them.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases such as *{self.peek_event().anchor} are not read")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.YAMLError(f"{', '.join(twice)} is given twice{node.start_mark}")
        return super().construct_mapping(node, deep)


UNKNOWN = "unknown"
_KINDS = {str: "text", list: "a list", dict: "keys with values", float: "a number", int: "a number"}
_MASKS = ("instances", "classes", "types", "ignore")


def parse_mpp(top: Section) -> float | None:
    """µm per pixel; None: stated as unknown."""
    mpp = top.get("mpp", (float, int, str))
    if mpp == UNKNOWN:
        return None
    if isinstance(mpp, str) or not 0 < mpp <= COARSEST_MPP:
        raise ConfigError(
            f"{top.at('mpp')} is {mpp!r}, wanted µm per pixel (0 to {COARSEST_MPP:g}) or {UNKNOWN}."
        )
    return float(mpp)


def _images(top: Section) -> dict[str, str]:
    images = Section(top.get("images", dict), top.at("images"), ("he", "sp"))
    patterns = {kind: images.pattern(kind, IMAGE_SUFFIXES, None) for kind in ("he", "sp")}
    given = {kind: pattern for kind, pattern in patterns.items() if pattern}
    if not given:
        raise ConfigError(f"{images.where} is empty: give he, sp or both.")
    return given


def parse_types(masks: Section, need_file: bool = True) -> TypeTable | None:
    """The table of types and its columns; its `file` may be "" where something else names it."""
    value = masks.get("types", (str, dict), None)
    if value is None:
        return None
    given = value if isinstance(value, dict) else {"file": value}
    table = Section(given, masks.at("types"), ("file", "id", "type", "untyped"))
    default = () if need_file else (None,)
    return TypeTable(
        table.pattern("file", TABLE_SUFFIXES, *default) or "",
        table.get("id", str, "id"),
        table.get("type", str, "type"),
        table.texts("untyped"),
    )


def parse_classes(top: Section, needed: bool) -> tuple[tuple[TissueClass, ...], dict[str, int]]:
    """The class table, and every word a table of types may use for a class."""
    default = () if needed else (["background", "nucleus"],)
    value, where = top.get("classes", list, *default), top.at("classes")
    sections = [_class_section(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
    classes = tuple(_class(i, section) for i, section in enumerate(sections))
    if not classes or classes[0].name.lower() != "background":
        raise ConfigError(f"{where} must begin with background: ids count from it, as 0.")
    if len(classes) > IGNORE:
        raise ConfigError(
            f"{where} names {len(classes)} classes, at most {IGNORE} fit: put several under one name, as "
            "{name: immune, types: [t_cell, b_cell]}."
        )
    if not needed and len(classes) != 2:
        raise ConfigError(
            f"{where} names {len(classes) - 1} classes, but masks give neither `classes` nor "
            "`types`: add one of them, or name a single class after background."
        )
    words = [
        (word, i)
        for i, section in enumerate(sections)
        for word in dict.fromkeys((classes[i].name, *section.texts("types")))
    ]
    if twice := [word for word, n in Counter(word for word, _ in words).items() if n > 1]:
        raise ConfigError(f"{where} gives {', '.join(twice)} to more than one class: keep one.")
    return classes, dict(words)


def _class_section(entry: Any, where: str) -> Section:
    given = entry if isinstance(entry, dict) else {"name": entry}
    return Section(given, where, ("name", "color", "types"))


def _class(position: int, section: Section) -> TissueClass:
    color = section.get("color", str, _COLORS[position % len(_COLORS)])
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", color):
        raise ConfigError(f"{section.at('color')} is {color!r}, wanted '#rrggbb'.")
    return TissueClass(position, section.get("name", str), color)


def parse_patient(top: Section) -> re.Pattern[str] | None:
    """The expression that finds the patient in an id."""
    value = top.get("patient", str, None)
    try:
        return re.compile(value) if value is not None else None
    except re.error as error:
        where = top.at("patient")
        raise ConfigError(f"{where} is {value!r}, no regular expression: {error}.") from error
