"""A dataset in the spora layout whose parts contradict each other, and options that cannot be used."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import CHANNELS, Spora, spora_refusal, write_parquet


@pytest.fixture
def spora(tmp_path: Path) -> Spora:
    return Spora(tmp_path / "data")


def relabelled(spora: Spora) -> None:
    spora.image("a", spora.sp["a"], labels=("CD3", "DNA1", "CD8", "EMPTY"))


def fewer_channels(spora: Spora) -> None:
    shutil.rmtree(spora.image_path("b"))
    spora.image("b", spora.sp["b"][:2])


def smaller(spora: Spora) -> None:
    spora.mask("a", spora.instances[:30])


def finer(spora: Spora) -> None:
    spora.image("a", spora.sp["a"], scale=0.5)


def old_ngff(spora: Spora) -> None:
    (spora.image_path("a") / "zarr.json").rename(spora.image_path("a") / ".zattrs")


def strange_ngff(spora: Spora) -> None:
    (spora.image_path("a") / "zarr.json").write_text(json.dumps({"attributes": {"ome": {}}}))


def escaping_ngff(spora: Spora) -> None:
    path = spora.image_path("a") / "zarr.json"
    path.write_text(path.read_text().replace('"path": "0"', '"path": "../b.ome.zarr/0"'))


def without_array(spora: Spora) -> None:
    shutil.rmtree(spora.image_path("a") / "0")


def without_mask(spora: Spora) -> None:
    for tissue in "ab":
        (spora.path / f"segmentations/1_0mpp/cell_masks/instances/{tissue}.npz").unlink()


def foreground_mask(spora: Spora) -> None:
    spora.mask("a", (spora.instances > 0).astype(np.uint8))


def escaping_id(spora: Spora) -> None:
    spora.tissues({"tissue_id": ["../a", "a", "b"]})


def other_patient(spora: Spora) -> None:
    spora.tissues({"tissue_id": ["a", "b", "a"]})


def other_modality(spora: Spora) -> None:
    spora.tissues({"tissue_id": ["a", "a", "b"], "modality": ["he", "he", "codex"]})


def without_row(spora: Spora) -> None:
    spora.tissues({"tissue_id": ["a", "a", "c"]})


def channel_twice(spora: Spora) -> None:
    spora.channels({"channel_name": ["CD3", "CD3", "CD8", "EMPTY"]})


def other_order(spora: Spora) -> None:
    spora.channels({"index": [1, 0, 2, 3]})


def other_measured(spora: Spora) -> None:
    columns = {name: [True] for name in CHANNELS[::-1]} | {"tissue_id": ["a"]}
    write_parquet(spora.path / "imc/channels_per_tissue.parquet", columns)


def none_passed(spora: Spora) -> None:
    spora.channels({"qc_pass": [False] * 4})


def damaged_table(spora: Spora) -> None:
    (spora.path / "imc/channels.parquet").write_bytes(b"PAR1 damaged PAR1")


REFUSALS: dict[Callable[[Spora], None], str] = {
    relabelled: "names its channel 0 CD3, but by channels.parquet it is DNA1",
    fewer_channels: "has 2 channels, but channels_per_tissue.parquet says 3 of 4 were measured",
    smaller: "a.npz is 30 × 48 px, but the SP image is 40 × 48",
    finer: "states 0.5 × 0.5 µm/px, but source.mpp=1",
    old_ngff: "is OME-Zarr 0.4 (Zarr 2), wanted OME-Zarr 0.5",
    strange_ngff: "is no OME-Zarr image",
    escaping_ngff: "names its level '../b.ome.zarr/0', wanted a plain name",
    without_array: "a.ome.zarr has no pixels: its array 0 is missing",
    without_mask: "a.npz is missing (2 files are missing in all)",
    foreground_mask: "looks like a foreground mask",
    escaping_id: "'../a' is no plain tissue id",
    other_patient: "tissues.parquet row 3: tissue a is given again with another patient",
    other_modality: "has no tissue of modality 'imc', but of ['codex', 'he']",
    without_row: "has no row for tissue b",
    channel_twice: "gives the channel names ['CD3'] more than once",
    other_order: "rows in another order than its column index",
    other_measured: "channels_per_tissue.parquet has another order than channels.parquet",
    none_passed: "leaves no channel: 4 of 4 did not pass",
    damaged_table: "channels.parquet cannot be read as a table",
}


@pytest.mark.parametrize(
    ("change", "said"), REFUSALS.items(), ids=lambda c: getattr(c, "__name__", "")
)
def test_data_that_contradict_each_other_are_refused(
    change: Callable[[Spora], None], said: str, spora: Spora
) -> None:
    change(spora)
    assert said in spora_refusal(spora)


OPTIONS: dict[str, tuple[Mapping[str, Any], str]] = {
    "modality": ({"modality": "ihc"}, "choose imc or codex or cycif or mibi"),
    "absent modality": ({"modality": "codex"}, "is not in"),
    "mpp": ({"mpp": "1"}, "source.mpp='1', wanted µm per pixel"),
    "absent resolution": ({"mpp": 0.25}, "has no folder 0_25mpp, but ['1_0mpp']"),
    "channels": ({"channels": "good"}, "choose qc or all"),
    "untyped": ({"untyped": "drop"}, "choose error or ignore"),
    "tissue": ({"tissues": ["c"]}, "c.ome.zarr is missing"),
    "escaping tissue": ({"tissues": ["../a"]}, "no plain tissue id"),
    "one unknown type": ({"unknown_types": "CD4"}, "unknown_types is 'CD4', wanted a list"),
    "one tissue": ({"tissues": "a"}, "tissues is 'a', wanted a list"),
    "no background": ({"classes": ["tumor"]}, "must begin with background"),
}


@pytest.mark.parametrize(("options", "said"), OPTIONS.values(), ids=OPTIONS)
def test_options_are_checked(options: Mapping[str, Any], said: str, spora: Spora) -> None:
    assert said in spora_refusal(spora, **options)
