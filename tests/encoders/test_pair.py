"""Two encoders as one: each sees its own channels at its own scale, and they meet on one grid."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from stores import data_spec

from tissueseg.contracts import EncoderSpec, Normalisation
from tissueseg.encoders.pair import PairEncoder, pair_spec
from tissueseg.encoders.tiny import TinyEncoder
from tissueseg.errors import SpecMismatchError


def part(name, modality, patch_px=8, mpp=None, width=16, **options):
    spec = EncoderSpec(name, (modality,), (width,) * 4, patch_px, mpp, random_init=True, **options)
    return spec, partial(TinyEncoder, spec=spec)


def make(he=None, sp=None, **options):
    (he_spec, he_factory), (sp_spec, sp_factory) = he or part("a", "he"), sp or part("b", "sp")
    spec = pair_spec(he_spec, sp_spec, **options)
    return PairEncoder(spec, data_spec("he_sp"), he_factory, sp_factory)


IMAGE = torch.randn(2, 5, 64, 48, generator=torch.Generator().manual_seed(0))


def test_levels_stand_side_by_side_h_and_e_first():
    pair = make(part("a", "he", width=16), part("b", "sp", width=32))
    he = TinyEncoder(pair.he.spec, data_spec("he"))
    sp = TinyEncoder(pair.sp.spec, data_spec("sp"))
    expected = zip(he(IMAGE[:, :3]).levels, sp(IMAGE[:, 3:]).levels, strict=True)
    found = pair(IMAGE)
    for level, both in zip(found.levels, expected, strict=True):
        torch.testing.assert_close(level, torch.cat(both, 1))
    assert pair.spec.channels == (48,) * 4
    assert found.image is IMAGE


def test_a_coarser_part_is_brought_to_the_finer_grid():
    pair = make(part("a", "he", 16, 0.25), part("b", "sp", 8, 1.0))  # on 0.5 µm/px: 8 and 16 px
    assert (pair.he.stride_px, pair.sp.stride_px, pair.stride_px) == (8, 16, 8)
    levels = pair(IMAGE).levels
    assert {tuple(level.shape) for level in levels} == {(2, 32, 8, 6)}
    alone = pair.sp.grids(IMAGE[:, 3:], None)[3]
    assert alone.shape[-2:] == (4, 3)
    close = F.interpolate(alone, size=(8, 6), mode="bilinear", antialias=True)
    torch.testing.assert_close(levels[3][:, 16:], close)
    assert pair.describe()[-1] == "tokens of b (16 px) are resampled to 8 px"


def test_only_its_own_images_reach_a_part():
    pair, other = make(), IMAGE.clone()
    other[:, 3:] += 1
    before, after = pair(IMAGE).levels[3], pair(other).levels[3]
    assert torch.equal(before[:, :16], after[:, :16])
    assert not torch.equal(before[:, 16:], after[:, 16:])


def test_it_takes_each_part_s_normalisation_and_its_own_halo():
    he = part("a", "he", normalisation=Normalisation(he_mean=(0.1, 0.2, 0.3)))
    sp = part("b", "sp", normalisation=Normalisation(sp_quantile=0.999, sp_blur_sigma_px=1.0))
    pair = make(he, sp, halo_px=8)
    assert pair.spec.normalisation == Normalisation((0.1, 0.2, 0.3), (0.5,) * 3, 0.999, 1.0)
    features = pair(IMAGE)
    assert features.levels[0].shape[-2:] == (6, 4)
    assert features.image.shape[-2:] == (48, 32)


def test_its_digest_holds_both_parts_weights():
    spec, _ = part("b", "sp")
    assert make().spec.sha256 == make().spec.sha256
    assert (
        make(sp=(spec, partial(TinyEncoder, spec=spec, seed=1))).spec.sha256 != make().spec.sha256
    )
    assert make().spec.label == "a_random_init+b_random_init"


class Counting(TinyEncoder):
    """Notes how many tiles it is given at a time."""

    seen: list[int]

    def __init__(self, spec, data):
        super().__init__(spec, data)
        self._chunk, self.seen = 2, []

    def encode(self, image, present):
        self.seen.append(len(image))
        return super().encode(image, present)


def test_a_part_s_chunk_holds_within_the_pair():
    spec, _ = part("b", "sp")
    pair = make(sp=(spec, partial(Counting, spec=spec)))
    image = torch.cat((IMAGE, IMAGE, IMAGE[:1]))
    assert pair(image).levels[0].shape[0] == 5
    assert pair.sp.seen == [2, 2, 1]


def test_a_pair_has_one_halo():
    with pytest.raises(SpecMismatchError, match=r"encoder\.he\.halo_px=16: a pair has one halo"):
        make(he=part("a", "he", halo_px=16))
    assert make(he=part("a", "he", halo_px=8), halo_px=8).he.spec.halo_px == 8


def test_channels_without_signal_are_named_to_the_part_that_has_them():
    class Absent(TinyEncoder):
        def encode(self, image, present):
            assert present.tolist() == [[True, False]] * 2
            return super().encode(image, present)

    spec, _ = part("b", "sp")
    present = torch.tensor([[True, True, True, True, False]] * 2)
    features = make(sp=(spec, partial(Absent, spec=spec)))(IMAGE, present)
    assert features.levels[0].isfinite().all()
