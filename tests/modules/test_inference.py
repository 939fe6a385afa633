"""Views are averaged where they belong, offsets turned along."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tissueseg.cells.map_layout import MapLayout
from tissueseg.contracts import Features, Outputs
from tissueseg.data.views import View
from tissueseg.instances.hv import encode_hv
from tissueseg.modules.inference import TileNetwork, turned_back

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


class Hands(torch.nn.Module):
    """An encoder that hands its image on, beside a shallow grid of nothing."""

    def forward(self, image: torch.Tensor, present: torch.Tensor) -> Features:
        return Features((torch.zeros_like(image), image), image)


class Takes(torch.nn.Module):
    """A decoder that takes its image for logits; in training it would say nothing."""

    def forward(self, features: Features) -> Outputs:
        image = features.image * (0 if self.training else 1)
        return {"foreground": image[:, :1], "classes": image[:, 1:3]}


def network(views: int = 1, features: bool = False) -> TileNetwork:
    return TileNetwork(
        Hands(),  # pyright: ignore[reportArgumentType]
        Takes(),  # pyright: ignore[reportArgumentType]
        MapLayout.of(("foreground", "classes"), 2),
        device=torch.device("cpu"),
        views=views,
        features=features,
    )


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("views", [1, 4, 8])
def test_views_of_a_tile_are_averaged_in_its_own_place(views: int, image: torch.Tensor) -> None:
    maps = network(views, features=True)(image, torch.ones(3, 3, dtype=torch.bool))
    wanted = torch.cat([image[:, :1].sigmoid(), image[:, 1:].softmax(1)], 1)
    np.testing.assert_allclose(maps.planes, wanted.numpy(), atol=1e-6)
    np.testing.assert_array_equal(maps.features, image.numpy())  # the last grid, of the plain view
    assert maps.finite.tolist() == [True] * 3


def test_every_view_has_its_share() -> None:
    """A decoder that marks one corner of what it sees marks all four of a tile seen eight ways."""
    marking = network(8)
    corner = torch.full((1, 3, 4, 4), -50.0)
    corner[..., 0, 0] = 50.0
    marking._decoder.forward = (
        lambda features: {  # type: ignore[method-assign]
            "foreground": corner[:, :1],
            "classes": corner[:, 1:],
        }
    )
    maps = marking(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, dtype=torch.bool))
    wanted = np.zeros((4, 4))
    wanted[::3, ::3] = 0.25
    np.testing.assert_allclose(maps.planes[0, 0], wanted, atol=1e-6)


@pytest.mark.parametrize("views", [1, 4])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_tile_that_is_no_number_is_known_among_others(
    views: int, value: float, image: torch.Tensor
) -> None:
    image[1, 2, 3, 4] = value
    maps = network(views)(image, torch.ones(3, 3, dtype=torch.bool))
    assert maps.finite.tolist() == [True, False, True]
    assert maps.features is None
