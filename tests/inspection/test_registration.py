"""Shifts between H&E, SP and masks: planted ones are measured, and what does not match is not told."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from tissueseg.inspection.masks import measure_masks
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.inspection.registration import (
    RegistrationFacts,
    measure_registration,
    registration_oddities,
)
from tissueseg.inspection.shifts import (
    TRUSTED,
    Shift,
    agree,
    displacement,
    haematoxylin,
    scale_of,
    spectrum,
)
from tissueseg.store.demo import DemoParameters, draw_tissue
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore

from .conftest import SHOWN, SMALL_PANEL, Write, mirrored

SHIFTS = [(0.0, 0.0), (0.3, -0.2), (-0.7, 0.7), (1.5, 2.0), (-3.0, -4.0), (8.0, -6.0)]  # µm


def moved(image: np.ndarray, dy: float, dx: float) -> np.ndarray:
    """Planes (…, H, W) moved by a fraction of pixels down and to the right."""
    if image.ndim == 3:
        return np.stack([moved(plane, dy, dx) for plane in image])
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float64)
    mode = cv2.INTER_NEAREST if image.dtype == np.int32 else cv2.INTER_CUBIC
    values = image.astype(np.float32)
    out = cv2.warpAffine(
        values, matrix, image.shape[::-1], flags=mode, borderMode=cv2.BORDER_REFLECT
    )
    return np.clip(out.round(), 0, np.iinfo(image.dtype).max).astype(image.dtype)


def measure(store: TissueStore) -> RegistrationFacts:
    pixels = TissuePixels(store, "a")
    return measure_registration(pixels, measure_masks(pixels).grid)


def says(store: TissueStore) -> list[tuple[str, str]]:
    return [(o.level, o.what) for o in registration_oddities(store, "a", measure(store))]


def off(shift: Shift | None, dy: float, dx: float) -> float:
    assert shift is not None
    return float(np.hypot(shift.dy - dy, shift.dx - dx))


def test_healthy_tissues_are_silent(write: Write, drawn: tuple[Tissue, ...]) -> None:
    for tissue in drawn:
        store = write({"a": tissue})
        facts = measure(store)
        assert off(facts.images, 0, 0) < 0.2
        assert off(facts.masks, 0, 0) < 0.2
        assert facts.reference == "sp"
        assert list(registration_oddities(store, "a", facts)) == []


@pytest.mark.parametrize(("dy", "dx"), SHIFTS)
def test_planted_shifts_are_measured(write: Write, tissue: Tissue, dy: float, dx: float) -> None:
    assert tissue.he is not None
    store = write({"a": tissue._replace(he=moved(tissue.he, dy / 0.5, dx / 0.5))})
    facts = measure(store)
    assert off(facts.images, dy, dx) < 0.3
    assert off(facts.masks, 0, 0) < 0.3  # those lie on SP
    large = math.hypot(dy, dx) > 2
    assert says(store) == [("warning", "H&E against SP: shift of more than 2 µm")] * large


@pytest.mark.parametrize("mpp", [0.25, 1.0])
def test_other_scales_measure_micrometres_too(write: Write, mpp: float) -> None:
    drawn = draw_tissue(DemoParameters(size_px=320, mpp=mpp), 0)
    he = moved(drawn.he, 2.5 / mpp, -1.0 / mpp)
    tissue = Tissue(drawn.instances, drawn.classes, he, drawn.sp[list(SHOWN)])
    assert off(measure(write({"a": tissue}, mpp=mpp)).images, 2.5, -1.0) < 0.5


def test_without_a_scale_shifts_are_pixels(write: Write, tissue: Tissue) -> None:
    assert tissue.he is not None
    store = write({"a": tissue._replace(he=moved(tissue.he, 6, 0))}, mpp=None)
    assert off(measure(store).images, 6, 0) < 0.6
    assert says(store) == [("warning", "H&E against SP: shift of more than 4 px")]


@pytest.mark.parametrize("kind", ["sp", "he"])
def test_masks_are_measured_against_the_image_there_is(
    write: Write, tissue: Tissue, kind: str
) -> None:
    other = {"he": "sp", "sp": "he"}[kind]
    shifted = moved(tissue.instances, 8, -4)
    classes = np.where(shifted > 0, 1, 0)
    store = write({"a": tissue._replace(instances=shifted, classes=classes, **{other: None})})
    facts = measure(store)
    assert facts.reference == kind
    assert off(facts.masks, 4.0, -2.0) < 0.5
    assert facts.images is None
    name = {"he": "H&E", "sp": "SP"}[kind]
    assert says(store) == [("warning", f"masks against {name}: shift of more than 2 µm")]


def test_whole_cells_lie_on_their_nuclei(write: Write, tissue: Tissue) -> None:
    """Nuclei grown by up to 2 µm until they touch."""
    _, nearest = cv2.distanceTransformWithLabels(
        (tissue.instances == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(nearest.max() + 1, np.int32)
    owner[nearest[tissue.instances > 0]] = tissue.instances[tissue.instances > 0]
    near = cv2.dilate((tissue.instances > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    cells = np.where(near, owner[nearest], 0)
    store = write({"a": tissue._replace(instances=cells, classes=np.where(cells > 0, 1, 0))})
    assert off(measure(store).masks, 0, 0) < 0.5
    assert says(store) == []


def test_images_of_different_tissue_are_not_told(write: Write, drawn: tuple[Tissue, ...]) -> None:
    for tissue, other in zip(drawn, (*drawn[1:], mirrored(drawn[0])), strict=True):
        store = write({"a": tissue._replace(he=other.he)})
        assert measure(store).images is None
        assert says(store) == [("notice", "H&E against SP: shift that could not be told")]


def test_a_dead_nuclear_channel_leaves_h_and_e_for_the_masks(write: Write, tissue: Tissue) -> None:
    assert tissue.sp is not None
    dark = tissue.sp.copy()
    dark[0] = 0
    store = write({"a": tissue._replace(sp=dark)})
    facts = measure(store)
    assert (facts.images, facts.reference) == (None, "he")
    assert off(facts.masks, 0, 0) < 0.3


def test_nothing_is_said_where_nothing_can_be_compared(write: Write, tissue: Tissue) -> None:
    empty = tissue._replace(instances=0 * tissue.instances, classes=0 * tissue.classes)
    assert says(write({"a": empty})) == []
    unnamed = tuple(channel.__class__(channel.name) for channel in SMALL_PANEL)
    assert says(write({"a": tissue}, panel=unnamed)) == []  # H&E carries the masks


def test_fields_that_can_be_trusted_outvote_one_that_is_off() -> None:
    good = [Shift(1.0, 0.0, 5.0), Shift(1.2, 0.1, 6.0), Shift(9.0, 9.0, 2.1)]
    voted = agree([*good, Shift(-30.0, 4.0, 1.1)])
    assert voted is not None
    assert (voted.dy, voted.dx) == (1.2, 0.1)
    assert agree([good[0], *[Shift(0.0, 0.0, 1.2)] * 3]) is None
    assert agree([]) is None


def test_fields_too_small_or_empty_have_no_spectrum() -> None:
    scale = scale_of(0.5)
    assert spectrum(np.ones((200, 200)), scale) is None
    assert spectrum(np.random.default_rng(0).random((80, 200)), scale) is None
    assert spectrum(np.random.default_rng(0).random((120, 201)), scale) is not None


def test_haematoxylin_is_what_nuclei_are_stained_with() -> None:
    stains = {"haematoxylin": (0.650, 0.704, 0.286), "eosin": (0.072, 0.990, 0.105)}
    he = np.full((3, 30, 30), 255, np.uint8)
    for column, density in enumerate(stains.values()):
        he[:, 10 * column] = (256 * 10 ** -(0.5 * np.array(density)) - 1).round()[:, None]
    amount = haematoxylin(he)
    assert amount[0, 0] > 0.9 * amount.max() > 0
    assert amount[10].max() < 0.02 * amount.max()
    assert amount[20].max() < 0.02 * amount.max()


@pytest.mark.real
def test_real_pairs_match_themselves_and_no_other(shared_data: Path) -> None:
    """Tiles of one section; authors' registration is good in these, and off by 3 µm in one."""
    folder, scale = shared_data / "paired_he_mif", scale_of(0.5)
    names = ("r9117_42089_t17", "r7367_43385_t5", "r6778_47441_t19", "r16355_44715_t20")
    names = (*names, "r17118_50662_t12")
    pairs = []
    for name in names:
        he = np.asarray(Image.open(folder / f"{name}.he.jpg")).transpose(2, 0, 1)
        nuclei = np.log1p(tifffile.imread(folder / f"{name}.mif.ome.tif")[0].astype(np.float32))
        pairs.append((spectrum(haematoxylin(he), scale), spectrum(nuclei, scale)))
    for i, (he, _) in enumerate(pairs):
        for j, (_, sp) in enumerate(pairs):
            assert he is not None
            assert sp is not None
            shift = displacement(he, sp, scale)
            assert (shift.trust >= TRUSTED) == (i == j)
            if i == j:
                assert shift.length == pytest.approx(3.0 if i == 4 else 0.3, abs=0.4)
