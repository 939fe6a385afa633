"""How an encoder's own scale, its patches, tiles and halo settle on one stride."""

import pytest

from tissueseg.agreement import check_tiles
from tissueseg.contracts import EncoderSpec
from tissueseg.encoders.pair import pair_spec
from tissueseg.errors import SpecMismatchError


def spec(name="vit", modality="he", patch_px=16, mpp=0.25, **options):
    return EncoderSpec(name, (modality,), (8,) * 4, patch_px, mpp, **options)


@pytest.mark.parametrize(
    ("patch_px", "own", "store", "stride", "seen"),
    [
        (16, 0.25, 0.25, 16, 128),
        (16, 0.25, 0.5, 8, 256),  # CellViT on ×20 data
        (8, 1.0, 0.5, 16, 64),  # VirTues on ×20 data
        (8, 1.0, 1.0, 8, 128),
        (14, 0.25, 0.25, 16, 126),  # Virchow: 128 px hold nine patches of 14
        (16, 0.25, 0.325, 16, 160),  # ORION's scale: 12.3 px a token
        (8, None, 0.5, 8, 128),
        (8, None, None, 8, 128),
    ],
)
def test_stride_and_input_follow_from_both_scales(patch_px, own, store, stride, seen):
    at = spec(patch_px=patch_px, mpp=own).at(store)
    assert (at.stride_px, at.input_px(128, store)) == (stride, seen)
    check_tiles(at, 128, store)


def test_a_stated_stride_stays():
    assert spec(stride_px=8).at(0.25).stride_px == 8


def test_a_store_without_scale_is_refused_unless_the_encoder_gives_up_its_own():
    with pytest.raises(SpecMismatchError, match=r"does not know its µm/px.*encoder\.mpp=null"):
        check_tiles(spec(), 128, None)
    check_tiles(spec(mpp=None), 128, None)


@pytest.mark.parametrize(
    ("encoder", "tile_px", "says"),
    [
        (spec(), 100, "tile_px=100 is not a multiple of the 16 px patch.*Choose 96 or 112"),
        (spec(halo_px=10), 128, "halo_px=10 is not a multiple.*Choose 16"),
        (spec(patch_px=14), 16, "choose larger tiles"),
    ],
)
def test_tiles_that_hold_no_whole_tokens_are_refused(encoder, tile_px, says):
    with pytest.raises(SpecMismatchError, match=says):
        check_tiles(encoder, tile_px, 0.25)


@pytest.mark.parametrize(
    "options", [{"mpp": 0.0}, {"mpp": -1.0}, {"patch_px": 0}, {"halo_px": -8}, {"stride_px": 1.5}]
)
def test_sizes_that_cannot_be_meant_are_refused(options):
    with pytest.raises(SpecMismatchError, match="wanted"):
        spec(**options)


def test_a_pair_meets_on_the_finer_grid():
    pair = pair_spec(spec(), spec("virtues", "sp", 8, 1.0), halo_px=16).at(0.5)
    assert (pair.name, pair.stride_px, pair.channels) == ("vit+virtues", 8, (16,) * 4)
    assert pair.scaled
    check_tiles(pair, 128, 0.5)
    with pytest.raises(SpecMismatchError, match="16 px patch of encoder=virtues"):
        check_tiles(pair, 120, 0.5)


def test_a_pair_says_which_part_is_random():
    pair = pair_spec(spec(), spec("virtues", "sp", random_init=True))
    assert (pair.random_init, pair.label) == (True, "vit+virtues_random_init")


def test_a_pair_wants_each_part_in_its_place():
    with pytest.raises(SpecMismatchError, match=r"encoder\.sp=vit was trained on \['he'\]"):
        pair_spec(spec(), spec())
