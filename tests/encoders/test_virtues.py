"""VirTues' features against a plain loop over sequences, on weights made here."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import correlate
from virtues_made import (
    CHANNELS,
    DIM,
    PATCH,
    assert_close,
    image,
    make,
    marker_table,
    naive,
    published,
    random,
)

from tissueseg.encoders.virtues import blurred


@pytest.mark.parametrize("pattern", ["hvhv", "vvhh", "hhvv", "hvvh"])
def test_every_pattern_agrees_with_a_loop_over_sequences(tmp_path, pattern):
    encoder, tiles = make(tmp_path, pattern=pattern), image()
    found = encoder(tiles).levels
    for b, tile in enumerate(tiles):
        wanted = naive(published(pattern=pattern), tile, encoder.vectors, (3, 5))
        assert_close([level[b] for level in found], wanted)


@pytest.mark.parametrize("modality", ["he", "he_sp"])
def test_he_is_one_more_channel_after_the_markers(tmp_path, modality):
    encoder = make(tmp_path, "virtues_dual", modality, trained_on_he=True)
    tiles = image(channels=encoder.data.image_channels)
    found = encoder(tiles).levels
    for b, tile in enumerate(tiles):
        weights = published("virtues_dual")
        wanted = naive(weights, tile[3:], encoder.vectors, (3, 5), rgb=tile[:3])
        assert_close([level[b] for level in found], wanted)


def test_the_last_norm_is_in_the_final_summary_alone(tmp_path):
    encoder, tensors = make(tmp_path), published()
    final, levels = encoder.summaries(image())
    weight, bias = tensors["layer_norm.weight"], tensors["layer_norm.bias"]
    normed = F.layer_norm(levels[-1].permute(0, 2, 3, 1), (DIM,), weight, bias)
    assert_close([final], [normed.permute(0, 3, 1, 2)])
    assert_close(levels, encoder(image()).levels)


@pytest.mark.parametrize("layout", ["virtues", "virtues_dual"])
@pytest.mark.parametrize("pattern", ["hvhv", "vhvh"])
def test_absent_channels_are_as_if_they_were_not_there(tmp_path, layout, pattern):
    he = layout == "virtues_dual"
    modality, first = ("he_sp", 3) if he else ("sp", 0)
    encoder = make(tmp_path, layout, modality, pattern, trained_on_he=he)
    tiles = image(3, first + CHANNELS)
    present = torch.ones(3, first + CHANNELS, dtype=torch.bool)
    for tile, absent in enumerate([(1, 4), (), (0, 1, 2, 3, 4)]):
        present[tile, [first + c for c in absent]] = False
    found = encoder(tiles, present).levels
    for b, tile in enumerate(tiles):
        kept = present[b, first:]
        rgb = tile[:3] if he else None
        weights = published(layout, pattern)
        wanted = naive(weights, tile[first:][kept], encoder.vectors[kept], (3, 5), rgb)
        assert_close([level[b] for level in found], wanted)


def test_channels_absent_from_the_whole_batch_cost_nothing_and_change_nothing(tmp_path):
    encoder, tiles = make(tmp_path), image()
    present = torch.tensor([True, False, True, False, False]).expand(2, -1)
    sparse = make(tmp_path, channels=(0, 2))
    assert_close(encoder(tiles, present).levels, sparse(tiles).levels)
    tokens, seen = encoder._tokens(tiles, present, torch.float32)
    assert tokens.shape[1] == 3
    assert seen is None


@pytest.mark.parametrize("pattern", ["fvhf", "hfvf"])
def test_blocks_over_both_axes_leave_absent_channels_out(pattern):
    tiles, present = image(), torch.ones(2, CHANNELS, dtype=torch.bool)
    present[0, 2] = False
    encoder, without = random(pattern), random(pattern, markers=marker_table((0, 1, 3, 4)))
    found = encoder(tiles, present).levels
    assert_close([x[:1] for x in found], without(tiles[:1]).levels)
    assert_close([x[1:] for x in found], encoder(tiles[1:]).levels)


def test_channels_without_a_marker_are_left_out(tmp_path):
    encoder, tiles = make(tmp_path, channels=(3, 0)), image()
    other = tiles.clone()
    other[:, [1, 2, 4]] += 1
    assert_close(encoder(tiles).levels, encoder(other).levels, atol=0)
    wanted = naive(published(), tiles[0, [3, 0]], encoder.vectors, (3, 5))
    assert_close([level[0] for level in encoder(tiles).levels], wanted)


def test_the_order_of_channels_does_not_matter(tmp_path):
    order = (4, 2, 0, 1, 3)
    assert_close(make(tmp_path)(image()).levels, make(tmp_path, channels=order)(image()).levels)


def test_markers_matter():
    tiles = image().repeat_interleave(CHANNELS, 1)[:, :CHANNELS]  # all channels alike
    swapped = marker_table((0, 0, 0, 0, 1))
    change = random()(tiles).levels[3] - random(markers=swapped)(tiles).levels[3]
    assert change.abs().max() > 1e-3


def test_positions_matter(tmp_path):
    encoder, tiles = make(tmp_path), image()
    mirrored = tiles.unflatten(-1, (5, PATCH)).flip(-2).flatten(-2)  # cells, not their pixels
    levels, others = encoder(tiles).levels, encoder(mirrored).levels
    assert_close(levels[:1], [others[0].flip(-1)])  # summaries are alike until channels reach them
    for a, b in zip(levels[1:], others[1:], strict=True):
        assert (a - b.flip(-1)).abs().max() > 1e-2
    by_channel = make(tmp_path, pattern="vvhv", levels=(1, 2, 3, 4))
    first, other = by_channel(tiles).levels[1], by_channel(mirrored).levels[1]
    assert_close([first], [other.flip(-1)])  # before any block that knows positions


@pytest.mark.parametrize("pattern", ["hvhvvv", "hvhfvv", "hvvhvv", "hvhhvv"])
def test_the_last_block_computes_only_summaries_and_the_same_ones(pattern):
    short = random(pattern, (1, 2, 3, 4))(image()).levels[3]
    whole = random(pattern, (1, 2, 4, 6))(image()).levels[2]
    assert_close([short], [whole])


def test_tiles_of_a_batch_and_of_chunks_do_not_mix(tmp_path):
    tiles = image(3)
    together = make(tmp_path)(tiles).levels
    assert_close([x[1:2] for x in together], make(tmp_path)(tiles[1:2]).levels)
    assert_close(together, make(tmp_path, chunk=2)(tiles).levels)


def test_levels_keep_their_own_memory(tmp_path):
    levels = make(tmp_path)(image()).levels
    assert len({x.untyped_storage().data_ptr() for x in levels}) == 4
    assert all(x.untyped_storage().nbytes() == x.numel() * 4 for x in levels)


def test_long_panels_take_the_fused_attention_to_the_same_end(monkeypatch):
    tiles = image()
    short = random()(tiles).levels
    present = torch.ones(2, CHANNELS, dtype=torch.bool)
    present[1, 0] = False
    ragged = random()(tiles, present).levels
    monkeypatch.setattr("tissueseg.encoders.virtues_layers._SHORT", 0)
    monkeypatch.setattr("tissueseg.encoders.virtues_layers._MOST_HEADS", 7)
    assert_close(random()(tiles).levels, short)
    assert_close(random()(tiles, present).levels, ragged)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_close_to_float32(tmp_path, dtype):
    encoder = make(tmp_path, sigma=1.0)
    wanted = encoder(image()).levels
    with torch.autocast("cpu", dtype):
        found = encoder(image()).levels
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == torch.float32
        assert 0 < (a - b).norm() < 0.03 * b.norm()


def test_the_blur_is_a_mirrored_gaussian_of_three_by_three():
    tile = image(1, 2)
    line = np.exp(-0.5 * np.array([1, 0, 1]) / 0.8**2)
    kernel = np.outer(line, line) / line.sum() ** 2
    wanted = [correlate(c, kernel, mode="mirror") for c in tile[0].double().numpy()]
    np.testing.assert_allclose(blurred(tile, 0.8)[0].numpy(), np.stack(wanted), atol=1e-6)


def test_the_encoder_blurs_sp_and_not_he(tmp_path):
    tiles = image(channels=3 + CHANNELS)
    options = {"layout": "virtues_dual", "modality": "he_sp", "trained_on_he": True}
    by_hand = torch.cat((tiles[:, :3], blurred(tiles[:, 3:], 1.0)), 1)
    soft, sharp = make(tmp_path, sigma=1.0, **options), make(tmp_path, **options)
    assert_close(soft(tiles).levels, sharp(by_hand).levels)


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_blocks_compute_the_same():
    tiles = image()
    present = torch.ones(2, CHANNELS, dtype=torch.bool)
    present[1, 0] = False
    compiled = random(compile=True)
    assert_close(compiled(tiles).levels, random()(tiles).levels)
    assert_close(compiled(tiles, present).levels, random()(tiles, present).levels)
