"""What all writers of cells promise: whole files or none, parts in order, nothing overwritten unasked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cells_made import SCHEMA, cells

from tissueseg.errors import TissueDataError
from tissueseg.instances.cell_table import CellTable
from tissueseg.tables.cell_files import FORMATS
from tissueseg.tables.cell_writer import CellWriter

every_format = pytest.mark.parametrize("kind", FORMATS.values(), ids=FORMATS)


def write(writer: CellWriter, parts: Iterable[CellTable]) -> bytes:
    with writer:
        for part in parts:
            writer.add(part)
    return writer.path.read_bytes()


@every_format
def test_an_error_halfway_leaves_nothing(kind: type[CellWriter], tmp_path: Path) -> None:
    folder = tmp_path / "out" / "tissue"
    writer = kind(folder / kind.file_name, SCHEMA)

    def parts() -> Iterator[CellTable]:
        yield cells(5)
        assert not writer.path.exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(writer, parts())
    assert list(tmp_path.iterdir()) == []


@every_format
def test_an_error_before_the_first_part_leaves_what_was_there(
    kind: type[CellWriter], tmp_path: Path
) -> None:
    path = tmp_path / kind.file_name
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), kind(path, SCHEMA, overwrite=True):
        raise ZeroDivisionError
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


@every_format
def test_a_taken_path_is_refused_in_one_line_and_overwritten_when_asked(
    kind: type[CellWriter], tmp_path: Path
) -> None:
    path = tmp_path / kind.file_name
    path.write_text("old")
    with pytest.raises(TissueDataError, match=r"exists already.*overwrite=true") as refusal:
        kind(path, SCHEMA).__enter__()
    assert "\n" not in str(refusal.value)
    assert path.read_text() == "old"
    assert write(kind(path, SCHEMA, overwrite=True), [cells(3)]) != b"old"
    assert [p.name for p in tmp_path.iterdir()] == [kind.file_name]


def test_a_folder_at_the_path_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "cells.csv"
    path.mkdir()
    with pytest.raises(TissueDataError, match="was not made by this export"):
        FORMATS["csv"](path, SCHEMA, overwrite=True).__enter__()


def test_what_a_killed_process_left_goes_with_the_next_file(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from cells_made import SCHEMA, cells\n"
        "from tissueseg.tables.csv_cells import CsvCells\n"
        "with CsvCells(sys.argv[1], SCHEMA) as writer:\n"
        "    writer.add(cells(5))\n"
        "    os._exit(9)\n"
    )
    path = tmp_path / "cells.csv"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.run(
        [sys.executable, "-c", script, str(path)], env=environment, timeout=60, check=False
    )
    assert process.returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".cells.csv.partial-")
    write(FORMATS["csv"](path, SCHEMA), [cells(5)])
    assert list(tmp_path.iterdir()) == [path]


def without(name: str) -> Callable[[CellTable], CellTable]:
    return lambda part: replace(
        part, columns={n: values for n, values in part.columns.items() if n != name}
    )


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without("contact"), r"other columns than those before it \(\['contact'\]\)"),
        (lambda part: replace(part, columns=dict(reversed(part.columns.items()))), "their order"),
        (lambda part: cells(3, first=5), "ids that do not rise from 7"),
        (lambda part: cells(3, first=7), "ids that do not rise from 7"),
        (lambda part: replace(part, outlines=None), "lacks outlines"),
        (lambda part: replace(part, outlines=cells(4).outlines), "lacks outlines"),
        (lambda part: replace(part, embedding=None), "embeddings of 0, not 3"),
    ],
)
def test_a_part_that_does_not_continue_the_others_is_refused(
    spoil: Callable[[CellTable], CellTable], says: str, tmp_path: Path
) -> None:
    writer = FORMATS["geojson"](tmp_path / "cells.geojson", SCHEMA)
    with pytest.raises(TissueDataError, match=says) as refusal:
        write(writer, [cells(5), spoil(cells(3, first=50))])
    assert "\n" not in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_ids_that_fall_within_a_part_are_refused(tmp_path: Path) -> None:
    part = cells(3)
    part.columns["id"][:] = np.array([4, 2, 9])
    with pytest.raises(TissueDataError, match="do not rise from 0"):
        write(FORMATS["csv"](tmp_path / "cells.csv", SCHEMA), [part])


def test_a_disk_that_refuses_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    writer = FORMATS["csv"](tmp_path / "cells.csv", SCHEMA)
    monkeypatch.setattr(writer, "_write", full)
    with pytest.raises(TissueDataError, match=r"cannot write .*cells\.csv: .*No space left"):
        write(writer, [cells(3)])
    assert list(tmp_path.iterdir()) == []


@every_format
def test_parts_add_up_to_the_same_cells_however_they_are_cut(
    kind: type[CellWriter], tmp_path: Path
) -> None:
    part = cells(6, corners=8)
    assert part.outlines is not None
    assert part.embedding is not None
    cuts = [(0, 2), (2, 2), (2, 6)]
    cut = [
        CellTable(
            {name: values[a:b] for name, values in part.columns.items()},
            replace(
                part.outlines,
                points=part.outlines.points[9 * a : 9 * b],
                rings=part.outlines.rings[: b - a + 1],
                cells=part.outlines.cells[: b - a + 1],
                holes=part.outlines.holes[a:b],
            ),
            part.embedding[a:b],
        )
        for a, b in cuts
    ]
    whole = kind(tmp_path / "whole", SCHEMA)
    parts = kind(tmp_path / "parts", SCHEMA)
    assert write(whole, [part]) == write(parts, cut)
    assert whole.rows == parts.rows == 6
