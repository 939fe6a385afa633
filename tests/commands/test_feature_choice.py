"""Which stored features a run takes, whatever lies beside them: the right ones, or none and why."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from feature_runs import (
    WEIGHTED,
    WORDS,
    encoded,
    error_line,
    feature_store,
    write_cohort,
    write_weights,
)
from published import MARKER, write_published
from rich.console import Console
from safetensors.torch import save_file
from stores import PANEL, compose, random_tissue, three_tissues, write_store

from tissueseg import assembly, features, preflight
from tissueseg.contracts import Modality
from tissueseg.data.normalise import Normaliser
from tissueseg.errors import StoreNotFoundError, WeightsError
from tissueseg.store.tissues import TissueStore

Command = Callable[..., Any]  # name, overrides -> code, out, err

SP = (*WORDS, "modality=sp")


@pytest.fixture
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, whoever builds an encoder to train or score with fails."""
    import_module("tissueseg.prediction")  # it keeps what it finds when it is first imported

    def refuse(*_: Any) -> None:
        raise AssertionError("an encoder is built")

    return lambda: monkeypatch.setattr(features, "build_encoder", refuse)


def note(*words: str) -> str:
    """What `train` would say of where its features come from."""
    config = compose(*words)
    preflight.check(config)
    store = assembly.open_store(config, Console())
    split = assembly.open_split(config, store)
    (said,) = features.open_features(config, store, split).notes
    return said


def refusal(*words: str) -> str:
    """What `train` would say to features=stored where none serve."""
    with pytest.raises(StoreNotFoundError) as caught:
        note(*words, "features=stored")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_sp_that_a_source_scales_otherwise_is_another_image(command: Command, here: Path) -> None:
    assert command("embed", *SP).code == 0
    before = TissueStore(here / "cohort.zarr").image_digests("b", Modality.SP)
    stated = three_tissues()
    stated["b"] = stated["b"]._replace(clips={"0.99": [1000.0, 1500.0]})
    write_cohort(here, stated)
    after = TissueStore(here / "cohort.zarr").image_digests("b", Modality.SP)
    assert (after["sp"] == before["sp"], after == before) == (True, False)
    assert f"{feature_store(here).name} was made from other images of 1 tissues (b)" in refusal(*SP)
    result = command("embed", *SP)
    assert (result.code, encoded(result.out)) == (0, ["b"])
    assert f"stored in {feature_store(here)}" in note(*SP, "features=stored")


def test_of_stores_that_match_the_exact_one_is_taken(command: Command, here: Path) -> None:
    dtypes = ("float32", "bfloat16", "float16")
    for dtype in dtypes:
        assert command("embed", *WORDS, f"embeddings.dtype={dtype}").code == 0
    for dtype in dtypes:
        words = (*WORDS, "features=stored", f"embeddings.dtype={dtype}")
        said = note(*words, "embeddings.check=match")
        assert said.endswith(f"(1 view, {dtype}); no encoder is built")
        assert said == note(*words)


@pytest.mark.parametrize(
    ("precision", "taken"), [("32-true", "float16"), ("bf16-mixed", "float32")]
)
def test_if_none_is_exact_the_one_of_fewest_differences_is_taken(
    command: Command, here: Path, precision: str, taken: str
) -> None:
    for made in (("float16", "32-true"), ("float32", "bf16-mixed")):
        words = (f"embeddings.dtype={made[0]}", f"trainer.precision={made[1]}")
        assert command("embed", *WORDS, *words).code == 0
    wanted = ("embeddings.dtype=bfloat16", f"trainer.precision={precision}")
    said = note(*WORDS, *wanted, "features=stored", "embeddings.check=match")
    but = f"other than asked for (stored ≠ wanted): dtype {taken} ≠ bfloat16"
    assert said.endswith(f"(1 view, {taken}); {but}; no encoder is built")


@pytest.mark.parametrize("views", ["views.dihedral=8", "views.dihedral=1"])
def test_a_run_is_scored_on_the_features_it_was_trained_on(
    command: Command, here: Path, no_encoder: Callable[[], None], views: str
) -> None:
    given = (*WORDS, "features=stored", "trainer.precision=bf16-mixed")
    assert command("embed", *given, "views=8").code == 0
    no_encoder()
    match = ("embeddings.check=match", "epochs=1", "run_dir=run")
    assert command("train", *given, views, *match).code == 0
    for precision in ("32-true", "bf16-mixed"):  # of the evaluation itself
        words = ("run=run", "features=stored", f"trainer.precision={precision}")
        result = command("evaluate", *words)
        assert result.code == 0, result.err
        assert f"stored in {feature_store(here)} (8 views, float16)" in result.out


def test_features_do_without_weights_and_markers_that_lie_elsewhere(
    command: Command, here: Path
) -> None:
    weights = write_published(here).virtues
    table = here / "markers.safetensors"
    draw = torch.Generator().manual_seed(0)
    save_file({str(c.uniprot): torch.randn(MARKER, generator=draw) for c in PANEL}, table)
    named = ("encoder=virtues", f"encoder.weights={weights}", f"markers.table={table}")
    words = (*SP, *named)
    assert command("embed", *words).code == 0
    stored = f"stored in {feature_store(here)}"
    assert stored in note(*words)
    table.rename(here / "moved")
    assert stored in note(*words, "features=stored")
    weights.rename(here / "moved.safetensors")
    assert stored in note(*words, "features=stored")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        note(*words)


def test_a_run_without_weights_takes_features_where_there_are_some(
    command: Command, here: Path
) -> None:
    words, weights = (*WORDS, *WEIGHTED), write_weights(here / "one.safetensors", seed=1)
    nameless = "encoder=cellvit_256 has no weights: give encoder.weights="
    for absent in ((), ("embeddings.path=nowhere",)):
        assert nameless in error_line(command("train", *words, *absent))
    assert command("embed", *words, weights, "views=4").code == 0
    with pytest.raises(WeightsError, match="encoder=cellvit_256 has no weights"):
        note(*words)  # there is a store, and it does not serve
    assert f"stored in {feature_store(here)}" in note(*words, "views=4")
    for source in ("auto", "stored", "online"):
        assert nameless in error_line(command("embed", *words, "views=4", f"features={source}"))


def test_a_link_to_a_cohort_leads_to_its_features(command: Command, here: Path) -> None:
    (here / "elsewhere").mkdir()
    (here / "elsewhere/link.zarr").symlink_to(here / "cohort.zarr")
    linked = (*WORDS, "store.path=elsewhere/link.zarr")
    assert command("embed", *linked).code == 0
    assert not list((here / "elsewhere").glob("*_embeddings"))
    for words in (WORDS, linked):
        assert f"stored in {feature_store(here)}" in note(*words)
        assert "complete already" in command("embed", *words).out


def moments(monkeypatch: pytest.MonkeyPatch, mean: float) -> None:
    """Let every cohort have this mean in its first channel."""

    def fit(cls: type[Normaliser], *given: Any) -> Normaliser:
        return cls(*given[2:], sp_mean=(mean, 7.25), sp_std=(0.5, 1.5))

    monkeypatch.setattr(Normaliser, "fit", classmethod(fit))


def test_the_last_digits_of_moments_do_not_matter_and_others_are_shown(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments(monkeypatch, 0.25)
    assert command("embed", *SP).code == 0
    for digits in (0.2500000000001, 0.2499999999999):
        moments(monkeypatch, digits)
        assert f"stored in {feature_store(here)}" in note(*SP)
    for digits in (0.2500001, 0.250000000001):
        moments(monkeypatch, digits)
        said = f"normaliser.sp_mean [0.25, 7.25] ≠ [{digits}, 7.25] (SP is scaled"
        assert said in refusal(*SP)


def test_numbers_that_differ_a_little_are_shown_in_full(command: Command, here: Path) -> None:
    jittered = (*WORDS, "views.extra=1")
    assert command("embed", *jittered, "views.he_jitter=0.25").code == 0
    said = refusal(*jittered, "views.he_jitter=0.2500001")
    assert said.endswith("(stored ≠ wanted): views.he_jitter 0.25 ≠ 0.2500001")


SPLITS = ("split={train: 2, val: 1, test: 0}", "split={train: 1, val: 2, test: 0}")


def test_another_split_scales_sp_otherwise_and_leaves_he_as_it_is(
    command: Command, here: Path
) -> None:
    assert command("embed", *SP).code == 0
    said = refusal(*SP, SPLITS[0])
    assert "normaliser.sp_mean [" in said
    assert "normaliser.sp_std [" in said
    assert said.endswith("(SP is scaled by the moments of the training tissues)")
    assert "encoded online, since the nearest store" in note(*SP, SPLITS[0])
    assert f"stored in {feature_store(here)}" in note(*SP, SPLITS[1])  # the same train
    assert command("embed", *WORDS, "embeddings.path=he").code == 0
    for split in SPLITS:
        assert "features: stored in " in note(*WORDS, split, "embeddings.path=he")


def test_nobody_is_sent_to_embed_what_evaluation_wants_of_another_cohort(
    command: Command, here: Path
) -> None:
    assert command("embed", *SP).code == 0
    assert command("train", *SP, "features=stored", "epochs=1", "run_dir=run").code == 0
    tissues = {name: random_tissue(seed=seed, patient=name) for seed, name in enumerate("defg", 7)}
    write_store(here / "other.zarr", tissues)
    other = ("run=run", "store.path=other.zarr", "features=stored")
    error = error_line(command("evaluate", *other))
    assert error.endswith(f"there are none in {here / 'other_embeddings'}.\n")
    assert command("embed", *SP, "store.path=other.zarr").code == 0
    error = error_line(command("evaluate", *other))
    assert "is of another origin (stored ≠ wanted): normaliser.sp_mean [" in error
    assert error.endswith("(SP is scaled by the moments of the training tissues)\n")
    assert "tissueseg.embed" not in error
    result = command("evaluate", *other[:2])
    assert (result.code, "tissueseg.embed" in result.out) == (0, False)
