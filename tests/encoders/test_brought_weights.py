"""The learned encoders that come with the package."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
import torch
from stores import compose

from tissueseg.config import WEIGHTS_DIR
from tissueseg.contracts import Channel, Modality
from tissueseg.data.datamodule import data_spec
from tissueseg.data.image_tiles import ImageTiles, Source, collate_images
from tissueseg.data.markers import MarkerTable
from tissueseg.data.normalise import Normaliser
from tissueseg.errors import SpecMismatchError, WeightsNotFoundError
from tissueseg.features import build_encoder
from tissueseg.modules.marker_scores import MarkerTally
from tissueseg.pretraining.markers import MarkerAutoencoder
from tissueseg.pretraining.masks import MarkerMask
from tissueseg.store.demo import PANEL, DemoParameters
from tissueseg.store.demo.cohort import demo_store
from tissueseg.store.tissues import TissueStore
from tissueseg.tensorfile import check_local, read_tensors

TABLE = "builtin://demo_markers.safetensors"
MOST_BYTES = 2_000_000


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    """A drawn tissue of a seed that neither the demo nor the pre-training draws."""
    drawn = DemoParameters(tissues=1, size_px=256, seed=77)
    return TissueStore(demo_store(drawn, tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("name", ["vit_demo", "virtues_demo"])
def test_a_file_is_small_and_its_card_tells_of_it(name: str) -> None:
    file = WEIGHTS_DIR / f"{name}.safetensors"
    card = (WEIGHTS_DIR / f"{name}.md").read_text(encoding="utf-8")
    assert file.stat().st_size <= MOST_BYTES
    assert sha256(file.read_bytes()).hexdigest() in card
    assert f"python -m tissueseg.pretrain +pretraining={name}" in card


@pytest.mark.parametrize(
    ("modality", "name"), [("he", "vit_demo"), ("sp", "virtues_demo"), ("he_sp", None)]
)
def test_the_demo_shows_its_images_to_what_has_learnt(
    unseen: TissueStore, modality: str, name: str | None
) -> None:
    config = compose("setting=demo", f"modality={modality}")
    encoder = build_encoder(config, data_spec(unseen, Modality(modality), 64))
    assert "random" not in encoder.spec.label
    assert encoder.spec.name == (name or "vit_demo+virtues_demo")
    image = torch.randn(1, encoder.data.image_channels, 64, 64)
    assert [tuple(level.shape[-2:]) for level in encoder(image).levels] == [(8, 8)] * 4


def test_the_table_tells_the_demos_markers_apart() -> None:
    found = MarkerTable(TABLE)(PANEL)
    assert found.channels == tuple(range(len(PANEL)))
    assert len({vector.tobytes() for vector in found.vectors}) == len(PANEL)


def test_another_panel_is_sent_elsewhere() -> None:
    with pytest.raises(SpecMismatchError, match=r"That table is the demo's: .* encoder=virtues"):
        MarkerTable(TABLE)((Channel("Vimentin", "P08670"),))


@pytest.mark.parametrize("name", ["nothing.safetensors", "../contracts.py", ""])
def test_what_does_not_come_along_is_refused_by_name(name: str) -> None:
    with pytest.raises(WeightsNotFoundError, match=r"brings no such file, but .*vit_demo"):
        check_local(f"builtin://{name}")


def test_hidden_markers_of_unseen_tissue_are_told_better_than_by_the_others_mean(
    unseen: TissueStore,
) -> None:
    config = compose("setting=demo", "modality=sp")
    encoder = build_encoder(config, data_spec(unseen, Modality.SP, 128))
    table = MarkerTable(TABLE)(PANEL)
    network = MarkerAutoencoder(encoder, torch.from_numpy(table.vectors), MarkerMask())  # pyright: ignore[reportArgumentType]
    file = check_local(config.encoder.weights)
    assert isinstance(file, Path)
    assert "goes on from the file" in network.adopt(read_tensors(str(file)).tensors)
    normaliser = Normaliser.fit(unseen, unseen.tissues, Modality.SP, encoder.spec.normalisation)
    channels = tuple(range(len(PANEL)))
    source = Source(unseen, tuple(unseen.tissues), normaliser, channels, channels, 128)
    tiles = ImageTiles([source], 128, network.hide)
    tally = MarkerTally([channel.name for channel in PANEL])
    with torch.no_grad():
        tally.add(network.guesses(collate_images([tiles[0], tiles[3]])))
    scores = tally.scores()
    better = sum(score.correlation > score.baseline for score in scores)
    assert better > len(scores) / 2
