"""Runs with the same work have one fingerprint, wherever it was done; others do not."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from tissueseg.reporting.fingerprint import fingerprint, what_matters

CONFIG: dict[str, Any] = {
    "seed": 0,
    "name": "baseline",
    "run_dir": "runs/a",
    "epochs": 24,
    "logger": {"wandb": None},
    "encoder": {"weights": "here.pth", "sp": {"markers": {"path": "here"}}},
    "panels": {"count": 2},
    "store": {"path": "here.zarr", "demo": {"seed": 0}},
    "embeddings": {"path": "here", "dtype": "float16"},
    "data": {"tile_px": 128, "num_workers": 0, "prefetch": 2, "pin_memory": False},
    "trainer": {"accelerator": "cpu", "devices": 1, "precision": "32-true"},
    "study": {"name": "decoders", "arm": "baseline", "resume": True, "out": "runs/studies"},
}
DIGESTS = {"train": {"a": "0a"}, "val": {"b": "0b"}}


def of(config: dict[str, Any] = CONFIG, weights: str = "f0", **digests: dict[str, str]) -> str:
    return fingerprint(config, weights, DIGESTS | digests, "1.0")


def changed(key: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *way, last = key.split(".")
    node = config
    for part in way:
        node = node[part]
    node[last] = value
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("epochs", 25),
        ("store.demo.seed", 1),
        ("embeddings.dtype", "float32"),
        ("data.tile_px", 64),
        ("trainer.precision", "bf16-mixed"),
        ("trainer.devices", 2),
        ("trainer.accelerator", "gpu"),
        ("study.arm", "boundary"),
        ("study.name", "gating"),
        ("new", None),
    ],
)
def test_what_shapes_numbers_counts(key: str, value: Any) -> None:
    assert of(changed(key, value)) != of()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "other"),
        ("run_dir", "/elsewhere"),
        ("logger", {"wandb": {"project": "p"}}),
        ("panels.count", 9),
        ("panels", None),
        ("store.path", "s3://there.zarr"),
        ("encoder.weights", "elsewhere.pth"),
        ("encoder.sp.markers.path", "elsewhere"),
        ("embeddings.path", None),
        ("data.num_workers", 8),
        ("data.prefetch", 0),
        ("data.pin_memory", True),
        ("study.resume", False),
        ("study.out", "/elsewhere"),
        ("study.jobs", 4),
    ],
)
def test_places_and_pace_do_not_count(key: str, value: Any) -> None:
    assert of(changed(key, value)) == of()


def test_weights_and_pixels_count() -> None:
    assert of(weights="f1") != of()
    assert of(val={"b": "00"}) != of()
    assert of(val={"b": "0b", "c": "0c"}) != of()


def test_a_tissue_on_another_side_makes_another_run() -> None:
    assert of(train={"a": "0a", "b": "0b"}, val={}) != of()


def test_the_package_counts() -> None:
    assert fingerprint(CONFIG, "f0", DIGESTS, "1.1") != of()


def test_the_order_of_keys_does_not_count() -> None:
    turned = {key: CONFIG[key] for key in reversed(CONFIG)}
    backwards = dict(reversed(DIGESTS.items()))
    assert fingerprint(turned, "f0", backwards, "1.0") == of()


def test_it_is_a_sha256_in_hex() -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", of())


def test_a_run_of_no_study_has_one_too() -> None:
    alone = {key: value for key, value in CONFIG.items() if key != "study"}
    assert "study" not in what_matters(alone)
    assert of(alone) != of()


@pytest.mark.parametrize("key", ["store.path", "encoder.weights"])
def test_other_files_make_another_recipe_until_their_digests_are_known(key: str) -> None:
    assert what_matters(changed(key, "elsewhere")) != what_matters(CONFIG)


def test_nothing_is_taken_out_of_what_was_given() -> None:
    given = copy.deepcopy(CONFIG)
    what_matters(given)
    assert given == CONFIG
