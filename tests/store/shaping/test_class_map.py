"""Classes mapped on their way into a store: tables, pixels, what is counted and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sources import MemorySource, assert_same
from stores import CLASSES

from tissueseg.contracts import IGNORE, TissueClass
from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.store.conversion import convert
from tissueseg.store.notices import gather
from tissueseg.store.planes import Planes, Tissue, Window, whole
from tissueseg.store.shaping.class_map import ClassMap, MappedSource

NAMES = ("background", "tumor", "T cell", "B cell", "debris", "unlabeled")
TABLE = tuple(TissueClass(i, name, f"#00000{i}") for i, name in enumerate(NAMES))


def strip(dtype: Any = np.uint8) -> Tissue:
    """Cell i of class i for every class, two pixels each; then the classes again, of no cell, and 255."""
    classes = np.repeat([0, 1, 2, 3, 4, 5], 2)
    instances = np.concatenate([classes, np.zeros(8, int)])[None]
    classes = np.concatenate([classes, [0, 1, 2, 3, 4, 5, IGNORE, 0]])[None].astype(dtype)
    instances[0, -1], classes[0, -1] = 9, IGNORE  # a cell of unknown type
    return Tissue(instances, classes, he=np.zeros((3, *classes.shape), np.uint8))


def mapped(spec: dict[str, Any], tissue: Tissue | None = None) -> MappedSource:
    source = MemorySource({"a": tissue or strip()}, {"a": 0.5}, TABLE)
    return MappedSource(source, ClassMap.parse(spec))


def table(source: MappedSource) -> list[tuple[int, str, str]]:
    return [(c.id, c.name, c.color) for c in source.classes]


def read(source: MappedSource) -> Planes:
    tissue = source.open("a")
    return tissue.read(whole(tissue.shape))


def assert_classes(planes: Planes, inside: list[int], outside: list[int]) -> None:
    """The classes of cells 1 … 5 and 9, and those of pixels of no cell, whose last one is ignored."""
    wanted = [*np.repeat([0, *inside[:-1]], 2), *outside, inside[-1]]
    assert planes.classes[0].tolist() == wanted


def test_an_empty_map_changes_nothing() -> None:
    source = mapped({})
    assert source.classes == TABLE
    assert_same(read(source), Planes(*strip()[:4]))
    assert (source.scale("a"), source.images, source.tissues) == (0.5, ("he",), ("a",))


def test_renamed_classes_keep_place_and_colour() -> None:
    source = mapped({"rename": {"T cell": "t_cell", "tumor": "cancer"}})
    assert [c.name for c in source.classes] == ["background", "cancer", "t_cell", *NAMES[3:]]
    assert [c.color for c in source.classes] == [c.color for c in TABLE]
    assert_same(read(source), Planes(*strip()[:4]))


def test_names_may_be_exchanged() -> None:
    source = mapped({"rename": {"T cell": "B cell", "B cell": "T cell"}})
    assert [c.name for c in source.classes][2:4] == ["B cell", "T cell"]


def test_merged_classes_take_the_place_of_the_first() -> None:
    source = mapped({"merge": {"lymphoid": ["B cell", "T cell"], "tumor": ["tumor", "debris"]}})
    assert table(source) == [
        (0, "background", "#000000"),
        (1, "tumor", "#000001"),
        (2, "lymphoid", "#000002"),
        (3, "unlabeled", "#000005"),
    ]
    assert_classes(read(source), [1, 2, 2, 1, 3, 255], [0, 1, 2, 2, 1, 3, 255])


def test_dropped_classes_become_background_with_their_cells() -> None:
    source = mapped({"drop": ["T cell", "debris"]})
    assert [c.name for c in source.classes] == ["background", "tumor", "B cell", "unlabeled"]
    planes = read(source)
    assert_classes(planes, [1, 0, 2, 0, 3, 255], [0, 1, 0, 2, 0, 3, 255])
    assert np.unique(planes.instances).tolist() == [0, 1, 3, 5, 9]
    assert planes.instances.dtype == strip().instances.dtype


def test_ignored_and_unknown_cells_stay_without_class() -> None:
    source = mapped({"ignore": ["debris"], "unknown": "unlabeled"})
    assert [c.name for c in source.classes] == list(NAMES[:4])
    planes = read(source)
    assert_classes(planes, [1, 2, 3, 255, 255, 255], [0, 1, 2, 3, 255, 255, 255])
    np.testing.assert_array_equal(planes.instances, strip().instances)


def test_what_is_not_kept_is_ignored() -> None:
    source = mapped({"keep": ["tumor"], "drop": ["debris"], "merge": {"immune": ["B cell"]}})
    assert [c.name for c in source.classes] == ["background", "tumor", "immune"]
    assert_classes(read(source), [1, 255, 2, 0, 255, 255], [0, 1, 255, 2, 0, 255, 255])
    by_new_name = mapped({"keep": ["immune"], "merge": {"immune": ["B cell"]}})
    assert [c.name for c in by_new_name.classes] == ["background", "immune"]


def test_without_types_every_cell_is_a_nucleus() -> None:
    source = mapped({"types": "none", "drop": ["debris"], "colors": {"nucleus": "#ABCDEF"}})
    assert table(source) == [(0, "background", "#000000"), (1, "nucleus", "#ABCDEF")]
    planes = read(source)
    assert_classes(planes, [1, 1, 1, 0, 1, 1], [0, 0, 0, 0, 0, 0, 255])
    assert np.unique(planes.instances).tolist() == [0, 1, 2, 3, 5, 9]


def test_without_types_class_ids_do_not_matter() -> None:
    tissue = strip()._replace(classes=np.full_like(strip().classes, 77))
    planes = read(mapped({"types": "none"}, tissue))
    np.testing.assert_array_equal(planes.classes, (tissue.instances > 0).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64])
def test_class_images_of_any_integers_are_mapped_alike(dtype: Any) -> None:
    planes = read(mapped({"drop": ["tumor"], "ignore": ["T cell"]}, strip(dtype)))
    assert_classes(planes, [0, 255, 1, 2, 3, 255], [0, 0, 255, 1, 2, 3, 255])


def test_ids_of_no_class_stay_for_the_check_to_name(tmp_path: Path) -> None:
    for strange in (6, 254, 256, 300, -1):
        tissue = strip(np.int32)
        tissue.classes[0, 14] = strange
        source = mapped({"drop": ["tumor", "T cell"]}, tissue)
        assert strange in read(source).classes
        with pytest.raises(TissueDataError, match=f"class mask holds id .*{strange}"):
            convert(source, tmp_path / "out.zarr")


def test_what_was_taken_out_is_counted_once_per_instance() -> None:
    spec = {"drop": ["debris"], "ignore": ["T cell"], "unknown": "unlabeled"}
    tissue = mapped(spec, strip()._replace(notices={"odd": 2})).open("a")
    for x in range(19):  # every instance in two windows
        tissue.read(Window(0, x, 1, 1))
    assert gather({"a": tissue.notices}) == (
        "odd (tissue a)",
        "1 instances ignored with class T cell (tissue a)",
        "1 instances dropped with class debris (tissue a)",
        "1 instances of unknown type, class unlabeled (tissue a)",
    )


def test_braces_in_a_name_do_not_break_the_notice() -> None:
    classes = (*CLASSES[:2], TissueClass(2, "{x}", "#000000"))
    source = MemorySource({"a": strip()}, classes=classes)
    tissue = MappedSource(source, ClassMap.parse({"drop": ["{x}"]})).open("a")
    tissue.read(whole(tissue.shape))
    assert gather({"a": tissue.notices}) == ("1 instances dropped with class {x} (tissue a)",)


def test_a_mapped_source_fills_a_store(make_tissue: Callable[..., Tissue], tmp_path: Path) -> None:
    source = MemorySource({"a": make_tissue()}, {"a": 0.5})
    spec = {"rename": {"immune": "lymphocyte"}, "drop": ["tumor"]}
    store = convert(MappedSource(source, ClassMap.parse(spec)), tmp_path / "out.zarr")
    assert [c.name for c in store.classes] == ["background", "lymphocyte"]
    found = store.read("a", "labels/classes", Window(0, 0, 40, 48))
    np.testing.assert_array_equal(found, make_tissue().classes == 2)


def test_a_map_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "map.yaml"
    spec = {"merge": {"immune": ["T cell", "B cell"]}, "unknown": "unlabeled"}
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    for given in (path, str(path), spec):
        found = ClassMap.read(given).apply(TABLE).classes
        assert [c.name for c in found] == ["background", "tumor", "immune", "debris"]


FILES = {
    "missing": (None, "map.yaml cannot be read"),
    "no yaml": ("drop: [", "map.yaml cannot be read"),
    "no text": ("\xff", "map.yaml cannot be read"),
    "empty": ("", "map.yaml holds None, wanted keys: rename, merge"),
    "line twice": ("rename:\n  a: b\n  a: c\n", "a is given twice"),
    "wrong": ("drop: tumor", "map.yaml: drop is 'tumor', wanted a list"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_cannot_be_used_is_refused(case: str, tmp_path: Path) -> None:
    text, message = FILES[case]
    if text is not None:
        (tmp_path / "map.yaml").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        ClassMap.read(tmp_path / "map.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


REFUSED = {
    "unknown key": ({"renam": {}}, "unknown key 'renam': did you mean rename?"),
    "no mapping": (["tumor"], "class_map holds ['tumor'], wanted keys"),
    "list for rename": ({"rename": ["a"]}, "class_map: rename is ['a'], wanted keys with values"),
    "number for a name": ({"rename": {"tumor": 3}}, "rename.tumor is 3, wanted text"),
    "text for merge": ({"merge": {"x": "tumor"}}, "merge.x is 'tumor', wanted a list"),
    "empty merge": ({"merge": {"x": []}}, "merge.x names no class"),
    "text for drop": ({"drop": "tumor"}, "drop is 'tumor', wanted a list"),
    "list for unknown": ({"unknown": ["a"]}, "unknown is ['a'], wanted text"),
    "other types": ({"types": "all"}, "types is 'all': choose given or none"),
    "colour": ({"colors": {"tumor": "red"}}, "colors.tumor is 'red', wanted '#rrggbb'"),
    "colour of none": (
        {"colors": {"tumour": "#000000"}},
        "colors has 'tumour', which is no class: did",
    ),
    "colour of background": ({"colors": {"background": "#000000"}}, "colors has 'background'"),
    "did you mean": (
        {"drop": ["Tumor"]},
        "drop has 'Tumor', which is no class: did you mean tumor?",
    ),
    "none alike": (
        {"ignore": ["zzz"]},
        "'zzz', which is no class: there are tumor, T cell, B cell",
    ),
    "keep of none": (
        {"keep": ["tumour"]},
        "keep has 'tumour', which is no class: did you mean tumor?",
    ),
    "merge of none": (
        {"merge": {"x": ["Bcell"]}},
        "merge has 'Bcell', which is no class: did you mean B",
    ),
    "twice": (
        {"rename": {"tumor": "x"}, "drop": ["tumor"]},
        "maps 'tumor' twice, by rename and drop: keep one",
    ),
    "twice by merges": (
        {"merge": {"x": ["tumor", "debris"], "y": ["debris"]}},
        "maps 'debris' twice, by merge and merge",
    ),
    "kept and dropped": ({"keep": ["tumor"], "drop": ["tumor"]}, "'tumor' twice, by drop and keep"),
    "unknown and ignored": (
        {"unknown": "debris", "ignore": ["debris"]},
        "'debris' twice, by ignore and unknown",
    ),
    "background dropped": ({"drop": ["background"]}, "'background', which always stays class 0"),
    "background merged": ({"merge": {"x": ["background"]}}, "which always stays class 0"),
    "to background": (
        {"rename": {"debris": "Background"}},
        "'Background': to do that, `drop` them",
    ),
    "clash": (
        {"rename": {"debris": "tumor"}},
        "gives the name 'tumor' to several classes (tumor, debris): if they are one, use merge: "
        "{tumor: [tumor, debris]}",
    ),
    "clash of new names": (
        {"rename": {"debris": "x", "tumor": "x"}},
        "use merge: {x: [tumor, debris]}",
    ),
    "clash of a merge": (
        {"merge": {"tumor": ["T cell", "B cell"]}},
        "use merge: {tumor: [tumor, T cell, B cell]}",
    ),
    "nothing left": (
        {"drop": list(NAMES[1:4]), "ignore": list(NAMES[4:])},
        "leaves no class of tumor",
    ),
    "nothing kept": ({"keep": []}, "leaves no class of tumor, T cell"),
    "no types to rename": (
        {"types": "none", "rename": {"tumor": "x"}},
        "has `types: none` and `rename`",
    ),
    "no types to keep": ({"types": "none", "keep": ["tumor"]}, "has `types: none` and `keep`"),
    "no types to ignore": ({"types": "none", "ignore": ["tumor"]}, "`types: none` and `ignore`"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_map_that_cannot_be_used_is_refused(case: str) -> None:
    spec, message = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        mapped(spec)  # pyright: ignore[reportArgumentType]  # what a user may write
    assert message in str(caught.value)
    assert str(caught.value).startswith("class_map")
    assert "\n" not in str(caught.value)


def test_a_name_that_was_given_up_may_be_used_again() -> None:
    source = mapped({"rename": {"T cell": "debris"}, "ignore": ["debris"]})
    assert [c.name for c in source.classes] == ["background", "tumor", "debris", *NAMES[3::2]]
