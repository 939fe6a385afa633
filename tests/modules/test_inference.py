"""Views are averaged where they belong, offsets turned along."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tissueseg.cells.map_layout import MapLayout
from tissueseg.data.views import View
from tissueseg.instances.hv import encode_hv
from tissueseg.modules.inference import turned_back

LAYOUT = MapLayout.of(("hv", "foreground", "classes", "boundary_stride4"), 3)


@pytest.mark.parametrize("element", range(8))
def test_maps_of_a_view_come_back_as_those_of_the_tile(element: int) -> None:
    labels = np.zeros((24, 24), np.int32)
    labels[3:8, 2:13] = 1  # odd sides: their centres are pixels
    labels[10:21, 14:17] = 2
    turned = View(element).turned(labels)

    def planes(of: np.ndarray) -> torch.Tensor:
        classes = np.stack([of == 0, of == 1, of == 2])
        return torch.from_numpy(
            np.concatenate([of[None] > 0, encode_hv(of), classes]).astype(np.float32)
        )[None]

    back = turned_back(planes(turned), element, LAYOUT)
    np.testing.assert_array_equal(back.numpy(), planes(labels).numpy())


def test_a_layout_orders_planes_and_takes_them_apart() -> None:
    assert (LAYOUT.heads, LAYOUT.planes) == (("foreground", "hv", "classes"), 6)
    maps = LAYOUT.maps(np.arange(24, dtype=np.float32).reshape(6, 2, 2))
    assert maps.boundary is None
    np.testing.assert_array_equal(maps.foreground, [[0, 1], [2, 3]])
    assert maps.hv is not None
    assert maps.hv.shape == (2, 2, 2)
    assert maps.classes is not None
    assert maps.classes[0, 0, 0] == 12


def test_what_is_not_background_is_foreground_where_no_head_says_so() -> None:
    layout = MapLayout.of(("classes",), 2)
    maps = layout.maps(np.array([[[0.75]], [[0.25]]], np.float32))
    np.testing.assert_array_equal(maps.foreground, [[0.25]])
