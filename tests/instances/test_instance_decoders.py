"""What all decoders of instances share."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml
from nuclei_made import made_nuclei, noisy_maps, pieces_of

from tissueseg.errors import ConfigError, SpecMismatchError
from tissueseg.instances.boundary import instance_boundary
from tissueseg.instances.boundary_decoder import BoundaryDecoder
from tissueseg.instances.components_decoder import ComponentsDecoder
from tissueseg.instances.hv import decode_hv, encode_hv
from tissueseg.instances.hv_decoder import HvDecoder
from tissueseg.instances.maps import Maps

DECODERS = [HvDecoder(), HvDecoder("published_20x"), BoundaryDecoder(), ComponentsDecoder()]
CONFIGS = Path(__file__).parents[2] / "configs" / "instances"


def maps_of(labels):
    rim = instance_boundary(labels).astype(np.float32)
    return Maps((labels > 0).astype(np.float32), encode_hv(labels), rim)


@pytest.fixture(params=DECODERS, ids=repr)
def decoder(request):
    return request.param


def test_a_pickled_decoder_decodes_alike(decoder):
    maps = maps_of(made_nuclei(60, 0.5, "sparse"))
    found = decoder(maps, 0.5)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(decoder))(maps, 0.5), found)
    assert found.dtype == np.int32
    assert found.max() >= 55


def test_ids_come_in_reading_order(decoder):
    found = decoder(maps_of(made_nuclei(60, 0.5)), 0.5)
    met = list(dict.fromkeys(label for label in found.reshape(-1).tolist() if label))
    assert met == list(range(1, len(met) + 1))


@pytest.mark.parametrize("decoder", [*DECODERS[:2], DECODERS[3]], ids=repr)
def test_no_instance_hangs_together_by_a_corner_alone(decoder):
    labels = made_nuclei(400, 0.5, "dense", seed=1)
    foreground, hv = noisy_maps(labels, encode_hv(labels), noise=0.6)
    found = decoder(Maps(foreground, hv), 0.5)
    assert found.max() >= 100
    assert len(np.unique(pieces_of(found)[found > 0])) == found.max()


def test_background_alone_and_what_is_not_finite(decoder):
    nothing = np.zeros((20, 24), np.float32)
    assert not decoder(Maps(nothing, np.stack([nothing] * 2), nothing), 0.5).any()
    unknown = np.full((20, 24), np.nan, np.float32)
    assert not decoder(Maps(unknown, np.stack([unknown] * 2), unknown), 0.5).any()
    full = nothing + 1
    assert decoder(Maps(full, encode_hv(full.astype(int)), nothing), 1.0).max() == 1


def test_margins_grow_with_the_scale(decoder):
    assert decoder.reach_px(0.25) > decoder.reach_px(1.0) > 0


@pytest.mark.parametrize(("preset", "sobel_px"), [("published_40x", 21), ("published_20x", 11)])
def test_the_margin_of_a_published_preset_holds_its_kernel_as_well(preset, sobel_px):
    assert HvDecoder(preset).reach_px(0.5) == HvDecoder().reach_px(0.5) + sobel_px


@pytest.mark.parametrize("decoder", DECODERS[:3], ids=repr)
def test_a_missing_map_is_named_with_decoders_that_do_without(decoder):
    with pytest.raises(SpecMismatchError, match="choose instances=components, or train"):
        decoder(Maps(np.zeros((4, 4), np.float32)), 0.5)
    (field,) = decoder.needs
    with pytest.raises(SpecMismatchError, match=f"the maps {field}"):
        decoder(maps_of(made_nuclei(10, 1.0))._replace(foreground=np.zeros((4, 4))), 0.5)


def test_a_network_with_rims_is_offered_the_decoder_for_them():
    maps = maps_of(made_nuclei(10, 1.0))._replace(hv=None)
    with pytest.raises(SpecMismatchError, match="instances=boundary or instances=components"):
        HvDecoder()(maps, 1.0)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (HvDecoder, {"preset": "x"}, "preset=x"),
        (HvDecoder, {"nucleus_um": -1}, "nucleus_um=-1"),
        (BoundaryDecoder, {"rim": 1.5}, "rim=1.5"),
        (BoundaryDecoder, {"neck": 0}, "neck=0"),
        (ComponentsDecoder, {"neck": None}, "neck=null"),
        (ComponentsDecoder, {"split": "yes"}, "split=yes"),
    ],
)
def test_options_beyond_their_limits(make, options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


@pytest.mark.parametrize(
    "name", ["hv", "hv_published_40x", "hv_published_20x", "boundary", "components"]
)
def test_configurations_are_the_defaults_of_their_class(name):
    options = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))
    made = {f"{type(one).__module__}.{type(one).__name__}": type(one) for one in DECODERS}
    decoder = made[options.pop("_target_")](**options)
    published = {"hv_published_40x": "published_40x", "hv_published_20x": "published_20x"}
    assert decoder == (HvDecoder(published[name]) if name in published else type(decoder)())


def test_the_decoder_of_offsets_is_the_function():
    maps = maps_of(made_nuclei(40, 0.5))
    assert maps.hv is not None
    expected = decode_hv(maps.foreground, maps.hv, 0.5, nucleus_um=9.0)
    np.testing.assert_array_equal(HvDecoder(nucleus_um=9.0)(maps, 0.5), expected)
