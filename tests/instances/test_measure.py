"""Tables of cells: their columns, by hand and against other libraries, and what is refused."""

import numpy as np
import pytest
from nuclei_made import made_nuclei
from scipy import ndimage
from scipy.spatial.distance import cdist
from skimage.measure import regionprops

from tissueseg.errors import ConfigError, TissueDataError
from tissueseg.instances.boxes import Box
from tissueseg.instances.cell_table import COLUMNS, CellSchema
from tissueseg.instances.measure import CellWindow, measure

TYPES = ((1, "tumor", "#ff0000"), (2, "immune", "#00ff00"), (3, "other", "#0000ff"))
SCHEMA = CellSchema("a", 0.5, TYPES, ("DAPI", "CD3"), 5)


def window(labels, *, box=None, seed=0, own=None, **changed):
    """Of a tissue that goes on beyond it, with every image."""
    rng = np.random.default_rng(seed)
    height, width = labels.shape
    classes = rng.random((4, height, width), dtype=np.float32)
    images = {
        "classes": classes / classes.sum(axis=0),
        "he": rng.integers(0, 256, (3, height, width), dtype=np.uint8),
        "sp": rng.integers(0, 65536, (2, height, width), dtype=np.uint16),
        "features": rng.normal(size=(5, 113, 113)).astype(np.float32),
        "stride_px": 8,
    }
    own = np.unique(labels[labels > 0]) if own is None else np.array(own)
    box = box or Box(40, 60, height, width)
    return CellWindow(labels, own, box, (900, 900), **(images | changed))


NUCLEI = made_nuclei(200, 0.5, "dense", seed=3).astype(np.int64)
NUCLEI = np.where(NUCLEI > 0, NUCLEI * 1000 + 2**40, 0)


def expected_columns():
    """As COLUMNS lists them, with names for placeholders."""
    for column, _ in COLUMNS:
        if column == "prob_<class>":
            yield from (f"prob_{name}" for _, name, _ in TYPES)
        elif "<channel>" in column:
            yield from (column.replace("<channel>", name) for name in SCHEMA.channels)
        else:
            yield column


def test_columns_are_those_promised_in_their_order():
    table = measure(window(NUCLEI), SCHEMA)
    assert list(table.columns) == list(expected_columns())
    assert {len(values) for values in table.columns.values()} == {len(table)}
    assert table.embedding.shape == (len(table), 5)
    assert len(table.outlines.cells) == len(table) + 1
    kinds = {name: values.dtype for name, values in table.columns.items()}
    assert kinds["id"] == kinds["type"] == np.int64
    assert kinds["at_edge"] == np.bool_


def test_what_is_not_there_has_no_columns():
    bare = {"classes": None, "he": None, "sp": None, "features": None}
    table = measure(window(NUCLEI, **bare), CellSchema("a", None, TYPES, ("DAPI",)))
    wanted = ["id", "x_px", "y_px", "left_px", "top_px", "right_px", "bottom_px", "area_px"]
    wanted += ["perimeter_px", "eccentricity", "at_edge", "contact"]
    assert list(table.columns) == [*wanted, "type", "type_name", "type_prob"]
    assert table.embedding is None
    assert set(table.columns["type"]) == {1}
    assert set(table.columns["type_name"]) == {"tumor"}
    assert set(table.columns["type_prob"]) == {1}


def test_a_window_without_cells_has_all_columns_and_no_rows():
    nothing = np.zeros((20, 30), np.int32)
    table, full = measure(window(nothing), SCHEMA), measure(window(NUCLEI), SCHEMA)
    assert len(table) == len(table.embedding) == 0
    kinds = {name: values.dtype for name, values in table.columns.items()}
    assert kinds == {name: values.dtype for name, values in full.columns.items()}
    assert table.embedding.shape == (0, 5)
    assert table.outlines.cells.tolist() == [0]


def test_places_are_those_of_the_tissue_in_px_and_um():
    found = measure(window(NUCLEI), SCHEMA).columns
    alone = regionprops(np.searchsorted(np.unique(NUCLEI), NUCLEI))
    boxes = np.array([one.bbox for one in alone]) + np.array([40, 60, 40, 60])
    sides = ("top", "left", "bottom", "right")
    np.testing.assert_array_equal([found[f"{s}_px"] for s in sides], boxes.T)
    np.testing.assert_array_equal([found[f"{s}_um"] for s in sides], boxes.T / 2)
    centres = np.array([one.centroid for one in alone]) + np.array([40.5, 60.5])
    np.testing.assert_allclose([found["y_px"], found["x_px"]], centres.T)
    np.testing.assert_allclose([found["y_um"], found["x_um"]], centres.T / 2)
    np.testing.assert_array_equal(found["area_um2"], found["area_px"] / 4)
    np.testing.assert_array_equal(found["perimeter_um"], found["perimeter_px"] / 2)


def test_intensities_in_nuclei_and_rings_equal_a_loop():
    seen = window(NUCLEI)
    found = measure(seen, SCHEMA, ring_um=1.5).columns
    distance = ndimage.distance_transform_edt(NUCLEI == 0)
    near, nuclei = np.argwhere((distance > 0) & (distance <= 3)), np.argwhere(NUCLEI > 0)
    nearest = cdist(near, nuclei, "sqeuclidean").argmin(axis=1)  # of several the first as one reads
    owner = np.zeros_like(NUCLEI)
    owner[tuple(near.T)] = NUCLEI[tuple(nuclei[nearest].T)]
    for row in range(0, len(seen.own), 9):
        inside, ring = seen.own[row] == NUCLEI, seen.own[row] == owner
        for c, name in enumerate(SCHEMA.channels):
            for prefix, pixels in (("", inside), ("ring_", ring)):
                values = seen.sp[c][pixels]
                assert found[f"{prefix}median_{name}"][row] == np.median(values)
                assert found[f"{prefix}mean_{name}"][row] == pytest.approx(values.mean())


@pytest.mark.parametrize("mpp", [0.5, None])
def test_a_ring_is_at_least_one_pixel_wide(mpp):
    labels = np.zeros((7, 7), int)
    labels[2:5, 2:5] = 1
    seen, schema = window(labels), CellSchema("a", mpp, TYPES, ("DAPI", "CD3"), 5)
    found = measure(seen, schema, ring_um=0.1, ring_px=0.2).columns
    around = seen.sp[0][[1, 1, 1, 2, 3, 4, 2, 3, 4, 5, 5, 5], [2, 3, 4, 1, 1, 1, 5, 5, 5, 2, 3, 4]]
    assert found["ring_median_DAPI"][0] == np.median(around)
    assert found["ring_mean_DAPI"][0] == pytest.approx(around.mean())


def test_no_room_for_a_ring_is_nan():
    labels = np.ones((9, 9), int)
    labels[4, 4] = 2
    found = measure(window(labels, own=[2]), SCHEMA).columns
    assert np.isnan(found["ring_mean_CD3"][0])
    assert np.isnan(found["ring_median_CD3"][0])
    assert found["contact"].tolist() == [1]


def test_neighbours_are_seen_and_not_listed():
    labels = np.zeros((20, 20), int)
    labels[5:10, 5:10], labels[5:10, 10:15] = 7, 3
    both, one = measure(window(labels), SCHEMA), measure(window(labels, own=[7]), SCHEMA)
    assert one.columns["id"].tolist() == [7]
    for name, values in one.columns.items():
        assert values[0] == both.columns[name][1], name
    assert one.columns["contact"][0] == np.float32(5 / 20)


def test_cells_at_the_edge_of_the_tissue_say_so():
    labels = np.zeros((10, 10), int)
    labels[0, 4], labels[4, 0], labels[9, 5], labels[5, 9], labels[5, 5] = range(1, 6)
    at_edge = [
        measure(window(labels, box=Box(y, x, 10, 10)), SCHEMA).columns["at_edge"].tolist()
        for y, x in ((0, 0), (890, 890), (50, 50))
    ]
    assert at_edge[0] == [True, True, False, False, False]
    assert at_edge[1] == [False, False, True, True, False]
    assert at_edge[2] == [False] * 5


def test_types_follow_their_probabilities_by_either_rule():
    classes = np.zeros((4, 3, 3), np.float32)
    classes[3] = 0.6
    classes[2] = 0.4
    classes[:, 0, 0] = (0, 0, 1, 0)
    labels = np.pad(np.ones((1, 2), int), ((0, 2), (0, 1)))
    for typing, wanted in (("mean", (2, "immune", 0.7)), ("majority", (2, "immune", 0.5))):
        found = measure(window(labels, classes=classes), SCHEMA, typing=typing).columns
        assert (found["type"][0], found["type_name"][0]) == wanted[:2]
        assert found["type_prob"][0] == pytest.approx(wanted[2])
        assert sum(found[f"prob_{name}"][0] for _, name, _ in TYPES) == pytest.approx(1)


def test_a_window_may_be_cut_anywhere_around_its_cells():
    whole = measure(window(NUCLEI), SCHEMA)
    seen, cut = window(NUCLEI), np.s_[20:190, 30:200]
    inside = ndimage.find_objects(np.searchsorted(np.unique(NUCLEI), NUCLEI))
    own = [
        id
        for id, (rows, columns) in zip(seen.own, inside, strict=True)
        if min(rows.start - 20, columns.start - 30, 190 - rows.stop, 200 - columns.stop) >= 9
    ]
    part = measure(
        seen._replace(
            labels=NUCLEI[cut],
            own=np.array(own[::-1]),
            box=Box(60, 90, 170, 170),
            classes=seen.classes[:, *cut],
            he=seen.he[:, *cut],
            sp=seen.sp[:, *cut],
            features=seen.features[:, 7:29, 11:33],
            features_origin=(7, 11),
        ),
        SCHEMA,
    )
    rows = np.searchsorted(whole.columns["id"], own)
    assert len(rows) > 10
    for name, values in part.columns.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, whole.columns[name][rows], rtol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(values, whole.columns[name][rows], err_msg=name)
    np.testing.assert_allclose(part.embedding, whole.embedding[rows], atol=1e-5)
    for i, row in enumerate(rows):
        here, there = part.outlines, whole.outlines
        points = here.points[here.rings[here.cells[i]] : here.rings[here.cells[i + 1]]]
        wanted = there.points[there.rings[there.cells[row]] : there.rings[there.cells[row + 1]]]
        np.testing.assert_array_equal(points, wanted)


def test_labels_of_every_integer_type_are_alike():
    small = np.where(NUCLEI > 0, (NUCLEI - 2**40) // 1000, 0)
    small = np.where(small == small.max(), 65535, small)
    tables = [measure(window(small.astype(t)), SCHEMA) for t in (np.uint16, np.int32, np.uint64)]
    for name, values in tables[0].columns.items():
        for other in tables[1:]:
            np.testing.assert_array_equal(values, other.columns[name])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"sp": np.zeros((3, 5, 6))},
            r"sp of shape \(3, 5, 6\), wanted 2 channels of 5 × 6 pixels",
        ),
        ({"he": np.zeros((3, 6, 5), np.uint8)}, "with he of shape"),
        ({"classes": np.zeros((3, 5, 6))}, "wanted more than 3 classes of 5 × 6"),
        ({"box": Box(0, 0, 5, 5)}, "labels of shape"),
        ({"features": np.zeros((4, 99, 99))}, "features of 4 channels, wanted 5"),
        ({"own": [8]}, "1 cells to measure"),
    ],
)
def test_windows_that_do_not_fit_are_refused(changed, said):
    with pytest.raises(TissueDataError, match=said):
        measure(window(np.ones((5, 6), int), **changed), SCHEMA)


def test_a_typing_that_is_not_known_is_refused():
    with pytest.raises(ConfigError, match="typing='vote' cannot be used: choose mean or majority"):
        measure(window(np.ones((5, 6), int)), SCHEMA, typing="vote")
