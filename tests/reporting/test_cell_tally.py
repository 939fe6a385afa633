"""Cells counted part by part: the same as counted at once, and what histograms say of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.reporting.cell_tally import LARGEST_PX, CellTally
from tissueseg.store.planes import Window

SCHEMA = CellSchema("t", 0.5, ((1, "tumor", "#ff0000"), (2, "immune", "#00ff00")))


def cells(count: int, seed: int = 0, shape: tuple[int, int] = (600, 700)) -> CellTable:
    rng = np.random.default_rng(seed)
    columns = {
        "id": rng.permutation(5 * count)[:count].astype(np.int64) + 1,
        "x_px": rng.uniform(0, shape[1], count),
        "y_px": rng.uniform(0, shape[0], count),
        "area_px": rng.integers(1, 900, count),
        "at_edge": rng.random(count) < 0.2,
        "type": rng.integers(1, 3, count),
        "type_prob": rng.random(count),
    }
    return CellTable(columns)


def part(table: CellTable, chosen: slice) -> CellTable:
    return CellTable({name: values[chosen] for name, values in table.columns.items()})


@settings(deadline=None, max_examples=20)
@given(count=st.integers(1, 300), cut=st.integers(0, 300), seed=st.integers(0, 99))
def test_parts_add_up_to_the_whole(count: int, cut: int, seed: int) -> None:
    table = cells(count, seed)
    at_once, in_parts = (CellTally(SCHEMA, (600, 700)) for _ in range(2))
    at_once.add(table)
    for chosen in (slice(cut, None), slice(0, cut)):
        in_parts.add(part(table, chosen))
    assert in_parts.counts() == at_once.counts()
    assert in_parts.densest() == at_once.densest()
    np.testing.assert_array_equal(in_parts.types_of_ids, at_once.types_of_ids)
    columns = table.columns
    np.testing.assert_array_equal(at_once.types_of_ids[columns["id"]], columns["type"])
    assert np.count_nonzero(at_once.types_of_ids) == count
    found = at_once.counts()
    assert found.total == count
    assert [t.cells for t in found.types] == [(columns["type"] == i).sum() for i in (1, 2)]
    assert found.at_edge == columns["at_edge"].sum()
    for histogram in (found.area, found.type_prob):
        assert histogram is not None
        assert sum(histogram.counts) + histogram.beyond == count


def test_areas_are_binned_in_um2_with_the_largest_beyond() -> None:
    areas = np.array([4] * 999 + [40_000, 10 * LARGEST_PX])
    tally = CellTally(SCHEMA, (64, 64))
    tally.add(CellTable({"id": np.arange(1, 1002), "area_px": areas} | places(1001)))
    found = tally.counts().area
    assert found is not None
    assert (found.unit, found.beyond) == ("µm²", 2)
    assert found.edges[:2] == (0, 0.25)  # one pixel
    assert found.counts == (0, 0, 0, 0, 999)
    no_scale = CellTally(CellSchema("t", None, SCHEMA.types), (64, 64))
    no_scale.add(CellTable({"id": np.array([1]), "area_px": np.array([100])} | places(1)))
    found = no_scale.counts().area
    assert found is not None
    assert found.unit == "px"
    assert found.edges[1] == 3  # 101 px in at most 40 bins


def places(count: int) -> dict[str, np.ndarray]:
    return {"x_px": np.zeros(count), "y_px": np.zeros(count), "type": np.ones(count, int)}


def test_cells_without_types_have_no_histogram_of_their_probabilities() -> None:
    tally = CellTally(SCHEMA, (64, 64))
    tally.add(CellTable({"id": np.array([7]), "area_px": np.array([9])} | places(1)))
    assert tally.counts().type_prob is None


def test_types_that_no_schema_knows_are_counted_too() -> None:
    tally = CellTally(SCHEMA, (64, 64))
    columns = {"id": np.array([7]), "area_px": np.array([9])} | places(1)
    tally.add(CellTable(columns | {"type": np.array([9])}))
    found = tally.counts()
    assert [(t.name, t.cells) for t in found.types][-1] == ("unknown (9)", 1)
    assert found.total == 1


def test_nothing_at_all_is_counted_as_nothing() -> None:
    tally = CellTally(SCHEMA, (2000, 2000))
    tally.add(part(cells(3), slice(0, 0)))
    found = tally.counts()
    assert (found.total, found.area, found.type_prob) == (0, None, None)
    assert tally.densest() == []
    assert tally.types_of_ids.tolist() == [0]


@pytest.mark.parametrize("corner", [(0, 0), (1400, 1500)])
def test_the_densest_place_holds_the_crowd(corner: tuple[int, int]) -> None:
    tally, crowd = CellTally(SCHEMA, (2000, 2100)), cells(400, shape=(400, 400))
    crowd.columns["y_px"] += corner[0]
    crowd.columns["x_px"] += corner[1]
    tally.add(crowd)
    first: Window = tally.densest()[0]
    y, x = crowd.columns["y_px"], crowd.columns["x_px"]
    inside = (y >= first.y) & (y < first.y + 512) & (x >= first.x) & (x < first.x + 512)
    assert inside.mean() > 0.8
    assert first[2:] == (512, 512)
    small = CellTally(SCHEMA, (512, 300))
    small.add(cells(50, shape=(512, 300)))
    assert small.densest() == []  # one would be all there is
