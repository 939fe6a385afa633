"""Specs, and the refusals of what does not fit, each with its message."""

from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from stores import compose

from tissueseg import preflight
from tissueseg.agreement import check_composition, check_tiles
from tissueseg.building import build
from tissueseg.contracts import (
    IGNORE,
    Accounting,
    Batch,
    DataSpec,
    EncoderSpec,
    Modality,
    Normalisation,
    TissueClass,
)
from tissueseg.errors import ConfigError, SpecMismatchError
from tissueseg.heads import head_channels
from tissueseg.modules.checkpoint import run_name

SP_ONLY = EncoderSpec("virtues", ("sp",), (16,) * 4, 8)


def check(tile_px=64, **changes):
    fits = {
        "encoder": SP_ONLY,
        "modality": Modality.SP,
        "heads": ["classes", "boundary"],
        "loss_heads": {"boundary", "classes"},
    }
    check_composition(**fits | changes)
    check_tiles(SP_ONLY, tile_px, mpp=0.5)


def test_what_fits_passes():
    check()
    check(tile_px=120)
    check(heads=["classes"], loss_heads=["classes"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        # The study's fault 3: H&E through weights that had never seen any.
        (
            {"modality": Modality.HE},
            r"encoder=virtues was trained on \['sp'\], but modality=he\. Choose modality=sp or another",
        ),
        ({"modality": Modality.HE_SP}, "but modality=he_sp"),
        (
            {"tile_px": 60},
            r"data\.tile_px=60 is not a multiple of the 8 px patch .*Choose 56 or 64",
        ),
        ({"tile_px": 5}, "Choose 8 or 16"),
        ({"tile_px": 0}, r"data\.tile_px=0"),
        ({"tile_px": -8}, r"data\.tile_px=-8"),
        (
            {"heads": ["classes"]},
            r"loss has terms on \['boundary'\], but decoder\.heads has only \['classes'\]\. Add",
        ),
        (
            {"loss_heads": {"classes"}},
            r"decoder\.heads \['boundary'\] would never be trained.*Add a term",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, says):
    with pytest.raises(SpecMismatchError, match=says) as error:
        check(**changes)
    assert isinstance(error.value, ValueError)
    assert "\n" not in str(error.value)


def test_channels_of_heads():
    found = [head_channels(head, 7) for head in ("classes", "foreground", "hv", "boundary")]
    assert found == [7, 1, 2, 1]
    with pytest.raises(SpecMismatchError, match="'outline'; choose from classes, foreground"):
        head_channels("outline", 7)


def test_modalities_name_the_images_in_the_order_of_their_channels():
    assert [m.images for m in Modality] == [("he",), ("sp",), ("he", "sp")]


@pytest.mark.parametrize("levels", [3, 5])
def test_encoders_have_four_levels(levels):
    with pytest.raises(SpecMismatchError, match=f"declares {levels} feature levels, wanted 4"):
        EncoderSpec("e", ("he",), (8,) * levels, 8)


def test_random_weights_stand_in_the_name():
    random = EncoderSpec("vit", ("he",), (8,) * 4, 8, random_init=True)
    assert (SP_ONLY.label, random.label) == ("virtues", "vit_random_init")
    assert "random_init" in run_name("baseline", "he", random.label)


def test_specs_survive_a_file_that_holds_plain_types_only(tmp_path: Path):
    part = EncoderSpec(
        "vit", ("he",), [1, 2, 3, 4], 16, 0.25, accounting=Accounting("vit", 1, 0, 2)
    )
    normalisation = Normalisation((0.1, 0.2, 0.3))
    encoder = EncoderSpec(
        "pair", ("he_sp",), [2, 4, 6, 8], 16, 0.25, normalisation=normalisation, parts=(part, part)
    )
    classes = (TissueClass(0, "background", "#000000"), TissueClass(1, "cell", "#ffffff"))
    data = DataSpec(Modality.HE, 3, classes, (), 0.5, 64)
    torch.save([encoder.as_dict(), data.as_dict()], tmp_path / "s.pt")
    encoder_read, data_read = torch.load(tmp_path / "s.pt", weights_only=True)
    assert EncoderSpec(**encoder_read) == encoder
    assert DataSpec(**data_read) == data


def test_pixels_whose_instance_is_known_are_valid():
    classes = torch.tensor([[[0, 1, IGNORE, IGNORE]]])
    labels = torch.tensor([[[0, 5, 5, 0]]], dtype=torch.int32)
    none = torch.zeros(1)
    batch = Batch(torch.zeros(1, 1, 1, 4), none, classes, labels, {}, none, none, none)
    assert batch.valid.tolist() == [[[True, True, True, False]]]


def test_a_composition_that_fits_returns_the_encoder_s_spec():
    config = compose("setting=untrained", "+experiment=boundary_att")
    spec = preflight.check(config)
    assert (spec.name, spec.random_init) == ("tiny", True)


@pytest.mark.parametrize(
    ("overrides", "error", "says"),
    [
        (
            ["+loss/heads@loss.terms.boundary=boundary"],
            SpecMismatchError,
            r"loss has terms on \['boundary'\]",
        ),
        (
            ["decoder=boundary", "loss.terms.boundary.weight=0"],
            SpecMismatchError,
            r"\['boundary'\] would never be trained",
        ),
        (["loss=none"], ConfigError, "loss.terms has no term of positive weight"),
        (["loss.uncertainty=maybe"], ConfigError, "loss.uncertainty=maybe, wanted true or false"),
        (["+decoder.heads.outline={}"], SpecMismatchError, "'outline'; choose from classes"),
        (["modality=sp", "encoder.spec.modalities=[he]"], SpecMismatchError, "modality=sp"),
        (["encoder.spec.modalities=[]"], SpecMismatchError, "tiny has no modalities"),
        (["store.demo=3"], ConfigError, "store.demo=3, wanted tissues, size_px, mpp and seed"),
        (["data.tile_px=100"], SpecMismatchError, "Choose 96 or 104"),
        (["encoder.spec.channels=[8,8,8]"], SpecMismatchError, "3 feature levels"),
        (["loss.terms.dice.weight=-1"], ConfigError, "loss.terms.dice.weight=-1"),
    ],
)
def test_compositions_that_do_not_fit_are_refused_before_anything_is_opened(overrides, error, says):
    with pytest.raises(error, match=says):
        preflight.check(compose("setting=untrained", *overrides))


def test_an_unknown_modality_is_refused_with_the_known_ones():
    config = compose("setting=untrained")
    config.modality = "if"
    with pytest.raises(ConfigError, match="modality=if is unknown: choose from he, sp, he_sp"):
        preflight.check(config)


def test_class_weights_that_wait_for_the_data_do_not_stop_the_check():
    config = compose("setting=untrained", "class_weights=inverse_frequency")
    preflight.check(config)
    assert config.class_weights == "inverse_frequency"  # waits on
    with pytest.raises(ConfigError, match=r"ce\.loss cannot be built"):
        build(config.loss)


def reach(path: Path, how: str) -> DictConfig:
    """A configuration that would make a folder if its targets were trusted."""
    evil = {"_target_": "os.mkdir", "path": str(path)}
    good = {"_target_": "torch.nn.Sequential"}
    return OmegaConf.create(
        {
            "plain": evil,
            "nested": good | {"_args_": [{"deep": [evil]}]},
            "through_a_module_of_ours": evil | {"_target_": "tissueseg.command.os.mkdir"},
            "through_interpolation": good | {"_args_": ["${plain}"]},
        }
    )[how]


@pytest.mark.parametrize(
    "how", ["plain", "nested", "through_a_module_of_ours", "through_interpolation"]
)
def test_foreign_targets_are_refused_and_not_run(tmp_path: Path, how: str):
    """A run folder's config may come from elsewhere: `evaluate` builds what it says."""
    trace = tmp_path / "was_here"
    with pytest.raises(ConfigError, match=r"os\.mkdir is not among"):
        build(reach(trace, how))
    assert not trace.exists()


def test_our_own_errors_come_through_hydra():
    with pytest.raises(SpecMismatchError, match="3 feature levels"):
        build(compose("setting=untrained", "encoder.spec.channels=[8,8,8]").encoder.spec)
