"""ViT encoders: what published files hold is loaded, placed and mixed as their formulas say."""

import copy
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from stores import data_spec

from tissueseg.contracts import EncoderSpec
from tissueseg.encoders.vit import ViTEncoder, dino_positions, timm_positions
from tissueseg.errors import ConfigError, WeightsError

DIM, PATCH, LEVELS = 16, 8, (1, 2, 3, 4)


def make(weights=None, channels=(DIM,) * 4, patch=PATCH, data=None, random_init=None, **options):
    """A ViT of 4 blocks on a 4 × 4 grid: random, unless there are weights."""
    random_init = weights is None if random_init is None else random_init
    spec = EncoderSpec("vit", ("he",), channels, patch, random_init=random_init)
    options = {"levels": LEVELS, "heads": 4, "positions": "timm"} | options
    if random_init:
        options = {"grid": 4} | options
    return ViTEncoder(spec, data or data_spec("he"), weights, **options)


def tensors_of(encoder):
    return {name: value.clone() for name, value in encoder.state_dict().items()}


@pytest.fixture
def write(tmp_path):
    """Write tensors as a checkpoint, with a last norm as published; changes may replace or drop some."""

    def save(encoder, prefix="", drop=(), **changes):
        tensors = tensors_of(encoder) | {"norm.weight": torch.ones(DIM)} | changes
        kept = {prefix + n: t for n, t in tensors.items() if n not in drop}
        path = tmp_path / "vit.safetensors"
        save_file(kept, path)
        return str(path)

    return save


def same(one, other, image):
    pairs = zip(one(image).levels, other(image).levels, strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def cubic(x, a):
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def dino_matrix(stored, wanted):
    """Rows: outputs; columns: weights of the stored positions, borders repeated."""
    rows = torch.zeros(wanted, stored, dtype=torch.float64)
    for i in range(wanted):
        at = (i + 0.5) / ((wanted + 0.1) / stored) - 0.5
        for k in range(math.floor(at) - 1, math.floor(at) + 3):
            rows[i, min(max(k, 0), stored - 1)] += cubic(at - k, -0.75)
    return rows


def timm_matrix(stored, wanted):
    """The kernel is widened where the grid shrinks, cut off at borders and scaled to sum 1."""
    step = stored / wanted
    rows = torch.tensor(
        [
            [cubic((k + 0.5 - (i + 0.5) * step) / max(step, 1), -0.5) for k in range(stored)]
            for i in range(wanted)
        ],
        dtype=torch.float64,
    )
    return rows / rows.sum(1, keepdim=True)


@pytest.mark.parametrize("grid", [(6, 6), (3, 5), (7, 2)])
@pytest.mark.parametrize(
    ("resample", "matrix"), [(dino_positions, dino_matrix), (timm_positions, timm_matrix)]
)
def test_positions_are_resampled_by_their_formula(resample, matrix, grid):
    table = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    expected = matrix(4, grid[0]) @ table @ matrix(4, grid[1]).T
    torch.testing.assert_close(resample(table, grid), expected, atol=1e-5, rtol=1e-5)


def test_positions_are_left_alone_on_the_stored_grid_only():
    dino, timm = make(positions="dino"), make(positions="timm")
    assert same(dino, timm, torch.randn(1, 3, 32, 32))
    assert not same(dino, timm, torch.randn(1, 3, 32, 64))
    assert not same(dino, timm, torch.randn(1, 3, 16, 64))  # as many tokens, another shape


def test_positions_are_made_once_for_a_grid_and_follow_the_weights():
    encoder, image = make(), torch.randn(1, 3, 48, 32)
    digest = encoder.digest()
    first = encoder(image).levels[3]
    made = encoder._placed[6, 4]
    encoder(image)
    assert encoder._placed[6, 4] is made
    assert encoder.digest() == digest  # over all of the state
    other = make(seed=1)
    encoder.load_state_dict(other.state_dict())
    assert same(encoder, other, image)
    assert not torch.equal(encoder(image).levels[3], first)
    encoder.double()(image.double())
    assert encoder._placed[6, 4].patches.dtype == torch.float64


def test_positions_of_patches_only_are_added_to_patches_only(write):
    source = make(registers=2)
    stored = source.pos_embed.clone()
    stored[:, :3] = 0
    with_prefix = make(write(source, pos_embed=stored), registers=2)
    patches_only = make(write(source, pos_embed=stored[:, 3:].clone()), registers=2)
    for image in (torch.randn(1, 3, 32, 32), torch.randn(1, 3, 48, 40)):
        assert same(with_prefix, patches_only, image)


@pytest.mark.parametrize("registers", [0, 4])
def test_class_and_register_tokens_take_part_and_are_dropped(registers):
    encoder, image = make(registers=registers), torch.randn(2, 3, 32, 48)
    levels = encoder(image).levels
    assert all(level.shape == (2, DIM, 4, 6) for level in levels)
    for name in ("reg_token" if registers else "cls_token", "pos_embed"):
        changed = make(registers=registers)
        changed.get_parameter(name)[:, :1].normal_()
        assert (levels[0] - changed(image).levels[0]).abs().max() > 1e-3


def test_tokens_stay_where_their_patches_are():
    encoder, image = make(), torch.randn(1, 3, 32, 48)
    for block in encoder.blocks:  # nothing mixes: what is left is patch and position
        block.attn.proj.weight.zero_()
    other = image.clone()
    other[..., 8:16, 32:40] += 1
    difference = encoder(image).levels[3] - encoder(other).levels[3]
    assert difference.abs().amax(dim=1)[0].nonzero().tolist() == [[1, 4]]


@pytest.mark.parametrize("size", [(16, 48), (40, 24), (8, 8)])
def test_tiles_of_a_batch_do_not_mix(size):
    encoder, image = make(registers=1), torch.randn(3, 3, *size)
    together = encoder(image).levels
    for a, b in zip(together, encoder(image[1:2]).levels, strict=True):
        assert a.shape == (3, DIM, size[0] // PATCH, size[1] // PATCH)
        torch.testing.assert_close(a[1:2], b, atol=1e-5, rtol=1e-4)


def test_levels_are_taken_after_the_blocks_named():
    deep = make(levels=(1, 2, 3, 6))
    some = copy.deepcopy(deep)
    some.levels = (2, 3, 5, 6)
    image = torch.randn(1, 3, 32, 32)
    levels, others = deep(image).levels, some(image).levels
    assert len(deep.blocks) == 6
    assert [torch.equal(levels[i], others[j]) for i, j in ((1, 0), (2, 1), (3, 3))] == [True] * 3
    assert not torch.equal(levels[0], others[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_stays_close_to_float32(dtype):
    encoder, image = (
        make(registers=1, swiglu_hidden=24, layer_scale=True),
        torch.randn(2, 3, 32, 48),
    )
    exact = encoder(image).levels[3]
    with torch.autocast("cpu", dtype):
        close = encoder(image).levels[3]
    assert (close.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"registers": 4},
        {"layer_scale": True},
        {"swiglu_hidden": 24},
        {"registers": 4, "layer_scale": True, "swiglu_hidden": 24},
    ],
)
def test_a_file_says_what_network_it_holds(write, options):
    source, image = make(**options, seed=5), torch.randn(1, 3, 48, 32)
    loaded = make(write(source, prefix="encoder."), registers=options.get("registers", 0))
    assert same(source, loaded, image)
    assert loaded.digest() == source.digest()
    count = sum(p.numel() for p in source.parameters())
    found = loaded.spec.accounting
    assert (found.layout, found.loaded, found.missing, found.ignored) == ("vit", count, 0, DIM)
    assert found.reasons == ("norm.* (16): the last norm: features are taken before it",)
    assert not loaded.spec.random_init
    assert loaded.spec.label == "vit"
    assert loaded.spec.sha256 == loaded.digest()


def test_a_cellvit_checkpoint_is_taken_with_its_mean_and_std(tmp_path):
    source, path = make(), tmp_path / "CellViT-256.pth"
    state = {f"encoder.{n}": t for n, t in tensors_of(source).items()}
    decoder = {
        "decoder0.0.block.0.weight": torch.ones(7),
        "nuclei_binary_map_decoder.x": torch.ones(3),
    }
    config = {"transformations.normalize.mean": [0.7, 0.6, 0.5], "data.num_nuclei_classes": 6}
    torch.save({"arch": "CellViT256", "config": config, "model_state_dict": state | decoder}, path)
    encoder = make(str(path), positions="dino")
    assert encoder.spec.normalisation.he_mean == (0.7, 0.6, 0.5)
    assert encoder.spec.normalisation.he_std == (0.5, 0.5, 0.5)
    found = encoder.spec.accounting
    assert found.loaded + found.ignored == sum(t.numel() for t in (state | decoder).values())
    assert found.ignored == 10


def test_half_precision_files_are_computed_in_float32(write):
    source = make()
    halves = {n: t.half() for n, t in tensors_of(source).items()}
    encoder = make(write(source, **halves))
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": (32,) * 4}, "tokens of width 16, but encoder=vit wants 32"),
        ({"levels": (1, 2, 3, 5)}, "blocks of 4, but encoder=vit wants 5"),
        ({"patch": 16}, "px of 8, but encoder=vit wants 16"),
        ({"registers": 4}, "0 register tokens, but encoder=vit wants 4"),
    ],
)
def test_a_file_of_another_architecture_is_refused(write, options, message):
    with pytest.raises(WeightsError, match=f"{message}: choose the encoder that fits the file"):
        make(write(make()), **options)


def test_a_file_of_another_layout_is_refused(write):
    source = make()
    sam = {"blocks.0.mlp.lin1.weight": torch.ones(1)}
    path = write(source, drop=("cls_token",), **sam)
    with pytest.raises(WeightsError, match="layout sam, but encoder=vit wants vit"):
        make(path)


@pytest.mark.parametrize(
    ("drop", "changes", "message"),
    [
        (("blocks.2.attn.qkv.bias",), {}, r"lacks blocks\.2\.attn\.qkv\.bias"),
        (("blocks.0.mlp.fc2.weight",), {}, r"lacks blocks\.0\.mlp\.fc2\.weight"),
        ((), {"blocks.1.surprise": torch.ones(2)}, r"has blocks\.1\.surprise"),
        ((), {"blocks.1.norm1.weight": torch.ones(3)}, r"shape \[3\], wanted \[16\]"),
        ((), {"blocks.1.norm1.weight": torch.full((DIM,), math.nan)}, "not finite"),
        ((), {"pos_embed": torch.ones(1, 13, DIM)}, "pos_embed has 13 rows, wanted a square"),
        ((), {"pos_embed": torch.ones(17, DIM)}, r"pos_embed has shape \[17, 16\], wanted 3 dim"),
    ],
)
def test_a_file_that_lacks_or_adds_something_is_refused(write, drop, changes, message):
    with pytest.raises(WeightsError, match=message):
        make(write(make(), drop=drop, **changes))


def test_a_file_cut_short_is_refused(write):
    path = write(make())
    Path(path).write_bytes(Path(path).read_bytes()[:5000])
    with pytest.raises(WeightsError, match="cut short"):
        make(path)


def test_random_weights_are_seeded_named_and_asked_for():
    state = torch.random.get_rng_state()
    one, two = make(), make()
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.digest() == two.digest() != make(seed=1).digest()
    assert one.spec.label == "vit_random_init"
    assert one.spec.accounting.missing == sum(p.numel() for p in one.parameters())
    assert one.spec.accounting.loaded == 0
    with pytest.raises(WeightsError, match="random_init=true"):
        make(random_init=False)
    with pytest.raises(ConfigError, match="keep one of them"):
        make("some.pth", random_init=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (1, 2, 3)}, "encoder.levels.*wanted 4 rising"),
        ({"levels": (1, 3, 3, 4)}, "encoder.levels.*wanted 4 rising"),
        ({"levels": (0, 1, 2, 3)}, "encoder.levels.*counted from 1"),
        ({"heads": 3}, "encoder.heads=3 does not divide the 16"),
        ({"heads": 0}, "encoder.heads=0"),
        ({"positions": "sine"}, "encoder.positions=sine, wanted dino or timm"),
        ({"channels": (16, 16, 16, 32)}, "wanted 4 equal"),
    ],
)
def test_options_no_vit_can_have_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)
