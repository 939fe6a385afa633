import numpy as np

from tissueseg.instances.components_decoder import ComponentsDecoder
from tissueseg.instances.maps import Maps


def dumbbell(neck_px):
    rows, columns = np.mgrid[:40, :70]
    discs = [np.hypot(rows - 20, columns - x) <= 12 for x in (20, 48)]
    neck = (abs(rows - 20) * 2 < neck_px) & (columns >= 20) & (columns <= 48)
    return Maps((discs[0] | discs[1] | neck).astype(np.float32))


def test_components_are_cut_at_narrow_necks_alone():
    assert ComponentsDecoder()(dumbbell(9), 0.3).max() == 2
    assert ComponentsDecoder()(dumbbell(25), 0.3).max() == 1
    assert ComponentsDecoder(neck=0.2)(dumbbell(9), 0.3).max() == 1
    assert ComponentsDecoder(split=False)(dumbbell(9), 0.3).max() == 1


def test_a_long_nucleus_is_not_cut():
    foreground = np.zeros((30, 90), np.float32)
    foreground[10:20, 5:85] = 1
    assert ComponentsDecoder()(Maps(foreground), 0.5).max() == 1
