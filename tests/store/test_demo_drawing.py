"""The demo tissues: their labels hold together, and their images show what the labels say."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from tissueseg.errors import ConfigError
from tissueseg.store.demo import CLASSES, PANEL, DemoParameters, DemoTissue, draw_tissue
from tissueseg.store.demo.panel import SHARES

SMALL = DemoParameters(tissues=2, size_px=128)
COHORT = DemoParameters(tissues=4, size_px=384)
IDS = {c.name: c.id for c in CLASSES}
CHANNELS = [c.name for c in PANEL]


@pytest.fixture(scope="module")
def cohort() -> list[DemoTissue]:
    return [draw_tissue(COHORT, i) for i in range(COHORT.tissues)]


def kinds_of(tissue: DemoTissue) -> np.ndarray:
    """Class id of every instance, 0 first."""
    kinds = np.zeros(tissue.instances.max() + 1, int)
    kinds[tissue.instances] = tissue.classes
    return kinds


def mean_in(cohort: list[DemoTissue], channel: str, name: str, reach_px: int = 2) -> float:
    """Mean counts of a channel over nuclei of a class and a rim of their cells."""
    values = []
    for tissue in cohort:
        here = ndimage.binary_dilation(tissue.classes == IDS[name], iterations=reach_px)
        here &= (tissue.classes == IDS[name]) | (tissue.classes == 0)
        values.append(tissue.sp[CHANNELS.index(channel)][here])
    return float(np.concatenate(values).mean())


def test_classes_and_panel_are_the_study_s():
    assert [c.id for c in CLASSES] == list(range(10))
    assert len({c.color for c in CLASSES}) == 10
    assert len(PANEL) == len({c.uniprot for c in PANEL}) == 17
    assert [c.name for c in PANEL if c.nuclear] == ["DNA"]
    assert SHARES.sum() == pytest.approx(1, abs=0.01)


def test_same_arguments_same_pixels_whatever_the_cohort():
    one = draw_tissue(SMALL, 1)
    two = draw_tissue(DemoParameters(tissues=9, size_px=128), 1)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("parameters", "index"), [(SMALL, 2), (DemoParameters(size_px=128, seed=5), 1)]
)
def test_other_index_or_seed_other_tissue(parameters: DemoParameters, index: int):
    for a, b in zip(draw_tissue(SMALL, 1), draw_tissue(parameters, index), strict=True):
        assert (a != b).any()


@pytest.mark.parametrize(
    ("size_px", "mpp"), [(64, 0.5), (101, 0.5), (128, 0.25), (64, 2.0), (64, 0.1)]
)
def test_shapes_types_and_ids_at_any_size(size_px: int, mpp: float):
    tissue = draw_tissue(DemoParameters(size_px=size_px, mpp=mpp), 0)
    assert tissue.he.shape == (3, size_px, size_px)
    assert tissue.sp.shape == (17, size_px, size_px)
    assert tissue.instances.shape == tissue.classes.shape == (size_px, size_px)
    assert [a.dtype for a in tissue] == [np.uint8, np.uint16, np.int32, np.uint8]
    present = np.unique(tissue.instances)
    np.testing.assert_array_equal(present, np.arange(present[-1] + 1))


@pytest.mark.parametrize(
    "wrong", [{"size_px": 32}, {"mpp": 0.0}, {"tissues": 0}, {"seed": -1}], ids=str
)
def test_impossible_parameters_are_refused(wrong: dict):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DemoParameters(**wrong)


def test_every_nucleus_is_one_piece_with_one_class(cohort: list[DemoTissue]):
    for tissue in cohort:
        areas = np.bincount(tissue.instances.ravel())[1:]
        assert areas.min() >= 6
        for i, box in enumerate(ndimage.find_objects(tissue.instances), start=1):
            mask = tissue.instances[box] == i
            assert cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)[0] == 2
            assert len(np.unique(tissue.classes[box][mask])) == 1
        np.testing.assert_array_equal(tissue.classes > 0, tissue.instances > 0)


def test_neighbours_touch(cohort: list[DemoTissue]):
    for tissue in cohort:
        labels, pairs = tissue.instances, set()
        for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            touching = (a != b) & (a > 0) & (b > 0)
            pairs |= {frozenset(p) for p in zip(a[touching], b[touching], strict=True)}
        assert len(pairs) > 0.1 * labels.max()


def test_imbalance_is_the_study_s(cohort: list[DemoTissue]):
    pixels = np.concatenate([t.classes.ravel() for t in cohort])
    ratio = np.bincount(pixels, minlength=10) / pixels.size / SHARES
    for name in ("background", "stroma", "tumor"):
        assert 0.75 < ratio[IDS[name]] < 1.25, name
    for name in ("macrophage", "helper_t", "cytotoxic_t", "endothelia", "other"):
        assert 0.5 < ratio[IDS[name]] < 1.5, name
    assert sum(IDS["treg"] in t.classes for t in cohort) >= 2
    assert IDS["b_cell"] in pixels


def test_tissues_differ_in_composition(cohort: list[DemoTissue]):
    tumor = [(t.classes == IDS["tumor"]).mean() for t in cohort]
    assert max(tumor) > 2 * min(tumor)


@pytest.mark.parametrize(
    ("channel", "name", "other"),
    [
        ("Pan-CK", "tumor", "stroma"),
        ("E-cadherin", "tumor", "stroma"),
        ("CD3e", "helper_t", "macrophage"),
        ("CD4", "helper_t", "cytotoxic_t"),
        ("CD8a", "cytotoxic_t", "helper_t"),
        ("FOXP3", "treg", "helper_t"),
        ("CD20", "b_cell", "helper_t"),
        ("CD68", "macrophage", "stroma"),
        ("CD31", "endothelia", "stroma"),
        ("SMA", "stroma", "tumor"),
        ("CD45", "helper_t", "tumor"),
    ],
)
def test_classes_express_their_markers(
    cohort: list[DemoTissue], channel: str, name: str, other: str
):
    assert mean_in(cohort, channel, name) > 2 * mean_in(cohort, channel, other)


def test_dna_marks_nuclei(cohort: list[DemoTissue]):
    for tissue in cohort:
        dna, inside = tissue.sp[CHANNELS.index("DNA")], tissue.instances > 0
        assert dna[inside].mean() > 3 * dna[~inside].mean()


def test_nuclei_are_dark_and_lymphocytes_alike_in_he(cohort: list[DemoTissue]):
    for tissue in cohort:
        red = tissue.he[0].astype(float)
        assert red[tissue.instances > 0].mean() < red[tissue.instances == 0].mean() - 40
    helper, cytotoxic, tumor = (
        np.mean([t.he[0][t.classes == IDS[n]].mean() for t in cohort])
        for n in ("helper_t", "cytotoxic_t", "tumor")
    )
    assert abs(helper - cytotoxic) < 0.5 * (tumor - helper)


def test_nuclei_keep_their_size_in_micrometres():
    def diameter_px(mpp: float, size_px: int) -> float:
        tissue = draw_tissue(DemoParameters(size_px=size_px, mpp=mpp), 0)
        areas = np.bincount(tissue.instances.ravel())[1:]
        return float(np.sqrt(np.median(areas[kinds_of(tissue)[1:] == IDS["tumor"]])))

    assert diameter_px(0.5, 384) / diameter_px(1.0, 192) == pytest.approx(2, rel=0.15)


def test_streams_are_apart(monkeypatch: pytest.MonkeyPatch):
    before = draw_tissue(SMALL, 0)
    monkeypatch.setattr("tissueseg.store.demo.render_he", lambda rng, *_: rng.bytes(7))
    after = draw_tissue(SMALL, 0)
    np.testing.assert_array_equal(before.sp, after.sp)
    np.testing.assert_array_equal(before.instances, after.instances)
