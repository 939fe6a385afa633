"""Tables as columns: what separates them, what they may hold, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from layouts import write_ngff, write_parquet

from tissueseg.errors import TissueDataError
from tissueseg.store.planes import Window
from tissueseg.store.reading import tables
from tissueseg.store.reading.ngff import NgffImage
from tissueseg.store.reading.tables import column_names, plain_id, read_batches, read_table


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_text_tables_of_every_separator_are_read(separator: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    lines = (("\ufeffid", " name "), ("1", "x"), (), ("2", '"a b"'), ("3.0", "NA"))
    path.write_text("\r\n".join(separator.join(line) for line in lines), encoding="utf-8")
    table = read_table(path)
    assert table.integers("id") == [1, 2, 3]
    assert table.texts("name") == ["x", "a b", ""]
    assert (len(table), table.where(1)) == (3, f"{path} line 4")
    assert column_names(path) == ("id", "name")
    assert list(read_table(path, ["name"]).columns) == ["name"]


def test_text_tables_come_in_parts_with_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_BATCH", 2)
    path = tmp_path / "a.csv"
    path.write_text("id,x\n1,a\n\n2,b\n3,c\n4,d\n")
    parts = list(read_batches(path, ["id"]))
    assert [(part.integers("id"), list(part.lines)) for part in parts] == [
        ([1, 2], [2, 4]),
        ([3, 4], [5, 6]),
    ]
    assert list(parts[0].columns) == ["id"]
    assert read_table(path).texts("x") == ["a", "b", "c", "d"]
    path.write_text("id,x\n1,a\n2,b\n3\n")
    with pytest.raises(TissueDataError, match="line 4 has 1 values, but 2 columns"):
        read_table(path)
    assert column_names(path) == ("id", "x")  # the header is whole
    path.write_text("id,x\n")
    assert [len(part) for part in read_batches(path)] == [0]


def test_flags_and_numbers_may_be_written_in_several_ways(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("flag,number\n1,0.5\nFalse,\n1.0,nan\nNA,-1e3\n")
    table = read_table(path)
    assert table.flags("flag") == [True, False, True, None]
    np.testing.assert_array_equal(table.numbers("number"), [0.5, np.nan, np.nan, -1000])


def test_the_first_name_that_is_there_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("b,c\n1,2\n")
    assert read_table(path).texts("a", "c", "b") == ["2"]
    with pytest.raises(TissueDataError, match=r"a\.csv has no column a; it has b, c\."):
        read_table(path).texts("a", "d")


BROKEN = {
    "empty": (b"", "is empty, wanted a header"),
    "column twice": (b"a,a\n1,2\n", r"has the columns \['a'\] twice"),
    "ragged": (b"a,b\n1,2\n1,2,3\n", r"line 3 has 3 values, but 2 columns"),
    "no text": (b"a\n\xff\xfe\n", "cannot be read as a table"),
    "open quote": (b'a\n"1\n', "cannot be read as a table"),
    "no whole number": (b"a\n1\n1.5\n", r"line 3: a is '1\.5', wanted a whole number"),
    "no number": (b"a\nx\n", r"line 2: a is 'x', wanted a number"),
    "nothing": (b"a,b\n,1\n", "line 2: a is '', wanted a whole number"),
    "infinity": (b"a\ninf\n", "line 2: a is 'inf', wanted a whole number"),
}


@pytest.mark.parametrize(("content", "said"), BROKEN.values(), ids=BROKEN)
def test_broken_tables_are_refused_with_their_line(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(TissueDataError, match=said):
        read_table(path).integers("a")


def test_parquet_tables_come_whole_or_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    count = 150_000
    write_parquet(path, {"id": np.arange(count), "name": ["x"] * count, "flag": [None] * count})
    parts = list(read_batches(path, ["id"]))
    assert len(parts) > 1
    assert list(parts[0].columns) == ["id"]
    table = read_table(path)
    assert table.integers("id") == list(range(count))
    assert table.where(count - 1) == f"{path} row {count}"
    assert table.flags("flag")[0] is None
    assert column_names(path) == ("id", "name", "flag")
    write_parquet(path, {"id": []})
    assert read_table(path).integers("id") == []
    with pytest.raises(TissueDataError, match=r"a\.parquet has no column x; it has id"):
        read_table(path, ["x"])


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        with pytest.raises(TissueDataError, match=rf"{name} is missing"):
            column_names(tmp_path / name)


@pytest.mark.parametrize("name", ["", ".a", "a/b", "/a", "a\\b", "..", "a..b", "a\n", "a\0"])
def test_ids_that_are_no_plain_names_are_refused(name: str) -> None:
    with pytest.raises(TissueDataError, match=r"^the table: .* rename it\.$"):
        plain_id(name, "the table")
    assert plain_id("r1_a-2.b", "the table") == "r1_a-2.b"


def test_ome_zarr_of_one_plane_or_with_other_axes(tmp_path: Path) -> None:
    image = np.arange(40 * 48, dtype=np.uint16).reshape(40, 48)
    write_ngff(tmp_path / "plane", image, axes="yx", scale=0.5)
    plane = NgffImage(tmp_path / "plane")
    assert (plane.shape, plane.mpp, plane.names) == ((1, 40, 48), (0.5, 0.5), None)
    np.testing.assert_array_equal(plane.read(Window(3, 4, 20, 30)), image[None, 3:23, 4:34])
    write_ngff(tmp_path / "stack", image[None, None], axes="tcyx", labels=["DNA"])
    stack = NgffImage(tmp_path / "stack")
    assert (stack.shape, stack.names) == ((1, 40, 48), ("DNA",))
    np.testing.assert_array_equal(stack.read(Window(3, 4, 20, 30), [0]), image[None, 3:23, 4:34])
    write_ngff(tmp_path / "series", np.stack([image, image])[:, None], axes="tcyx")
    with pytest.raises(
        TissueDataError, match=r"has axes \['t', 'c', 'y', 'x'\] of \(2, 1, 40, 48\)"
    ):
        NgffImage(tmp_path / "series")
