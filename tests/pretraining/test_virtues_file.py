"""A learned VirTues as the released file: what is written is read back, bit by bit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from virtues_made import CHANNELS, HEADS, assert_close, data, image, make, marker_table, random

from tissueseg.contracts import Channel, DataSpec, EncoderSpec, Markers, Modality
from tissueseg.encoders.virtues import VirTues, dual_spec
from tissueseg.pretraining.markers import MarkerAutoencoder
from tissueseg.pretraining.masks import MarkerMask
from tissueseg.tensorfile import read_tensors


def autoencoder(encoder, **options):
    return MarkerAutoencoder(encoder, encoder.vectors, MarkerMask(), depth=1, **options)


def written(network, path: Path) -> str:
    save_file(network.tensors(), path)
    return str(path)


def loaded(path, markers=range(CHANNELS)):
    spec = EncoderSpec("virtues", ("sp",), (1,) * 4, 8)  # sizes are the file's
    return VirTues(spec, data(), path, marker_table(markers), levels=(1, 2, 3, 4))


@pytest.mark.parametrize("pattern", ["hvhv", "vvhh", "hhvv", "hhhh"])
def test_what_was_learnt_is_loaded_bit_by_bit(tmp_path, pattern):
    ours = random(pattern, seed=7)
    again = loaded(written(autoencoder(ours), tmp_path / "w.safetensors"))
    assert again.sizes == ours.sizes
    assert again.sizes.heads == HEADS
    wanted = dict(ours.named_parameters())
    assert dict(again.named_parameters()).keys() == wanted.keys()
    for name, found in again.named_parameters():
        assert torch.equal(found, wanted[name]), name
    assert again.spec.accounting.missing == 0
    assert_close(again(image()).levels, ours(image()).levels, atol=0)


def test_a_file_may_be_read_as_often_as_it_is_written(tmp_path):
    first = autoencoder(make(tmp_path)).tensors()
    save_file(first, tmp_path / "1.safetensors")
    second = autoencoder(loaded(str(tmp_path / "1.safetensors")))
    assert "the decoder of the pre-training goes on" in second.adopt(first)
    assert second.tensors().keys() == first.keys()
    assert all(torch.equal(t, first[name]) for name, t in second.tensors().items())


def test_what_is_loaded_says_what_it_leaves_in_the_file(tmp_path):
    again = loaded(written(autoencoder(random()), tmp_path / "w.safetensors"))
    said = " ".join(again.describe())
    assert "VirTues' own decoder" in said
    assert "used in pre-training only" in said
    assert "random" not in again.spec.label


@pytest.mark.parity
@pytest.mark.parametrize("name", ["virtues_multiplex", "virtues_flex_dual"])
def test_published_weights_are_written_as_they_were_published(golden, tmp_path, name):
    io, file = golden(f"{name}_io"), str(golden.folder / f"{name}.safetensors")
    index = io["marker_index"]
    spec = dual_spec("dual" in name, name=name, channels=(32,) * 4, patch_px=8, mpp=1.0)
    panel = tuple(Channel(f"c{c}") for c in index.tolist())
    vectors = io["marker_embeddings"][index]
    network = VirTues(
        spec,
        DataSpec(Modality.SP, len(panel), (), panel, 1.0, 48),
        file,
        lambda panel: Markers(tuple(range(len(panel))), vectors.numpy()),
        levels=(1, 2, 3, 4),
    )
    learning, given = autoencoder(network), golden(name)
    said = learning.adopt(read_tensors(file).tensors)
    assert "tensors begin at random" in said  # their decoder is another
    lead = "encoder." if any(n.startswith("encoder.encoder.") for n in given) else ""
    theirs = {n.removeprefix(lead): t for n, t in given.items() if n.startswith(lead)}
    renamed = {
        "multiplex_patch_encoder.": "patch_encoder.",
        "protein_encoder.": "prior_embedding_encoder.",
    }
    for old, new in renamed.items():
        theirs = {n.replace(old, new): t for n, t in theirs.items()}
    ours = {n.removeprefix("encoder."): t for n, t in learning.tensors().items()}
    kept = {n for n in theirs if not n.startswith(("he_", "decoder."))}
    assert kept == {n for n in ours if not n.startswith("decoder.")}
    for n in kept:
        if ".rope1d." in n:  # computed anew
            torch.testing.assert_close(ours[n], theirs[n], atol=1e-3, rtol=0)
        else:
            assert torch.equal(ours[n], theirs[n]), n
    assert torch.equal(ours["masked_token"], theirs["masked_token"])
