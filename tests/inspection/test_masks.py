"""Planted faults of masks, and healthy ones in which nothing is found."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from tissueseg.contracts import IGNORE
from tissueseg.errors import TissueDataError
from tissueseg.inspection.cell_oddities import cell_oddities
from tissueseg.inspection.findings import Oddity
from tissueseg.inspection.masks import MaskFacts, measure_masks
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.store import layout
from tissueseg.store.layout import CLASSES, INSTANCES
from tissueseg.store.planes import Tissue
from tissueseg.tables.cells import measure_cells

from .conftest import Write


def facts_of(write: Write, tissue: Tissue) -> MaskFacts:
    return measure_masks(TissuePixels(write({"a": tissue}), "a"))


def odd(write: Write, tissue: Tissue, mpp: float | None = 0.5) -> list[Oddity]:
    return list(cell_oddities("a", facts_of(write, tissue), mpp))


def squares(side: int, gap: int = 4, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Square cells of class 1 on a grid."""
    rows, columns = np.mgrid[:size, :size] // (side + gap)
    inside = np.logical_and(*(np.mgrid[:size, :size] % (side + gap) < side))
    instances = np.where(inside, 1 + rows * size + columns, 0).astype(np.int32)
    return instances, (instances > 0).astype(np.uint8)


def flat(instances: np.ndarray, classes: np.ndarray) -> Tissue:
    return Tissue(instances, classes, np.zeros((3, *instances.shape), np.uint8))


def test_healthy_masks_are_silent(write: Write, drawn: tuple[Tissue, ...]) -> None:
    assert odd(write, drawn[0]) == []


def test_what_is_counted_is_what_is_there(write: Write, tissue: Tissue) -> None:
    facts = facts_of(write, tissue)
    ids, areas = np.unique(tissue.instances[tissue.instances > 0], return_counts=True)
    assert facts.instances == len(ids)
    assert facts.median_px == np.median(areas)
    np.testing.assert_array_equal(facts.areas_px, np.sort(areas))
    kinds = [tissue.classes[tissue.instances == i][0] for i in ids]
    assert facts.per_class == tuple(np.bincount(kinds, minlength=10).tolist())
    assert facts.grid.counts.sum() == len(ids)


def test_windows_change_nothing_but_what_lies_on_their_seams(
    write: Write, tissue: Tissue, monkeypatch: pytest.MonkeyPatch
) -> None:
    y, x = np.argwhere(tissue.instances == 0)[0]
    tissue.instances[y, x] = tissue.instances.max()  # far from the rest of it
    tissue.classes[y, x] = 1
    store = write({"a": tissue})
    whole = measure_masks(TissuePixels(store, "a"))
    monkeypatch.setattr(layout, "shard_px", lambda *_: (100, 100))
    parts = measure_masks(TissuePixels(store, "a"))
    assert whole.unasked == 0
    assert parts.unasked > 10
    assert (whole.reused, whole.split) == (1, 0)
    for name in (
        "instances",
        "per_class",
        "unknown",
        "fragments",
        "median_px",
        "mixed",
        "stray_px",
    ):
        assert getattr(parts, name) == getattr(whole, name)
    np.testing.assert_array_equal(parts.areas_px, whole.areas_px)


def test_a_cell_across_a_seam_is_one_piece(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    store = write({"a": flat(*squares(10))})
    monkeypatch.setattr(layout, "shard_px", lambda *_: (33, 33))
    facts = measure_masks(TissuePixels(store, "a"))
    assert facts.unasked > 0
    assert (facts.split, facts.reused) == (0, 0)


def test_no_cell_at_all(write: Write) -> None:
    nothing = np.zeros((40, 40), np.int32)
    (found,) = odd(write, flat(nothing, nothing.astype(np.uint8)))
    assert found.level == "warning"
    assert found.what == "instance mask without a cell"


def test_an_id_used_twice_is_told_from_a_cell_in_two_pieces(write: Write) -> None:
    instances, classes = squares(10)
    last = instances.max()
    instances[instances == last] = instances[0, 0]  # the far corner
    instances[14 + 4, 14:24] = 0  # a row through another
    (twice, split) = odd(write, flat(instances, np.where(instances > 0, classes, 0)))
    assert (twice.level, twice.what) == ("warning", "ids used twice, for cells far apart")
    assert "in up to 2 pieces" in twice.advice
    assert split.what == "instances split in pieces near each other"
    assert split.shown.startswith("1 of 48")


def test_a_tissue_mask_given_as_instances_is_found(write: Write) -> None:
    instances, classes = squares(10)
    found = {o.what: o for o in odd(write, flat((instances > 0).astype(np.int32), classes))}
    assert "in up to 49 pieces" in found["ids used twice, for cells far apart"].advice


@pytest.mark.parametrize(("planted", "level"), [(1, "notice"), (49, "warning")])
def test_specks_warn_when_they_are_many(write: Write, planted: int, level: str) -> None:
    instances, classes = squares(8, size=140)
    for i in range(planted):
        y, x = 10 + 12 * (i // 8), 10 + 12 * (i % 8)
        instances[y, x : x + 2], classes[y, x : x + 2] = 100_000 + i, 1
    found = {o.what: o for o in odd(write, flat(instances, classes))}
    assert found["instances of at most 3 px"].level == level
    assert found["instances of at most 3 px"].shown.startswith(f"{planted} of ")


@pytest.mark.parametrize(
    ("mpp", "what"), [(0.05, "small cells"), (0.5, None), (4.0, "large cells"), (None, None)]
)
def test_cells_of_the_wrong_size_ask_for_the_scale(
    write: Write, tissue: Tissue, mpp: float | None, what: str | None
) -> None:
    found = [o for o in odd(write, tissue, mpp) if o.what.endswith("cells")]
    assert [o.what for o in found] == ([what] if what else [])
    for o in found:
        assert "is mpp wrong" in o.advice
        assert f"px at {mpp:g} µm/px is" in o.shown


def test_tiny_cells_say_their_size(write: Write) -> None:
    (found,) = odd(write, flat(*squares(2)))
    assert found.shown == "median area 4 px at 0.5 µm/px is 1.1 µm across"


def test_a_merged_area_is_no_cell(write: Write, tissue: Tissue) -> None:
    tissue.instances[:130, :130], tissue.classes[:130, :130] = 99_999, 2
    found = {o.what: o for o in odd(write, tissue)}
    assert found["instances of more than 60 µm across"].shown == "1, the largest 73 µm"


def test_cells_with_two_classes(write: Write) -> None:
    instances, classes = squares(10)
    classes[:5] *= 2  # the upper halves of a row
    classes[14:24, 14:24] = IGNORE
    classes[14:16, 14:24] = 1  # partly unknown is not two classes
    found = {o.what: o for o in odd(write, flat(instances, classes))}
    assert found["instances with several classes"].shown.startswith("7 of 49")
    assert found["instances with several classes"].level == "warning"
    assert found["cells of unknown class"].shown.startswith("1 of 49")
    assert found["cells of unknown class"].level == "notice"
    assert len(found) == 2


def test_classes_of_no_cell_are_noticed(write: Write, tissue: Tissue) -> None:
    y, x = np.argwhere(tissue.instances == 0)[5]
    tissue.classes[y, x] = 3
    (found,) = odd(write, tissue)
    assert found.what == "class pixels outside every instance"
    assert (found.level, found.shown) == ("notice", "1 px")


def test_the_class_of_most_pixels_is_the_cells(write: Write) -> None:
    instances, classes = np.zeros((9, 9), np.int32), np.zeros((9, 9), np.uint8)
    instances[2:8, 2:8], classes[2:8, 2:8] = 5, 2
    classes[2, 2:8] = 1
    assert facts_of(write, flat(instances, classes)).per_class[:3] == (0, 0, 1)


def test_a_cell_has_one_class_for_all_who_count(write: Write) -> None:
    """Two of three pixels are unknown; of a tie the lower class is taken, wherever it comes first."""
    instances = np.array([[1, 1, 1, 0, 2, 2, 3]], np.int32)
    classes = np.array([[1, IGNORE, IGNORE, 0, 2, 1, 2]], np.uint8)
    store = write({"a": flat(instances, classes)})
    facts, cells = measure_masks(TissuePixels(store, "a")), measure_cells(store, "a")
    assert cells.classes.tolist() == [IGNORE, 1, 2]
    assert (facts.per_class[:3], facts.unknown) == ((0, 1, 1), 1)
    counted = store.attributes("a")["instances_per_class"]
    assert (counted[:3], counted[-1]) == ([0, 1, 1], 1)


@pytest.mark.parametrize(
    ("array", "value", "said"), [(CLASSES, 200, "class 200"), (INSTANCES, -4, "instance -4")]
)
def test_ids_that_no_store_is_written_with_are_one_line(
    write: Write, tissue: Tissue, array: str, value: int, said: str
) -> None:
    store = write({"a": tissue})
    stored = zarr.open_array(store.path / "a" / array / "0", mode="r+")
    stored[3, 5] = value
    with pytest.raises(
        TissueDataError, match=f"tissue a: masks of .* hold {said}, wanted"
    ) as caught:
        measure_masks(TissuePixels(store, "a"))
    assert "\n" not in str(caught.value)
