"""SAM's image encoder: windows, relative positions and sizes read from a file, each by its formula."""

import copy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from stores import data_spec
from torch import nn

from tissueseg.contracts import EncoderSpec
from tissueseg.encoders.sam import GridAttention, SAMEncoder, offsets_between
from tissueseg.errors import ConfigError, SpecMismatchError, WeightsError

DIM, PATCH, LEVELS = 16, 8, (1, 2, 3, 4)


def make(weights=None, channels=(DIM,) * 4, patch=PATCH, data=None, random_init=None, **options):
    """Four blocks, windows of 3, two blocks without, positions of 8 × 8: random, or with weights."""
    random_init = weights is None if random_init is None else random_init
    halo_px = options.pop("halo_px", 0)
    spec = EncoderSpec("sam", ("he",), channels, patch, halo_px=halo_px, random_init=random_init)
    if random_init:
        options = {"heads": 4, "window": 3, "global_blocks": (2, 4), "grid": 8} | options
    return SAMEncoder(
        spec, data or data_spec("he"), weights, options.pop("levels", LEVELS), **options
    )


def published(encoder):
    """Tensors by SAM's names, and a neck."""
    renamed = {n.replace(".mlp.fc", ".mlp.lin"): t for n, t in encoder.state_dict().items()}
    neck = {"neck.0.weight": torch.ones(2, DIM, 1, 1), "neck.1.bias": torch.ones(2)}
    return {n: t.clone() for n, t in (renamed | neck).items()}


@pytest.fixture
def write(tmp_path):
    """Write an encoder's tensors as a checkpoint; changes may replace or drop some."""

    def save(encoder, prefix="", drop=(), **changes):
        kept = {prefix + n: t for n, t in (published(encoder) | changes).items() if n not in drop}
        path = tmp_path / "sam.safetensors"
        save_file(kept, path)
        return str(path)

    return save


def same(one, other, image):
    pairs = zip(one(image).levels, other(image).levels, strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def attention(window=None, grid=8):
    torch.manual_seed(0)
    layer = GridAttention(DIM, 4, grid, window).requires_grad_(False)
    layer.rel_pos_h.normal_()
    layer.rel_pos_w.normal_()
    return layer


def row_and_column(cell, width):
    return cell // width, cell % width


def by_definition(layer, tokens, allowed):
    """Attention with every score written out: (h, w, dim) in and out, pairs not allowed left out."""
    height, width = tokens.shape[:2]
    side, d, n = layer.window or height, DIM // layer.heads, height * width
    flat = tokens.reshape(n, DIM) @ layer.qkv.weight.T + layer.qkv.bias
    query, key, value = flat.reshape(n, 3, layer.heads, d).unbind(1)
    scores = torch.full((layer.heads, n, n), -torch.inf)
    for a in range(n):
        for b in range(n):
            (i, j), (k, l) = row_and_column(a, width), row_and_column(b, width)  # noqa: E741
            if not allowed((i, j), (k, l)):
                continue
            down, right = layer.rel_pos_h[i - k + side - 1], layer.rel_pos_w[j - l + side - 1]
            relative = query[a] @ (down + right)
            scores[:, a, b] = (query[a] * key[b]).sum(-1) / d**0.5 + relative
    mixed = torch.einsum("hab,bhd->ahd", scores.softmax(-1), value).reshape(height, width, DIM)
    return mixed @ layer.proj.weight.T + layer.proj.bias


def test_relative_positions_are_added_to_every_score():
    layer, tokens = attention(grid=5), torch.randn(2, 5, 5, DIM)
    expected = torch.stack([by_definition(layer, t, lambda a, b: True) for t in tokens])
    torch.testing.assert_close(layer(tokens), expected)


@pytest.mark.parametrize("size", [(6, 6), (3, 6), (5, 7), (2, 2)])
def test_windows_are_attention_that_ends_at_their_borders(size):
    layer, tokens = attention(window=3), torch.randn(2, *size, DIM)
    whole = [-(-side // 3) * 3 for side in size]
    padded = torch.zeros(2, *whole, DIM)  # zeros take part, as published
    padded[:, : size[0], : size[1]] = tokens

    def together(a, b):
        return (a[0] // 3, a[1] // 3) == (b[0] // 3, b[1] // 3)

    expected = torch.stack([by_definition(layer, t, together) for t in padded])
    torch.testing.assert_close(layer(tokens), expected[:, : size[0], : size[1]])


@pytest.mark.parametrize(("stored", "side"), [(8, 8), (8, 5), (8, 1), (4, 6)])
def test_relative_positions_of_another_length_are_interpolated(stored, side):
    table = torch.randn(2 * stored - 1, 3)
    length = 2 * side - 1
    at = (np.arange(length) + 0.5) * len(table) / length - 0.5
    columns = [np.interp(at, np.arange(len(table)), column) for column in table.T.numpy()]
    line = torch.tensor(np.stack(columns, 1), dtype=torch.float32)
    found = offsets_between(table, side)
    for i in range(side):
        for k in range(side):
            torch.testing.assert_close(found[i, k], line[i - k + side - 1], atol=1e-5, rtol=1e-5)


def test_a_small_tile_takes_the_top_left_positions():
    encoder = make()
    for block in encoder.blocks:  # nothing is added: tokens stay patch plus position
        for last in (block.attn.proj, block.mlp.fc2):
            last.weight.zero_()
            last.bias.zero_()
    image = torch.randn(1, 3, 24, 40)
    patches = torch.conv2d(
        image, encoder.patch_embed.proj.weight, encoder.patch_embed.proj.bias, PATCH
    )
    expected = patches + encoder.pos_embed[:, :3, :5].permute(0, 3, 1, 2)
    for level in encoder(image).levels:
        torch.testing.assert_close(level, expected)


def test_a_tile_larger_than_the_positions_is_refused():
    with pytest.raises(SpecMismatchError, match=r"8 × 8 patches, got 9 × 9.*halo_px of at most 64"):
        make(data=data_spec("he", tile_px=72))
    with pytest.raises(SpecMismatchError, match=r"got 10 × 10.*halo_px of at most 64"):
        make(data=data_spec("he", tile_px=64), halo_px=8)
    encoder = make()
    with pytest.raises(SpecMismatchError, match="got 4 × 9"):
        encoder(torch.randn(1, 3, 32, 72))


@pytest.mark.parametrize("size", [(64, 64), (40, 24), (8, 16)])
def test_tiles_of_a_batch_do_not_mix(size):
    encoder, image = make(), torch.randn(3, 3, *size)
    together = encoder(image).levels
    for a, b in zip(together, encoder(image[1:2]).levels, strict=True):
        assert a.shape == (3, DIM, size[0] // PATCH, size[1] // PATCH)
        torch.testing.assert_close(a[1:2], b, atol=1e-5, rtol=1e-4)


def test_only_blocks_without_windows_see_the_whole_tile():
    image = torch.randn(1, 3, 48, 48)
    other = image.clone()
    other[..., 40:, 40:] += 1
    encoder = make()
    seen = [
        (a - b)[0, :, 0, 0].abs().max().item() > 0
        for a, b in zip(encoder(image).levels, encoder(other).levels, strict=True)
    ]
    assert seen == [False, True, True, True]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_close_to_float32(dtype):
    encoder, image = make(), torch.randn(2, 3, 40, 64)
    exact = encoder(image).levels[3]
    with torch.autocast("cpu", dtype):
        close = encoder(image).levels[3]
    assert (close.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(
    "options", [{}, {"heads": 2, "window": 5, "global_blocks": (1,), "grid": 9}]
)
def test_a_file_says_what_network_it_holds(write, options):
    source, image = make(**options, seed=5), torch.randn(1, 3, 56, 40)
    loaded = make(write(source, prefix="encoder."))
    assert same(source, loaded, image)
    assert loaded.digest() == source.digest()
    count = sum(p.numel() for p in source.parameters())
    found = loaded.spec.accounting
    assert (found.layout, found.loaded, found.missing, found.ignored) == ("sam", count, 0, 34)
    assert found.reasons == ("neck.* (34): SAM's neck: features are taken before it",)
    assert loaded.spec.label == "sam"
    assert loaded.spec.sha256 == loaded.digest()


def test_a_cellvit_checkpoint_is_taken_with_its_mean_and_std(tmp_path):
    source, path = make(), tmp_path / "CellViT-SAM.pth"
    state = {f"encoder.{n}": t for n, t in published(source).items()}
    decoder = {"decoder0.0.weight": torch.ones(7), "classifier_head.weight": torch.ones(3)}
    config = {"transformations.normalize.std": [0.3, 0.2, 0.1]}
    torch.save({"arch": "CellViTSAM", "config": config, "model_state_dict": state | decoder}, path)
    encoder = make(str(path))
    assert encoder.spec.normalisation.he_std == (0.3, 0.2, 0.1)
    assert encoder.spec.accounting.ignored == 34 + 10
    assert same(source, encoder, torch.randn(1, 3, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (32,) * 4}, "tokens of width 16, but encoder=sam wants 32"),
        ({"levels": (1, 2, 3, 5)}, "blocks of 4, but encoder=sam wants 5"),
        ({"patch": 16}, "px of 8, but encoder=sam wants 16"),
    ],
)
def test_a_file_of_another_architecture_is_refused(write, options, message):
    with pytest.raises(WeightsError, match=f"{message}: choose the encoder that fits the file"):
        make(write(make()), **options)


def test_a_file_of_another_layout_is_refused(write):
    vit = {"cls_token": torch.ones(1), "blocks.0.mlp.fc1.weight": torch.ones(1)}
    with pytest.raises(WeightsError, match="layout vit, but encoder=sam wants sam"):
        make(write(make(), **vit))


@pytest.mark.parametrize(
    ("drop", "changes", "message"),
    [
        (("blocks.2.attn.rel_pos_h",), {}, r"lacks blocks\.2\.attn\.rel_pos_h"),
        (("blocks.2.mlp.lin2.bias",), {}, r"lacks blocks\.2\.mlp\.lin2\.bias"),
        ((), {"blocks.1.surprise": torch.ones(2)}, r"has blocks\.1\.surprise"),
        ((), {"blocks.1.norm1.weight": torch.ones(3)}, r"shape \[3\], wanted \[16\]"),
        ((), {"blocks.0.attn.rel_pos_h": torch.ones(5, 3)}, "3 wide, wanted a divisor of 16"),
        ((), {"blocks.1.attn.rel_pos_w": torch.ones(9, 4)}, r"shape \[9, 4\], wanted \[15, 4\]"),
        ((), {"pos_embed": torch.ones(1, 8, 7, DIM)}, r"shape \[1, 8, 7, 16\]"),
        ((), {"pos_embed": torch.ones(1, 64, DIM)}, "wanted 4 dimensions"),
    ],
)
def test_a_file_that_lacks_or_adds_something_is_refused(write, drop, changes, message):
    with pytest.raises(WeightsError, match=message):
        make(write(make(), drop=drop, **changes))


def test_random_weights_are_seeded_named_and_asked_for():
    state = torch.random.get_rng_state()
    one, two = make(), make()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.digest() == two.digest() != make(seed=1).digest()
    assert one.spec.label == "sam_random_init"
    assert one.spec.accounting.missing == sum(p.numel() for p in one.parameters())
    with pytest.raises(WeightsError, match=r"encoder\.random_init=true"):
        make(random_init=False)
    with pytest.raises(ConfigError, match="keep one of them"):
        make("some.pth", random_init=True)
    with pytest.raises(ConfigError, match=r"encoder\.heads=3 does not divide the 16"):
        make(heads=3)


def test_a_copy_computes_the_same():
    encoder, image = make(), torch.randn(1, 3, 40, 64)
    assert same(encoder, copy.deepcopy(encoder), image)


def test_compilation_is_asked_of_every_block(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    encoder = make(compile=True)
    assert compiled == list(encoder.blocks)
