"""Files that fuzzing found to end in a traceback: each is refused in one line."""

from __future__ import annotations

import gc
import json
import struct
import warnings
import zlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tifffile
from layouts import write_ngff
from PIL import Image
from pyarrow import parquet

from tissueseg.errors import TissueDataError
from tissueseg.store.reading.ngff import NgffImage
from tissueseg.store.reading.rasters import open_array, read_mask, read_sp
from tissueseg.store.reading.tables import column_names, plain_id, read_table
from tissueseg.store.reading.yaml_text import load_yaml


def test_an_npz_is_no_npy(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", np.zeros((2, 2)))
    path = (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(
        TissueDataError, match=r"a.npy cannot be read, is it damaged\? \(it is an npz"
    ):
        open_array(path)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # tifffile's own file
def test_a_tiff_of_nothing_but_broken_tags_ends_when_it_is_opened(tmp_path: Path) -> None:
    entries = [struct.pack("<HHI4s", 59844 + n, 13572, 1, b"1234") for n in range(500)]
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    (tmp_path / "a.tif").write_bytes(head + b"".join(entries) + bytes(4))
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # the parser leaves its file to be collected
        with pytest.raises(TissueDataError, match="invalid data type"):
            read_sp(tmp_path / "a.tif", 5)
        gc.collect()


def test_a_png_that_claims_more_than_it_can_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("1", (48, 2000)).save(path)
    assert read_mask(path, "instances").shape == (2000, 48)  # as much as zlib can make of it
    data = bytearray(path.read_bytes())
    data[20:24] = (33_554_472).to_bytes(4, "big")  # the height, and the checksum of its chunk
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(TissueDataError, match=r"a.png claims 48 × 33554472 px, which its bytes"):
        read_mask(path, "instances")


def test_ome_zarr_needs_chunks_with_sides(tmp_path: Path) -> None:
    write_ngff(tmp_path / "a.zarr", np.ones((2, 20, 24), np.uint16))
    file = tmp_path / "a.zarr" / "0" / "zarr.json"
    about = json.loads(file.read_text(encoding="utf-8"))
    about["chunk_grid"]["configuration"]["chunk_shape"] = [2, 0, 32]
    file.write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(TissueDataError, match=r"chunks|no OME-Zarr image"):
        NgffImage(tmp_path / "a.zarr")


@pytest.mark.parametrize(
    "text",
    [
        "mpp: !!bool maybe",
        "mpp: !!int x",
        "mpp: !!float ''",
        "mpp: !!timestamp soon",
        "mpp: 2026-13-45",
        "mpp: !!binary é",
        "? [a, b]\n: 1",
        "a: " + "[" * 2000,
        "a: !!python/object/apply:os.system [x]",
        "{",
    ],
)
def test_yaml_that_cannot_be_read_is_a_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r".") as caught:
        load_yaml(tmp_path / "a.yaml")
    assert type(caught.value) is ValueError
    assert "\n" not in str(caught.value)


def test_a_time_zone_that_nobody_knows_is_a_line(tmp_path: Path) -> None:
    times = pa.array([datetime(2026, 1, 1, tzinfo=UTC)], pa.timestamp("us", "Mars/Olympus"))
    parquet.write_table(pa.table({"at": times}), tmp_path / "a.parquet")
    with pytest.raises(TissueDataError, match=r"a.parquet cannot be read as a table: .*Mars"):
        read_table(tmp_path / "a.parquet")
    assert column_names(tmp_path / "a.parquet") == ("at",)


def test_a_path_that_no_system_takes_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(TissueDataError, match=r"cannot be read as a table|is missing"):
        read_table(tmp_path / ("x" * 400))


def test_ids_too_long_for_a_file_s_name_are_refused() -> None:
    assert plain_id("x" * 150, "here") == "x" * 150
    with pytest.raises(TissueDataError, match="has 151 characters, too many for a tissue id"):
        plain_id("x" * 151, "here")


def test_a_tiff_with_two_axes_of_one_name_is_refused(tmp_path: Path) -> None:
    pixels = np.zeros((48, 40, 48), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata={"axes": "XYX"}, photometric="minisblack")
    with pytest.raises(
        TissueDataError, match=r"a.tif has axes XYX of \(48, 40, 48\), wanted one Y"
    ):
        read_mask(tmp_path / "a.tif", "instances")
