"""From a composed configuration to parts of a run; `check` has its tests in test_contracts."""

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from stores import TINY, compose, three_tissues, write_store

from tissueseg import assembly, preflight
from tissueseg.building import build
from tissueseg.composition import plain
from tissueseg.contracts import TissueClass
from tissueseg.errors import ConfigError, SpecMismatchError, SplitError
from tissueseg.features import FeatureSource, open_features
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TissueStore:
    return write_store(tmp_path_factory.mktemp("assembly") / "s.zarr", three_tissues())


def test_the_demo_is_drawn_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TISSUESEG_CACHE", str(tmp_path))
    said = StringIO()
    config = compose(*TINY, "store.demo={tissues: 2, size_px: 64}")
    store = assembly.open_store(config, Console(file=said))
    assert store.path.parent == tmp_path
    assert store.tissues == ("demo_000", "demo_001")
    assert said.getvalue().startswith("Drawing the demo tissues")


def test_a_store_that_is_named_is_opened(store):
    config = compose(*TINY, f"store.path={store.path}")
    assert assembly.open_store(config, Console(file=StringIO())).path == store.path


def test_the_split_takes_its_patients_from_the_store(tmp_path: Path):
    tissues = {n: t._replace(patient="same") for n, t in three_tissues().items()}
    store = write_store(tmp_path / "s.zarr", tissues)
    with pytest.raises(SplitError, match="of 1 patients"):
        assembly.open_split(compose(*TINY), store)


def test_a_modality_the_store_does_not_hold_is_refused(tmp_path: Path):
    (he,) = [t for n, t in three_tissues().items() if n == "a"]
    classes = [TissueClass(i, f"c{i}", "#000000") for i in range(3)]
    with TissueWriter(tmp_path / "he.zarr", mpp=0.5, classes=classes, images=["he"]) as writer:
        for name in "abc":
            writer.add(name, Tissue(he.instances, he.classes, he.he))
    store = TissueStore(tmp_path / "he.zarr")
    config = compose(*TINY, "modality=he_sp")
    split = assembly.open_split(config, store)
    with pytest.raises(SpecMismatchError, match=r"needs \['sp'\].*Choose modality=he"):
        assembly.open_data(config, store, split, unbuilt(config))


def unbuilt(config):
    """What is known before anything is built."""
    return FeatureSource(build(config.encoder.spec), None, None)


def opened(store, *overrides):
    config = compose(*TINY, *overrides)
    split = assembly.open_split(config, store)
    return config, assembly.open_data(config, store, split, unbuilt(config))


def test_class_weights_come_from_the_training_tissues(store):
    config, data = opened(store, "class_weights=inverse_frequency")
    preflight.settle_class_weights(config, data)
    pixels = np.bincount(three_tissues()["a"].classes.ravel(), minlength=3)
    expected = np.minimum(pixels[0] / pixels, 20)
    assert list(config.class_weights) == pytest.approx(expected.tolist())
    assert list(config.loss.terms.ce.loss.class_weights) == list(config.class_weights)


@pytest.mark.parametrize("given", ["null", "[1,2,3]"])
def test_class_weights_that_are_given_stay(store, given):
    config, data = opened(store, f"class_weights={given}")
    before = plain(config)["class_weights"]
    preflight.settle_class_weights(config, data)
    assert plain(config)["class_weights"] == before


def test_unknown_class_weights_are_refused(store):
    config, data = opened(store, "class_weights=frequency")
    with pytest.raises(ConfigError, match="class_weights=frequency cannot be used: give null"):
        preflight.settle_class_weights(config, data)


@pytest.mark.parametrize(("modality", "channels"), [("he", 3), ("sp", 2), ("he_sp", 5)])
def test_every_layer_is_built_for_the_modality_s_channels(store, modality, channels):
    """The study's "SP-only" decoder had 19 input channels, 3 of them H&E."""
    config, data = opened(store, f"modality={modality}", "class_weights=null")
    module = assembly.build_module(config, open_features(config, data.store, data.split), data)
    batch = next(iter(data.val_dataloader()))
    assert batch.image.shape[1] == channels
    assert module.decoder.decoder0[0].block[0].in_channels == channels
    assert module(batch.image)["classes"].shape[1] == 3


def test_a_run_s_description_is_plain(store):
    config, data = opened(store, "class_weights=null")
    module = assembly.build_module(config, open_features(config, data.store, data.split), data)
    said = assembly.describe(config, module, data)
    assert said["encoder"]["sha256"] == module.encoder.digest()
    assert said["encoder"]["random_init"] is True
    assert said["split"] == {"train": ("a",), "val": ("b",), "test": ("c",)}
    assert said["digests"] == store.digests()
    assert said["patients"] == {"a": "p_a", "b": "p_b", "c": "p_c"}
    json.dumps(said)


def described(store, *overrides):
    config, data = opened(store, "class_weights=null", *overrides)
    module = assembly.build_module(config, open_features(config, data.store, data.split), data)
    return assembly.describe(config, module, data)


def test_a_run_s_description_names_patients_of_its_tissues(tmp_path: Path):
    patients = {"a": "p", "b": "q", "c": None}
    tissues = {n: t._replace(patient=patients[n]) for n, t in three_tissues().items()}
    store = write_store(tmp_path / "s.zarr", tissues)
    assert described(store)["patients"] == patients


def test_a_run_s_fingerprint_tells_its_work_and_not_its_place(store):
    here = described(store)["fingerprint"]
    assert described(store, "run_dir=elsewhere", "data.prefetch=1")["fingerprint"] == here
    assert described(store, "seed=1")["fingerprint"] != here
    assert described(store, "encoder.seed=1")["fingerprint"] != here
    assert described(store, "split={train: 2, val: 1, test: 0}")["fingerprint"] != here
