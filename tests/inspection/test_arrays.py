"""A store that was changed by hand is refused in one line, before a pixel is read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from stores import random_tissue, whole, write_store

from tissueseg.errors import StoreNotFoundError, TissueDataError, TissuesegError
from tissueseg.inspection.arrays import check_arrays
from tissueseg.store.tissues import TissueStore


@pytest.fixture
def store(tmp_path: Path) -> TissueStore:
    return write_store(tmp_path / "s.zarr", {"a": random_tissue(), "b": random_tissue(seed=1)})


def refused(store: TissueStore, kind: type[TissuesegError]) -> str:
    with pytest.raises(kind) as caught:
        check_arrays(TissueStore(store.path))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_prepare_wrote_is_in_order_and_no_pixel_is_read_to_tell(store: TissueStore) -> None:
    for chunk in store.path.glob("*/**/c/**/*"):
        if chunk.is_file():
            chunk.write_bytes(b"no pixels")
    with pytest.raises(TissuesegError):
        whole(store, "a", "he")
    check_arrays(TissueStore(store.path))


@pytest.mark.parametrize("array", ["he", "sp", "labels/instances", "labels/classes"])
def test_missing_arrays_are_named(store: TissueStore, array: str) -> None:
    shutil.rmtree(store.path / "b" / array)
    assert f"damaged: tissue b has no {array}. Prepare" in refused(store, StoreNotFoundError)


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_metadata_that_is_no_metadata(store: TissueStore, text: str) -> None:
    (store.path / "b/he/0/zarr.json").write_text(text)
    assert "tissue b has no he that can be read" in refused(store, StoreNotFoundError)


@pytest.mark.parametrize("text", [None, "", '{"zarr_format": 3, "node_type": "group"}'])
def test_attributes_that_are_gone(store: TissueStore, text: str | None) -> None:
    path = store.path / "a/zarr.json"
    path.unlink() if text is None else path.write_text(text)
    assert "tissue a has no attributes that can be read" in refused(store, StoreNotFoundError)


@pytest.mark.parametrize(
    ("array", "pixels"),
    [
        ("he", np.zeros((3, 64, 32), np.uint8)),
        ("sp", np.zeros((3, 64, 64), np.uint16)),
        ("sp", np.zeros((2, 64, 64), np.int64)),
        ("labels/instances", np.zeros((32, 64), np.int32)),
        ("labels/classes", np.zeros((64, 64), np.int16)),
    ],
)
def test_arrays_of_another_shape_or_type(store: TissueStore, array: str, pixels: Any) -> None:
    zarr.create_array(store.path / "b" / array / "0", data=pixels, overwrite=True)
    said = refused(store, TissueDataError)
    assert said.startswith(f"tissue b: {array} of {store.path} has shape {pixels.shape} and type")
