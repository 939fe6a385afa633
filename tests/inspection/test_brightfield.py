"""H&E images that are not brightfield, one planted at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tissueseg.inspection.brightfield import brightfield_oddities, measure_brightfield
from tissueseg.inspection.findings import Oddity
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.store.planes import Tissue, Window

from .conftest import Write


def odd(write: Write, he: np.ndarray, tissue: Tissue) -> list[Oddity]:
    store = write({"a": tissue._replace(he=he.astype(np.uint8))})
    return list(brightfield_oddities("a", measure_brightfield(TissuePixels(store, "a"))))


def test_healthy_tissue_is_silent(write: Write, drawn: tuple[Tissue, ...]) -> None:
    for tissue in drawn:
        assert tissue.he is not None
        store = write({"a": tissue})
        assert list(brightfield_oddities("a", measure_brightfield(TissuePixels(store, "a")))) == []


def blank(he: np.ndarray) -> np.ndarray:
    """Glass but for a corner, with the noise of a camera."""
    glass = np.random.default_rng(0).integers(235, 250, he.shape)
    glass[:, :40, :40] = he[:, :40, :40]
    return glass


FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "inverted H&E": lambda he: 255 - he,
    "H&E of values up to 1": lambda he: he / 255,
    "nearly black H&E": lambda he: he / 8,
    "H&E of one colour": lambda he: np.full_like(he, 180),
    "blank H&E": blank,
    "grey H&E": lambda he: he.mean(axis=0).repeat(3).reshape(*he.shape[1:], 3).transpose(2, 0, 1),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_planted_fault_is_the_one_that_is_found(write: Write, tissue: Tissue, what: str) -> None:
    assert tissue.he is not None
    (found,) = odd(write, FAULTS[what](tissue.he), tissue)
    assert (found.what, found.level) == (what, "warning")


def test_without_a_cell_the_rest_is_still_checked(write: Write, tissue: Tissue) -> None:
    assert tissue.he is not None
    empty = tissue._replace(instances=0 * tissue.instances, classes=0 * tissue.classes)
    assert odd(write, tissue.he, empty) == []
    (found,) = odd(write, tissue.he // 9, empty)
    assert found.what == "nearly black H&E"


def test_large_tissues_are_sampled_evenly(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.zeros((300, 4000), np.uint8)
    store = write(
        {"a": Tissue(nothing.astype(np.int32), nothing, np.zeros((3, 300, 4000), np.uint8))}
    )
    seen: list[Window] = []
    read = store.read

    def spied(tissue: str, array: str, window: Window) -> np.ndarray:
        seen.append(window)
        return read(tissue, array, window)

    monkeypatch.setattr(store, "read", spied)
    measure_brightfield(TissuePixels(store, "a"))
    columns = sorted({window.x for window in seen})
    assert len(columns) == 6
    assert (columns[0], columns[-1]) == (0, 3840)
    assert {window.y for window in seen} == {0, 256}
    assert max(window.height * window.width for window in seen) == 256**2
