"""Tissues of unknown µm/px: prepared when that is stated, and refused where a scale is needed."""

import pytest
import zarr
from folders import convert
from ome_zarr_models.v05 import Image

from tissueseg.agreement import check_tiles
from tissueseg.contracts import EncoderSpec
from tissueseg.errors import SpecMismatchError
from tissueseg.store.sources.folder import FolderSource


@pytest.fixture
def store(image_folder, tmp_path):
    image_folder.describe(mpp="unknown")
    return convert(FolderSource(image_folder.path), tmp_path / "s.zarr")


def test_it_is_kept_as_unknown_and_the_image_is_valid(store):
    assert store.mpp is None
    image = Image.from_zarr(zarr.open_group(store.path / "a/he", mode="r"))
    (multiscale,) = image.ome_attributes.multiscales
    assert [axis.unit for axis in multiscale.axes] == [None] * 3


def test_an_encoder_with_a_scale_is_refused_on_it(store):
    spec = EncoderSpec("vit", ("he",), (8,) * 4, 16, 0.25)
    with pytest.raises(SpecMismatchError, match=r"does not know its µm/px.*encoder\.mpp=null"):
        check_tiles(spec, 32, store.mpp)
