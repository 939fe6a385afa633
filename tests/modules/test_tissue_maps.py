"""Maps of a whole tissue are those of its tiles, each pixel and each token in its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stores import random_tissue, write_store

from tissueseg.cells.map_layout import MapLayout
from tissueseg.contracts import Features, Modality, Normalisation, Outputs
from tissueseg.data.images import Region, TileImages
from tissueseg.data.normalise import Normaliser
from tissueseg.data.views import View
from tissueseg.errors import FeatureOverflowError
from tissueseg.instances.boxes import Box
from tissueseg.instances.tiling import Tiling
from tissueseg.modules.inference import TileNetwork
from tissueseg.modules.tissue_maps import RegionMaps, TissueMaps
from tissueseg.store.tissues import TissueStore

TILE_PX, STRIDE_PX, CHANNELS = 32, 4, 5
SHAPES = {"odd": (75, 101), "small": (21, 27), "flat": (17, 130), "tall": (130, 17)}


class Shows(torch.nn.Module):
    """Encoder: tokens are means of their pixels, one more channel that of the tile. Decoder: its image.

    Head hv tells the tile's mean and its square, the same at all its pixels; foreground a channel.
    """

    stride_px = STRIDE_PX

    def __init__(self, halo_px: int = 0, spoilt: int = -1) -> None:
        super().__init__()
        self.halo_px, self.spoilt, self.seen = halo_px, spoilt, 0

    def forward(self, image: torch.Tensor, present: torch.Tensor) -> Features:
        side = slice(self.halo_px, image.shape[-1] - self.halo_px)
        core = image[..., side, side]
        tokens = torch.nn.functional.avg_pool2d(core, STRIDE_PX)
        mean = core.mean((1, 2, 3), keepdim=True)
        return Features((torch.cat([tokens, mean.expand_as(tokens[:, :1])], 1),), core)


class Tells(Shows):
    def forward(self, features: Features) -> Outputs:
        image = features.image.clone()
        if 0 <= (at := self.spoilt - self.seen) < len(image):
            image[at, 0, 3, 5] = torch.nan
        self.seen += len(image)
        mean = image.mean((1, 2, 3), keepdim=True).expand_as(image[:, :1])
        return {"foreground": image[:, :1], "hv": torch.cat([mean, mean**2], 1)}


class Spied(TileImages):
    """Notes what is read."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.sizes: list[tuple[int, int]] = []

    def region(self, tissue: str, start: tuple[int, int], size: tuple[int, int]) -> Region:
        self.sizes.append(size)
        return super().region(tissue, start, size)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    tissues = {
        name: random_tissue(*shape, seed=i) for i, (name, shape) in enumerate(SHAPES.items())
    }
    return write_store(Path(tmp_path_factory.mktemp("maps")) / "s.zarr", tissues)


def spied(store: TissueStore, halo_px: int) -> Spied:
    normaliser = Normaliser.fit(store, ("odd",), Modality("he_sp"), Normalisation())
    return Spied(store, store.tissues, normaliser, TILE_PX, halo_px)


def regions(
    images: TileImages,
    tissue: str,
    *,
    overlap_px: int = 8,
    blend: str = "linear",
    batch_size: int = 3,
    features: bool = True,
    spoilt: int = -1,
    halo_px: int = 0,
    strides: int = 2,
) -> list[RegionMaps]:
    network = TileNetwork(
        Shows(halo_px),  # pyright: ignore[reportArgumentType]
        Tells(spoilt=spoilt),  # pyright: ignore[reportArgumentType]
        MapLayout.of(("foreground", "hv"), 2),
        device=torch.device("cpu"),
        features=features,
    )
    maps = TissueMaps(
        network,
        images,
        tile_px=TILE_PX,
        overlap_px=overlap_px,
        blend=blend,
        region_px=strides * (TILE_PX - overlap_px),
        batch_size=batch_size,
        features_width=CHANNELS + 1 if features else 0,
    )
    return list(maps.regions(tissue, SHAPES[tissue]))


def together(parts: list[tuple[Box, np.ndarray]], shape: tuple[int, int]) -> np.ndarray:
    """One map of regions, which must lie in rows and leave no gap."""
    assert parts == sorted(parts, key=lambda part: part[0][:2])
    whole, covered = np.full((len(parts[0][1]), *shape), np.nan), np.zeros(shape, int)
    for box, values in parts:
        whole[(..., *box.slices)] = values
        covered[box.slices] += 1
    assert (covered == 1).all()
    return whole


def expected(
    images: TileImages, tissue: str, overlap_px: int, blend: str
) -> tuple[np.ndarray, np.ndarray]:
    """Planes and tokens of a tissue, tile by tile, each read alone, weights added up."""
    wanted = []
    for unit in (1, STRIDE_PX):
        shape = -(-SHAPES[tissue][0] // unit), -(-SHAPES[tissue][1] // unit)
        tiling = Tiling(shape, TILE_PX // unit, overlap_px // unit, blend)
        whole = np.zeros((3 if unit == 1 else CHANNELS + 1, *shape))
        for rows in tiling.spans(0):
            for columns in tiling.spans(1):
                origin = rows.start * unit, columns.start * unit
                tile = images.read(tissue, origin, View(0))[0].astype(np.float64)
                values = shown(tile) if unit == 1 else tokens_of(tile)
                here = rows.after(rows.start), columns.after(columns.start)
                weight = rows.weights[:, None] * columns.weights
                whole[:, rows.after(0), columns.after(0)] += weight * values[:, *here]
        wanted.append(whole)
    return wanted[0], wanted[1]


def shown(tile: np.ndarray) -> np.ndarray:
    flat = np.ones_like(tile[0])
    return np.stack([1 / (1 + np.exp(-tile[0])), tile.mean() * flat, tile.mean() ** 2 * flat])


def tokens_of(tile: np.ndarray) -> np.ndarray:
    side = TILE_PX // STRIDE_PX
    means = tile.reshape(CHANNELS, side, STRIDE_PX, side, STRIDE_PX).mean((2, 4))
    return np.concatenate([means, np.full((1, side, side), tile.mean())])


@pytest.mark.parametrize("tissue", SHAPES)
@pytest.mark.parametrize(
    ("blend", "overlap_px"),
    [("linear", 0), ("linear", 8), ("linear", 16), ("core", 0), ("core", 8)],
)
def test_every_pixel_and_token_is_what_its_tiles_say(
    store: TissueStore, tissue: str, blend: str, overlap_px: int
) -> None:
    images, shape = spied(store, 0), SHAPES[tissue]
    found = regions(images, tissue, overlap_px=overlap_px, blend=blend)
    planes, tokens = expected(images, tissue, overlap_px, blend)
    made = together([(one.box, one.planes) for one in found], shape)
    np.testing.assert_allclose(made, planes, atol=2e-6)
    grids = [(one.grid, one.features) for one in found if one.features is not None]
    np.testing.assert_allclose(together(grids, tokens.shape[1:]), tokens, atol=2e-6)


@pytest.mark.parametrize("strides", [1, 2, 3, 100])
def test_regions_of_any_size_are_cut_from_one_map(store: TissueStore, strides: int) -> None:
    images = spied(store, 0)
    found = regions(images, "odd", strides=strides)
    for one in found:
        assert one.features is not None
        assert (one.grid.y, one.grid.x) == (one.box.y // STRIDE_PX, one.box.x // STRIDE_PX)
        assert one.features.shape[1:] == (-(-one.box.height // 4), -(-one.box.width // 4))
    made = together([(one.box, one.planes) for one in found], SHAPES["odd"])
    np.testing.assert_allclose(made, expected(images, "odd", 8, "linear")[0], atol=2e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
@pytest.mark.parametrize("halo_px", [0, 8])
def test_neither_batches_nor_a_halo_change_a_map(
    store: TissueStore, batch_size: int, halo_px: int
) -> None:
    plain = regions(spied(store, 0), "odd")
    found = regions(spied(store, halo_px), "odd", batch_size=batch_size, halo_px=halo_px)
    for one, other in zip(found, plain, strict=True):
        assert (one.box, one.grid) == (other.box, other.grid)
        np.testing.assert_allclose(one.planes, other.planes, atol=1e-6)
        np.testing.assert_allclose(one.features, other.features, atol=1e-6)


def test_features_nobody_wants_are_not_made(store: TissueStore) -> None:
    images = spied(store, 0)
    found, full = regions(images, "odd", features=False), regions(images, "odd")
    assert all(one.features is None and one.grid == one.box for one in found)
    for one, other in zip(found, full, strict=True):
        np.testing.assert_array_equal(one.planes, other.planes)


@pytest.mark.parametrize("halo_px", [0, 8])
@pytest.mark.parametrize("tissue", SHAPES)
def test_tiles_cut_from_a_region_are_those_read_alone_byte_for_byte(
    store: TissueStore, tissue: str, halo_px: int
) -> None:
    images, tiling = spied(store, halo_px), Tiling(SHAPES[tissue], TILE_PX, 8, "core")
    places = [(y.start, x.start) for y in tiling.spans(0) for x in tiling.spans(1)]
    start = min(places)
    size = tuple(last + TILE_PX - first for first, last in zip(start, max(places), strict=True))
    region = images.region(tissue, start, (size[0], size[1]))
    for place in places:
        for one, alone in zip(
            images.cut(region, place), images.read(tissue, place, View(0)), strict=True
        ):
            assert one.dtype == alone.dtype
            np.testing.assert_array_equal(one, alone)


@pytest.mark.parametrize("tissue", ["odd", "tall", "flat"])
def test_a_region_is_read_once_for_all_its_tiles_and_by_itself(
    store: TissueStore, tissue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TileImages, "views", None)  # no tile is read alone
    images = spied(store, 0)
    found = regions(images, tissue, batch_size=1)
    assert 1 < len(images.sizes) <= len(found)
    assert max(max(size) for size in images.sizes) <= 48 + 8  # and an overlap


@pytest.mark.parametrize("spoilt", [0, 4, 11])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_a_tile_that_is_no_number_is_named(
    store: TissueStore, spoilt: int, batch_size: int
) -> None:
    tiles = [(0, 0), (0, 24), (24, 0), (24, 24), (0, 48), (0, 72), (24, 48), (24, 72)]
    tiles += [(48, 0), (48, 24), (48, 48), (48, 72)]  # regions of two by two
    y, x = tiles[spoilt]
    said = f"not finite for tissue odd, tile at row {y}, column {x}:"
    with pytest.raises(FeatureOverflowError, match=said):
        regions(spied(store, 0), "odd", spoilt=spoilt, batch_size=batch_size)
