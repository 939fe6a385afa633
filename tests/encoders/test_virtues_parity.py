"""Our VirTues against outputs of the published network's tiny instances, in both layouts."""

import pytest
import torch

from tissueseg.contracts import Channel, DataSpec, Markers, Modality
from tissueseg.encoders.virtues import VirTues, dual_spec

pytestmark = pytest.mark.parity

TOLERANCE = 1e-5
LEVELS = (1, 2, 3, 4)


def encoder(folder, name, modality, io):
    index = io["marker_index"]
    panel = tuple(Channel(f"c{c}") for c in index.tolist()) if "sp" in modality else ()
    spec = dual_spec("dual" in name, name=name, channels=(32,) * 4, patch_px=8, mpp=1.0)
    data = DataSpec(Modality(modality), 3, (), panel, 1.0, 48)
    vectors = io["marker_embeddings"][index].numpy()

    def markers(panel):
        return Markers(tuple(range(len(panel))), vectors)

    weights = str(folder / f"{name}.safetensors")
    return VirTues(spec, data, weights, markers, "dual" in name, LEVELS)


@pytest.mark.parametrize(
    ("name", "modality", "images", "stored"),
    [
        ("virtues_multiplex", "sp", ("image",), ""),
        ("virtues_flex_dual", "sp", ("image",), "sp."),
        ("virtues_flex_dual", "he_sp", ("he", "image"), "sp_he."),
        ("virtues_flex_dual", "he", ("he",), "he."),
    ],
)
def test_levels_and_final_summaries_are_the_published_ones(golden, name, modality, images, stored):
    io = golden(f"{name}_io")
    network = encoder(golden.folder, name, modality, io)
    image = torch.cat([io[i] for i in images], 1)
    final, levels = network.summaries(image)
    found = (final, *levels, *network(image).levels)
    numbered = [io[f"{stored}layer_{n}"] for n in LEVELS]
    wanted = (io[f"{stored}pss"], *numbered, *numbered)
    errors = [
        (a.permute(0, 2, 3, 1) - b).abs().max().item() for a, b in zip(found, wanted, strict=True)
    ]
    golden.assert_error(f"{name}, {modality}, levels 1 to 4 and summary", max(errors), TOLERANCE)


@pytest.mark.parametrize("name", ["virtues_multiplex", "virtues_flex_dual"])
def test_every_parameter_of_the_published_file_is_accounted_for(golden, name):
    accounting = encoder(golden.folder, name, "sp", golden(f"{name}_io")).spec.accounting
    assert accounting.loaded + accounting.ignored == sum(t.numel() for t in golden(name).values())
    assert accounting.missing == 0
