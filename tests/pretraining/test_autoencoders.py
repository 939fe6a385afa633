"""What both masked autoencoders promise: what is scored, what is shown, what goes on from a file."""

import pytest
import torch
from torch import Generator
from virtues_made import CHANNELS, data, make, random

from tissueseg.contracts import EncoderSpec
from tissueseg.data.image_tiles import ImageBatch
from tissueseg.encoders.tiny import TinyEncoder
from tissueseg.encoders.vit import ViTEncoder
from tissueseg.errors import ConfigError
from tissueseg.pretraining.autoencoder import Reconstruction, patched
from tissueseg.pretraining.markers import MarkerAutoencoder
from tissueseg.pretraining.masks import MarkerMask, PatchMask
from tissueseg.pretraining.patches import PatchAutoencoder, sines

PATCH, SIDE = 4, 4  # pixels of a patch, patches of a tile


def sp_autoencoder(seed=0, **options):
    encoder = random()
    return MarkerAutoencoder(encoder, encoder.vectors, MarkerMask(), depth=1, seed=seed, **options)


def vit(tile_px=16, registers=0):
    spec = EncoderSpec("vit", ("he",), (16,) * 4, PATCH, random_init=True)
    found = data("he")
    found = type(found)(**(vars(found) | {"tile_px": tile_px}))
    options = {"levels": (1, 2, 3, 4), "heads": 2, "positions": "timm", "grid": SIDE}
    return ViTEncoder(spec, found, None, registers=registers, **options)


def he_autoencoder(encoder=None, relative=True, seed=0):
    return PatchAutoencoder(
        encoder or vit(), PatchMask(0.75), dim=8, depth=1, heads=2, relative=relative, seed=seed
    )


def batch_of(network, tiles, present=None, seed=1):
    """As the data makes it: what is hidden is drawn tile by tile."""
    if present is None:
        present = torch.ones(tiles.shape[:2], dtype=torch.bool)
    draws = Generator().manual_seed(seed)
    hidden, decoded = map(torch.stack, zip(*(network.hide(p, draws) for p in present), strict=True))
    markers = torch.arange(tiles.shape[1]).expand(len(tiles), -1)
    place = torch.zeros(len(tiles), 2, dtype=torch.int64)
    return ImageBatch(tiles, present, markers, hidden, decoded, place[:, 0], place)


def pictures(kind, count=3):
    channels = CHANNELS if kind == "sp" else 3
    return torch.randn(count, channels, 16, 16, generator=Generator().manual_seed(2))


NETWORKS = {"sp": sp_autoencoder, "he": he_autoencoder}
both = pytest.mark.parametrize("kind", NETWORKS)


def test_the_loss_counts_hidden_patches_of_channels_that_are_there():
    draw = Generator().manual_seed(0)
    predicted, target = (torch.randn(2, 3, 4, 5, generator=draw) for _ in range(2))
    counts = torch.rand(2, 3, 4, generator=draw) < 0.5
    found = sp_autoencoder().loss(Reconstruction(predicted, target, counts))
    each = [(p - t)[c].square().mean() for p, t, c in zip(predicted, target, counts, strict=True)]
    assert found.item() == pytest.approx(torch.stack(each).mean().item())


def test_every_tile_counts_alike_however_much_is_hidden_of_it():
    predicted, target = torch.zeros(3, 2, 4, 5), torch.ones(3, 2, 4, 5)
    target[1] = 2
    counts = torch.zeros(3, 2, 4, dtype=torch.bool)
    counts[0], counts[1, 0, 0] = True, True  # of the third nothing is hidden
    found = sp_autoencoder().loss(Reconstruction(predicted, target, counts))
    assert found.item() == pytest.approx((1 + 4 + 0) / 3)


def test_absent_channels_are_hidden_filled_in_last_and_never_counted():
    network, tiles = sp_autoencoder(decoded=4), pictures("sp")
    present = torch.ones(3, CHANNELS, dtype=torch.bool)
    present[0, [0, 3]] = False
    present[1, 1:] = False
    batch = batch_of(network, tiles, present)
    assert batch.hidden[~present].all()
    assert set(batch.decoded[0, :3].tolist()) == {1, 2, 4}
    assert batch.decoded[1, 0] == 0
    assert batch.decoded.shape == (3, 4)
    assert all(len(row.unique()) == 4 for row in batch.decoded)
    found = network(batch)
    there = present.gather(1, batch.decoded)
    assert not found.counts[~there].any()
    hidden = torch.stack([h[d] for h, d in zip(batch.hidden, batch.decoded, strict=True)])
    assert torch.equal(found.counts, hidden & there[..., None])


def test_targets_are_the_pixels_of_the_channels_that_are_filled_in():
    network, tiles = sp_autoencoder(decoded=2), pictures("sp")
    batch = batch_of(network, tiles)
    image = patched(network(batch).target)
    for tile, channels in enumerate(batch.decoded):
        assert torch.equal(image[tile], tiles[tile, channels])


def test_he_is_filled_in_relative_to_each_patchs_own_mean_and_spread():
    network, tiles = he_autoencoder(), pictures("he")
    target = network(batch_of(network, tiles)).target[:, 0]
    cut = tiles.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH)
    rows = cut.permute(0, 2, 3, 1, 4, 5).reshape(3, SIDE**2, -1)
    wanted = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(target, wanted)
    plain = he_autoencoder(relative=False)
    assert torch.equal(plain(batch_of(plain, tiles)).target[:, 0], rows)


def test_flat_patches_are_no_reason_for_what_is_not_finite():
    network = he_autoencoder()
    loss = network.loss(network(batch_of(network, torch.ones(2, 3, 16, 16))))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("kind", ["sp", "he"])
def test_planes_give_the_image_back_where_it_was_seen(kind, relative):
    network = sp_autoencoder(decoded=3) if kind == "sp" else he_autoencoder(relative=relative)
    tiles = pictures(kind)
    batch = batch_of(network, tiles)
    found = network(batch)
    image, seen, filled = network.planes(batch, found)
    wanted = tiles if kind == "he" else tiles.gather(
        1, batch.decoded[..., None, None].expand(-1, -1, 16, 16)
    )  # fmt: skip
    torch.testing.assert_close(image, wanted)
    assert seen.dtype == torch.bool
    assert torch.equal(filled[seen], image[seen])
    assert 0 < seen.float().mean() < 1
    assert not torch.equal(filled[~seen], image[~seen])
    exact = network.planes(batch, found._replace(predicted=found.target)).filled
    torch.testing.assert_close(exact, image, atol=1e-5, rtol=1e-4)


def test_hidden_he_has_no_influence_on_what_is_filled_in():
    network, tiles = he_autoencoder(), pictures("he")
    batch = batch_of(network, tiles)
    cells = batch.hidden.unflatten(2, (SIDE, SIDE))
    cells = cells.repeat_interleave(PATCH, 2).repeat_interleave(PATCH, 3)
    other = batch._replace(image=torch.where(cells, tiles + 3, tiles))
    with torch.no_grad():
        assert torch.equal(network(batch).predicted, network(other).predicted)


def test_with_nothing_hidden_a_vit_sees_what_it_sees_when_it_encodes():
    network, tiles = he_autoencoder(vit(registers=2)), pictures("he")
    kept = []
    network.embed.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    with torch.no_grad():
        network._filled(tiles, torch.zeros(3, SIDE**2, dtype=torch.bool))
    wanted = network.encoder(tiles).levels[-1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(kept[0], wanted)


@both
def test_gradients_reach_every_parameter(kind):
    network = NETWORKS[kind]()
    network.loss(network(batch_of(network, pictures(kind)))).backward()
    assert {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()} == set()


@both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_close_to_float32(kind, dtype):
    network = NETWORKS[kind]()
    batch = batch_of(network, pictures(kind))
    wanted = network(batch)
    with torch.autocast("cpu", dtype):
        found = network(batch)
        loss = network.loss(found)
    assert found.predicted.dtype == loss.dtype == torch.float32
    assert 0 < (found.predicted - wanted.predicted).norm() < 0.05 * wanted.predicted.norm()
    torch.testing.assert_close(found.target, wanted.target)


@both
def test_what_is_hidden_follows_the_generator_alone(kind):
    network, present = NETWORKS[kind](), torch.ones(CHANNELS, dtype=torch.bool)
    one, two, other = (
        network.hide(present, Generator().manual_seed(seed)).hidden for seed in (5, 5, 6)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@both
def test_a_file_of_a_pretraining_brings_the_decoder(kind):
    one, two = NETWORKS[kind](seed=1), NETWORKS[kind](seed=2)
    batch = batch_of(one, pictures(kind))
    with torch.no_grad():
        assert not torch.equal(one(batch).predicted, two(batch).predicted)
        assert two.adopt(one.tensors()) == "the decoder of the pre-training goes on from the file"
        assert torch.equal(one(batch).predicted, two(batch).predicted)


@both
def test_of_another_file_what_fits_is_taken_and_the_rest_is_said(kind):
    one, two = NETWORKS[kind](seed=1), NETWORKS[kind](seed=2)
    tensors = one.tensors() | {"decoder.head.weight": torch.zeros(1, 1)}
    own = sum(not name.startswith("encoder.") for name, _ in two.named_parameters())
    assert two.adopt(tensors) == f"1 of the decoder's {own} tensors begin at random"
    assert torch.equal(two.head.bias, one.head.bias)
    encoders = {n: t for n, t in tensors.items() if n.startswith("encoder.")}
    left = own - (kind == "sp")  # the mask token stands with the encoder
    assert two.adopt(encoders).startswith(f"{left} of the decoder's {own} tensors")


@both
def test_tensors_are_copies_ready_for_a_file(kind):
    network = NETWORKS[kind]()
    tensors = network.tensors()
    assert len({t.untyped_storage().data_ptr() for t in tensors.values()}) == len(tensors)
    assert all(t.is_contiguous() and t.dtype == torch.float32 for t in tensors.values())
    before = {n: t.clone() for n, t in tensors.items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert all(torch.equal(t, before[n]) for n, t in tensors.items())


def test_every_marker_is_told_from_all_others_and_from_none_of_its_own():
    network, tiles = sp_autoencoder(), pictures("sp", 2)
    present = torch.ones(2, CHANNELS, dtype=torch.bool)
    present[0, 2] = False
    batch = batch_of(network, tiles, present)
    with torch.no_grad():
        guesses = list(network.guesses(batch))
    assert sorted(g.marker for g in guesses) == [0, 0, 1, 1, 2, 3, 3, 4, 4]
    (guess,) = (g for g in guesses if g.marker == 2)  # of the second tile
    assert torch.equal(patched(guess.target.view(SIDE**2, -1)), tiles[1, 2])
    others = tiles[1, [0, 1, 3, 4]].mean(0)
    torch.testing.assert_close(patched(guess.baseline.view(SIDE**2, -1)), others)
    changed = tiles.clone()
    changed[:, 2] += 5
    with torch.no_grad():
        again = list(network.guesses(batch._replace(image=changed)))
    (same,) = (g for g in again if g.marker == 2)
    assert torch.equal(same.predicted, guess.predicted)


def test_a_marker_without_others_is_not_guessed():
    network, tiles = sp_autoencoder(), pictures("sp", 1)
    present = torch.zeros(1, CHANNELS, dtype=torch.bool)
    present[:, 3] = True
    assert list(network.guesses(batch_of(network, tiles, present))) == []


def test_colours_of_hidden_patches_are_guessed():
    network, tiles = he_autoencoder(relative=False), pictures("he", 2)
    batch = batch_of(network, tiles)
    with torch.no_grad():
        guesses = list(network.guesses(batch))
    assert [g.marker for g in guesses] == [0, 1, 2, 0, 1, 2]
    hidden = batch.hidden[1, 0]
    cells = tiles[1].unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).flatten(1, 2).flatten(2)
    for colour, guess in enumerate(guesses[3:]):
        assert torch.equal(guess.target, cells[colour][hidden].flatten())
        seen = cells[colour][~hidden].mean()
        torch.testing.assert_close(guess.baseline, seen.expand_as(guess.target))


def refused(kind, encoder, **options):
    def make():
        if kind == "sp":
            return MarkerAutoencoder(encoder, torch.zeros(1, 6), MarkerMask(), **options)
        return PatchAutoencoder(encoder, PatchMask(), **options)

    with pytest.raises(ConfigError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


def tiny(modality="sp"):
    spec = EncoderSpec("tiny", ("he", "sp"), (16,) * 4, 8, random_init=True)
    return TinyEncoder(spec, data(modality))


def test_encoders_that_cannot_learn_this_way_are_refused(tmp_path):
    assert "choose encoder=virtues" in refused("sp", tiny())
    assert "choose encoder=virtues" in refused("sp", vit())
    dual = make(tmp_path, "virtues_dual", "he_sp", trained_on_he=True)
    assert "with modality=sp" in refused("sp", dual)
    assert "choose encoder=vit_demo" in refused("he", random())
    assert "encoder.pattern=hvfv" in refused("sp", random("hvfv"))


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("sp", {"depth": 0}, "autoencoder.depth"),
        ("sp", {"decoded": 0}, "autoencoder.decoded"),
        ("he", {"depth": 1.5}, "autoencoder.depth"),
        ("he", {"dim": 0}, "autoencoder.dim"),
        ("he", {"dim": 10, "heads": 4}, "autoencoder.heads=4 does not divide autoencoder.dim=10"),
    ],
)
def test_sizes_that_cannot_be_are_refused(kind, options, says):
    assert says in refused(kind, random() if kind == "sp" else vit(), **options)


def test_tiles_that_patches_do_not_fill_are_refused():
    assert "data.tile_px=18 is not a multiple of the 4 px patch" in refused("he", vit(18))


def test_positions_are_most_alike_nearby():
    table = sines(8, 32)
    alike = (table @ table.T)[3 * 8 + 4].view(8, 8)
    assert alike.argmax() == 3 * 8 + 4
    assert alike[3, 5] > alike[3, 6] > alike[3, 7]
    torch.testing.assert_close(alike[2, 4], alike[4, 4])
    torch.testing.assert_close(alike[3, 5], alike[4, 4])
