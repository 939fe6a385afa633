"""Masks and type tables of a folder: instances stay whole and get the class most of them has."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from folders import SIZE, first, refused, said
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from layouts import write_parquet

from tissueseg.contracts import IGNORE
from tissueseg.store.sources.folder import FolderSource
from tissueseg.store.sources.masks import clear_ignored, type_by_image


def save_masks(folder: Any, **masks: np.ndarray) -> None:
    """Give both tissues these masks, as npz; a mask's name is its pattern."""
    for kind, mask in masks.items():
        for name in ("a", "b"):
            np.savez(folder.path / f"{name}.{kind}.npz", other=np.zeros(3), **{kind: mask})


def describe_masks(folder: Any, *kinds: str, **changes: Any) -> None:
    folder.describe(masks={kind: f"{{id}}.{kind}.npz" for kind in kinds}, **changes)


def two_cells() -> np.ndarray:
    instances = np.zeros(SIZE, np.uint16)
    instances[2:12, 2:12] = 4
    instances[20:30, 20:30] = 9
    return instances


def test_without_classes_every_instance_is_a_nucleus(image_folder: Any) -> None:
    save_masks(image_folder, instances=two_cells())
    describe_masks(image_folder, "instances", classes=None)
    source = FolderSource(image_folder.path)
    tissue = source.open(source.tissues[0])
    assert [c.name for c in source.classes] == ["background", "nucleus"]
    np.testing.assert_array_equal(tissue.classes, two_cells() > 0)


def test_mixed_instance_takes_its_majority_class(image_folder: Any) -> None:
    classes = np.zeros(SIZE, np.uint8)
    classes[2:5, 2:12] = 1  # a third of cell 4, the rest of it is background
    classes[5:6, 2:12] = 2
    classes[20:30, 20:30] = 2
    classes[35:, :] = 1  # of no instance
    save_masks(image_folder, instances=two_cells(), classes=classes)
    describe_masks(image_folder, "instances", "classes")
    source = FolderSource(image_folder.path)
    tissue = source.open(source.tissues[0])
    assert (tissue.classes[two_cells() == 4] == 1).all()
    assert (tissue.classes[two_cells() == 9] == 2).all()
    assert (tissue.classes[35:] == 1).all()
    text = " ".join(said(tissue))
    assert "1 instances of several classes took the most frequent one" in text
    assert "240 pixels keep their class outside instances" in text


def test_untyped_instance_is_an_error_or_ignored(image_folder: Any, tmp_path: Path) -> None:
    classes = np.where(two_cells() == 4, 1, 0)
    save_masks(image_folder, instances=two_cells(), classes=classes)
    describe_masks(image_folder, "instances", "classes")
    message = refused(image_folder, tmp_path)
    assert message.startswith("tissue a: ")
    assert "a.classes.npz: 1 instances without class, such as [9]: give them a class" in message
    assert "(`untyped: ignore` in the YAML" in message
    describe_masks(image_folder, "instances", "classes", untyped="ignore")
    tissue = first(image_folder)
    assert (tissue.classes[two_cells() == 9] == IGNORE).all()
    np.testing.assert_array_equal(tissue.instances, two_cells())


def test_class_outside_the_table_is_refused(image_folder: Any, tmp_path: Path) -> None:
    save_masks(image_folder, instances=two_cells(), classes=np.full(SIZE, 3))
    describe_masks(image_folder, "instances", "classes")
    assert "tissue a: class mask holds id [3]" in refused(image_folder, tmp_path)


def test_ignore_mask_takes_instances_whole_or_not_at_all(image_folder: Any) -> None:
    ignore = np.zeros(SIZE, np.uint8)
    ignore[:8, :] = 1  # 6 of 10 rows of cell 4
    ignore[27:, :] = 255  # 3 of 10 rows of cell 9
    save_masks(image_folder, instances=two_cells(), ignore=ignore)
    describe_masks(image_folder, "instances", "ignore", classes=None)
    source = FolderSource(image_folder.path)
    tissue = source.open(source.tissues[0])
    np.testing.assert_array_equal(tissue.instances, np.where(two_cells() == 9, 9, 0))
    wanted = ((ignore > 0) | (two_cells() == 4)) & (two_cells() != 9)
    np.testing.assert_array_equal(tissue.classes == IGNORE, wanted)
    assert (tissue.classes[two_cells() == 9] == 1).all()
    text = " ".join(said(tissue))
    assert "1 instances ignored whole" in text
    assert "1 instances kept whole" in text


@pytest.mark.parametrize("value", [1, 255])
def test_foreground_mask_is_no_instance_mask(value: int, image_folder: Any, tmp_path: Path) -> None:
    save_masks(image_folder, instances=np.where(two_cells() > 0, value, 0))
    describe_masks(image_folder, "instances", classes=None)
    message = refused(image_folder, tmp_path)
    assert f"a.instances.npz holds one id ({value}) in 2 pieces" in message


def test_class_image_is_no_instance_mask(image_folder: Any, tmp_path: Path) -> None:
    masks = {"instances": "{id}.classes.png"}
    image_folder.describe(masks=masks, classes=None)
    assert "holds 2 ids in 30 pieces: it looks like a class image" in refused(
        image_folder, tmp_path
    )
    image_folder.describe(masks=masks | {"classes": "{id}.classes.png"})
    assert "one file for `instances` and `classes`" in refused(image_folder, tmp_path)


def test_a_tiff_is_not_read_as_the_png_it_claims_to_be(image_folder: Any, tmp_path: Path) -> None:
    sixteen_bit = np.full((40, 48, 3), 4000, np.uint16)
    tifffile.imwrite(image_folder.path / "a.he.png", sixteen_bit, photometric="rgb")
    assert "a.he.png holds a TIFF" in refused(image_folder, tmp_path)


@pytest.mark.parametrize(
    ("instances", "said"),
    [
        (np.zeros((*SIZE, 3), np.uint8), "wanted one integer per pixel"),
        (np.full(SIZE, 0.5), "wanted integers"),
        (np.zeros(7), "wanted one integer per pixel"),
        (np.zeros((39, 48), np.uint8), "instance mask is 39 × 48 px, but the H&E image is 40 × 48"),
        (np.full(SIZE, 2**40), "relabel them"),
    ],
)
def test_masks_that_are_none(
    instances: np.ndarray, said: str, image_folder: Any, tmp_path: Path
) -> None:
    save_masks(image_folder, instances=instances)
    describe_masks(image_folder, "instances", classes=None)
    assert said in refused(image_folder, tmp_path)


def test_class_and_ignore_masks_must_lie_on_the_instances(
    image_folder: Any, tmp_path: Path
) -> None:
    for kind in ("classes", "ignore"):
        save_masks(image_folder, instances=two_cells(), **{kind: np.ones((39, 48), np.uint8)})
        describe_masks(image_folder, "instances", kind, classes=["background", "x"])
        assert f"a.{kind}.npz is 39 × 48 px, but the instance mask is" in refused(
            image_folder, tmp_path
        )


def test_float_labels_are_integers_after_all(image_folder: Any) -> None:
    save_masks(image_folder, instances=two_cells().astype(np.float32))
    describe_masks(image_folder, "instances", classes=None)
    np.testing.assert_array_equal(first(image_folder).instances, two_cells())


def test_npz_with_other_names_is_refused(image_folder: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.savez(image_folder.path / f"{name}.m.npz", x=two_cells(), y=two_cells())
    image_folder.describe(masks={"instances": "{id}.m.npz"}, classes=None)
    assert "holds the arrays ['x', 'y']: name one 'instances'" in refused(image_folder, tmp_path)


def describe_types(folder: Any, text: str, **changes: Any) -> None:
    save_masks(folder, instances=two_cells())
    for name in ("a", "b"):
        (folder.path / f"{name}.csv").write_text(text, encoding="utf-8-sig")
    table = {"file": "{id}.csv", "id": "cell", "type": "kind", "untyped": ["unclear"]}
    classes = ["background", {"name": "tumor", "types": ["T1", "T2"]}, "immune"]
    masks = {"instances": "{id}.instances.npz", "types": table}
    folder.describe(**{"masks": masks, "classes": classes} | changes)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_types_are_painted(delimiter: str, image_folder: Any) -> None:
    text = "x,cell,kind\n0,4,immune\n0,9.0,T2\n0,77,1\n".replace(",", delimiter)
    describe_types(image_folder, text)
    source = FolderSource(image_folder.path)
    tissue = source.open(source.tissues[0])
    assert (tissue.classes[two_cells() == 4] == 2).all()
    assert (tissue.classes[two_cells() == 9] == 1).all()
    assert (tissue.classes[two_cells() == 0] == 0).all()
    assert "1 rows of types without an instance (tissue a)" in said(tissue)


def test_types_may_be_a_parquet_table(image_folder: Any) -> None:
    describe_types(image_folder, "")
    masks = {"instances": "{id}.instances.npz"}
    types = {"file": "{id}.parquet", "id": "cell", "type": "kind"}
    classes = ["background", {"name": "tumor", "types": ["None"]}, "immune"]
    image_folder.describe(masks=masks | {"types": types}, classes=classes, untyped="ignore")
    for name in ("a", "b"):
        columns = {"cell": [4, 9], "kind": ["None", None], "area": [1.5, 2]}
        write_parquet(image_folder.path / f"{name}.parquet", columns)
    found = first(image_folder).classes
    assert (found[two_cells() == 4] == 1).all()  # a class may be called so
    assert (found[two_cells() == 9] == IGNORE).all()


@pytest.mark.parametrize("row", ["", "9,\n", "9,NA\n", "9,unclear\n", "9,0\n"])
def test_instances_without_type(row: str, image_folder: Any, tmp_path: Path) -> None:
    describe_types(image_folder, "cell,kind\n4,tumor\n" + row)
    message = refused(image_folder, tmp_path)
    assert message.startswith("tissue a: ")
    assert "a.csv: 1 instances without class, such as [9]" in message
    describe_types(image_folder, "cell,kind\n4,tumor\n" + row, untyped="ignore")
    assert (first(image_folder).classes[two_cells() == 9] == IGNORE).all()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cell,type\n4,tumor\n", "wants ['kind']"),
        ("", "is empty, wanted a header"),
        ("cell,kind\n4,tumour\n", "line 2: type 'tumour' is none of"),
        ("cell,kind\n4,tumour\n", "did you mean tumor?"),
        ("cell,kind\n4,7\n", "type '7' is none of"),
        ("cell,kind\n4,tumor\n4,immune\n", "line 3: instance id 4 is given twice"),
        ("cell,kind\nx,tumor\n", "line 2: cell is 'x', wanted a number"),
        ("cell,kind\n4.5,tumor\n", "line 2: cell is '4.5', wanted a whole number"),
        ("cell,kind\n4,tumor\n9\n", "line 3 has 1 values, but 2 columns"),
        ('cell,kind\n4,"tumor\n', "cannot be read as a table"),
    ],
)
def test_tables_that_cannot_be_used(
    text: str, said: str, image_folder: Any, tmp_path: Path
) -> None:
    describe_types(image_folder, text)
    message = refused(image_folder, tmp_path)
    assert said in message
    assert "a.csv" in message


@given(
    hnp.arrays(np.int64, (6, 7), elements=st.sampled_from([0, 1, 2, 5, 90, 10**6])),
    hnp.arrays(np.bool_, (6, 7)),
)
def test_instances_are_never_cut(instances: np.ndarray, ignored: np.ndarray) -> None:
    cleared = clear_ignored(instances, ignored)
    for instance in np.unique(instances[instances > 0]):
        pixels = instances == instance
        inside = ignored[pixels].mean()
        assert (cleared.instances[pixels] == (instance if inside < 0.5 else 0)).all()
        assert (cleared.ignored[pixels] == (inside >= 0.5)).all()
    np.testing.assert_array_equal(cleared.ignored[instances == 0], ignored[instances == 0])


@given(
    hnp.arrays(np.int64, (6, 7), elements=st.sampled_from([0, 1, 2, 5, 10**6])),
    hnp.arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, IGNORE])),
)
def test_every_instance_gets_the_class_most_of_it_has(
    instances: np.ndarray, classes: np.ndarray
) -> None:
    painted = type_by_image(instances, classes, 3).classes
    np.testing.assert_array_equal(painted[instances == 0], classes[instances == 0])
    for instance in np.unique(instances[instances > 0]):
        found = classes[(instances == instance) & (classes > 0)]
        winner = Counter(sorted(found.tolist())).most_common(1)[0][0] if found.size else 0
        assert (painted[instances == instance] == winner).all()
