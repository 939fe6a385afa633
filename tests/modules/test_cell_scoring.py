"""Cells held against the truth: perfect ones score 1 on every key, moved ones lose what they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from stores import CLASSES, random_tissue, write_store

from tissueseg.contracts import IGNORE
from tissueseg.errors import ConfigError
from tissueseg.instances.boxes import Box
from tissueseg.instances.cell_table import CellSchema
from tissueseg.instances.hv import encode_hv
from tissueseg.instances.maps import Maps
from tissueseg.instances.measure import CellWindow, measure
from tissueseg.modules.cell_scoring import CellScoring, FoundCells, groups_of
from tissueseg.store.tissues import TissueStore

SHAPE = (90, 140)
TYPES = tuple(c.name for c in CLASSES[1:])
SCHEMA = CellSchema("a", 0.5, tuple((c.id, c.name, c.color) for c in CLASSES[1:]))
UNKNOWN = np.s_[40:50, 120:140]


def nuclei() -> tuple[np.ndarray, np.ndarray]:
    """Discs of two types, none of them where row = column; some ground is unknown."""
    labels, classes = np.zeros(SHAPE, np.int32), np.zeros(SHAPE, np.int32)
    y, x = np.indices(SHAPE)
    for i, (row, column) in enumerate([(10, 60), (30, 90), (55, 20), (62, 125), (75, 70)], 1):
        disc = (y - row) ** 2 + (x - column) ** 2 <= 36
        labels[disc], classes[disc] = i, 1 + i % len(TYPES)
    classes[UNKNOWN] = IGNORE
    return labels, classes


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    labels, classes = nuclei()
    tissues = {"b": random_tissue(60, 80), "a": random_tissue(*SHAPE, 1)}
    tissues["a"] = tissues["a"]._replace(instances=labels, classes=classes)
    return write_store(Path(tmp_path_factory.mktemp("scoring")) / "s.zarr", tissues)


def scored(
    store: TissueStore, labels: np.ndarray, probs: np.ndarray, foreground: np.ndarray | None = None
) -> dict[str, float]:
    """Of tissue a: cells as a pipeline hands them on, in two parts; maps in four regions."""
    scoring = CellScoring(store, ["b", "a"], TYPES, 0.5, ["g", "h"])
    found, ids = FoundCells(), np.unique(labels[labels > 0])
    for own in (ids[:2], ids[2:]):
        found.take(measure(CellWindow(labels, own, Box(0, 0, *SHAPE), SHAPE, probs), SCHEMA))
    hv = encode_hv(labels)
    said = (labels > 0).astype(np.float32) if foreground is None else foreground
    for y in (0, 45):
        for x in (0, 70):
            box = Box(y, x, 45, 70)
            scoring.region(1, box, Maps(said[box.slices], hv[(slice(None), *box.slices)]))
    scoring.cells(1, labels, found)
    return scoring.by_tissue()["a"]


def probs_of(classes: np.ndarray) -> np.ndarray:
    return np.stack([classes == i for i in range(1 + len(TYPES))]).astype(np.float32)


def test_perfect_cells_score_one_in_their_own_tissue(store: TissueStore) -> None:
    labels, classes = nuclei()
    found = np.array([0, 2, 1, 3, 5, 4])[labels]  # ids in another order than the truth's
    scores = scored(store, found, probs_of(classes))
    wanted = {"bpq_plus", "mpq_plus", "aji_pooled", "detection_f1_pooled", "boundary_f1_pooled"}
    assert all(scores[key] == pytest.approx(1) for key in wanted)
    for key, value in scores.items():
        if key.startswith(("ece", "brier", "hv_mse")):
            assert value == pytest.approx(0, abs=1e-6), key
        elif not np.isnan(value):
            assert value == pytest.approx(1), key


def test_cells_on_unknown_ground_are_no_false_alarms(store: TissueStore) -> None:
    labels, classes = nuclei()
    labels[42:48, 124:134] = 6
    scores = scored(store, labels, probs_of(np.where(classes == IGNORE, 1, classes)))
    for key in ("bpq_plus", "aji_pooled", "detection_f1_pooled", "binary_dice_pooled"):
        assert scores[key] == pytest.approx(1), key
    assert scores["boundary_f1_pooled"] == pytest.approx(1)


@pytest.mark.parametrize(("step_px", "f1"), [(5, 1.0), (7, 0.0)])
def test_centroids_are_compared_in_one_frame(store: TissueStore, step_px: int, f1: float) -> None:
    """Cells are detected that lie less than 3 µm away, 6 px at 0.5 µm/px."""
    labels, classes = (np.roll(of, step_px, axis=1) for of in nuclei())
    classes[classes == IGNORE] = 0
    scores = scored(store, labels, probs_of(classes))
    assert scores["detection_f1_pooled"] == pytest.approx(f1)


def test_what_is_no_number_is_no_foreground(store: TissueStore) -> None:
    labels, classes = nuclei()
    foreground = (labels > 0).astype(np.float32)
    foreground[80, 130], foreground[81, 130] = np.nan, np.inf
    foreground[0, 0], foreground[0, 1] = 0.49, -np.inf
    scores = scored(store, labels, probs_of(classes), foreground)
    assert scores["binary_dice_pooled"] == 1
    foreground[82, 130] = 0.5
    assert scored(store, labels, probs_of(classes), foreground)["binary_dice_pooled"] < 1


def test_groups_are_named_by_a_pattern_or_else_by_patients(tmp_path: Path) -> None:
    names = ("s1_Human-Breast", "s22_Mouse-Liver", "s3_Human-Breast")
    tissues = {n: random_tissue(16, 16, i, patient=f"p{i}") for i, n in enumerate(names)}
    store = write_store(tmp_path / "s.zarr", tissues)
    assert groups_of(store, names, None) == ["p0", "p1", "p2"]
    assert groups_of(store, names[::-1], None) == ["p2", "p1", "p0"]
    organs = groups_of(store, names, "_([A-Za-z-]+)$")
    assert organs == ["Human-Breast", "Mouse-Liver", "Human-Breast"]
    assert groups_of(store, names, "_(Human|Mouse)-(.*)") == ["Human", "Mouse", "Human"]


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("([a-z", r"groups=\(\[a-z is no pattern: unterminated"),
        ("_[A-Z]", r"groups=_\[A-Z\] finds no group in a_X: put round brackets"),
        ("a_(X)", "finds no group in b_Y: put round brackets"),
        ("_(Z)?", "finds no group in a_X: put round brackets"),
    ],
)
def test_a_pattern_that_names_no_group_is_refused(
    store: TissueStore, pattern: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        groups_of(store, ["a_X", "b_Y"], pattern)
