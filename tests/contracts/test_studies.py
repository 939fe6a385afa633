"""Every study, under every protocol: its arms compose, differ, and are what their names say."""

from __future__ import annotations

from itertools import product

import pytest
from hydra import initialize_config_dir
from stores import choices, compose

from tissueseg import preflight
from tissueseg.config import CONFIG_DIR
from tissueseg.study import arm_words, recipe
from tissueseg.study_checks import check_different, check_study

STUDIES = choices("study")
PARTED = {"pretraining": ["setting=demo"], "own_encoders": ["setting=demo"]}
"""Studies of encoders that have parts, which those of the tests have not."""
PROTOCOLS = [name for name in choices("protocol") if name != "none"]


def arms(study: str, protocol: str) -> dict[str, list[str]]:
    """Arm -> all words of its runs."""
    shared = [f"+study={study}", f"protocol={protocol}", *PARTED.get(study, ())]
    config = compose(*shared)
    check_study(config)
    return {arm: [*arm_words(config, arm), *shared] for arm in config.study.arms}


def test_the_studies_of_the_reference_are_there() -> None:
    wanted = "augmentation criterion decoders encoders gating instance oversampling skipconn"
    assert set(wanted.split()) < set(STUDIES)


WEIGHTS = ("store.path=cohort.zarr", "setting=demo")  # a place that no environment need name
COMPOSED = [*product(STUDIES, ["demo", "full"]), *product(["criterion"], PROTOCOLS)]


@pytest.mark.parametrize(("study", "protocol"), COMPOSED)
def test_arms_compose_and_differ(study: str, protocol: str) -> None:
    made = arms(study, protocol)
    assert len(made) > 1
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        check_different({arm: recipe([*words, *WEIGHTS]) for arm, words in made.items()})


@pytest.mark.parametrize("study", STUDIES)
def test_on_the_demo_every_arm_could_train(study: str) -> None:
    for arm, words in arms(study, "demo").items():
        config = compose(*words)
        name = preflight.check(config).name
        assert (name == "tiny") == (study not in PARTED), arm
        preflight.check_training(config)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_sweeps_folds_and_seeds_and_reports_another_side_than_chooses(
    protocol: str,
) -> None:
    with_hydra = compose("+study=decoders", f"protocol={protocol}", hydra=True)
    swept = with_hydra.hydra.sweeper.params
    assert {"seed", "split.fold", "study.arm"} <= set(swept)
    assert swept["study.arm"] == ",".join(with_hydra.study.arms)
    assert with_hydra.monitor.startswith("val/")
    assert with_hydra.protocol.metric.startswith("test/")


def test_an_arm_gives_way_to_words_of_the_command_line() -> None:
    words = arms("skipconn", "demo")["sp_skips"]
    assert compose(*words).decoder.skips == "all"
    assert compose(*words, "decoder.skips=image_only").decoder.skips == "image_only"


def test_weights_of_arms_are_given_once() -> None:
    words = ["+study=skipconn", "protocol=full", "study.weights.virtues=v.safetensors"]
    config = compose(*words)
    for arm in config.study.arms:
        assert any(w.endswith("weights=v.safetensors") for w in arm_words(config, arm)), arm
