"""Whatever a lab may hand to `prepare` by mistake: one line says what and where, and no store is lost.

Every case of `spoilt` spoils a healthy input. The command must end with exit code 2 and one line that
names the file or field; no store may appear, and one that stood at the path must stand there unharmed.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from folders import same_files, shown
from spoilt.cohorts import COHORTS
from spoilt.descriptions import DESCRIPTIONS
from spoilt.images import IMAGES
from spoilt.masks import MASKS, TABLES
from spoilt.odd import ODD
from spoilt.slides import SLIDES
from spoilt.spoiling import Case, Spoil
from stores import random_tissue, write_store

CASES = IMAGES | MASKS | TABLES | DESCRIPTIONS | SLIDES | COHORTS


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that stood at the path before."""
    return write_store(tmp_path_factory.mktemp("former") / "s.zarr", {"t": random_tissue()}).path


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_mistakes_are_one_line_and_no_store_is_lost(
    case: Case,
    request: pytest.FixtureRequest,
    in_folder: Path,
    former: Path,
    command: Any,
    record_property: Any,
) -> None:
    made = case.make(in_folder / "images") if case.make else request.getfixturevalue("image_folder")
    case.spoil(made)
    before = shown(in_folder)
    given = ("source.path=images", *case.options)
    error = refused(command("prepare", *given, "out=new.zarr"), case.says)
    record_property("message", error)  # `--junitxml` tells what every case prints
    assert shown(in_folder) == before
    shutil.copytree(former, in_folder / "old.zarr")
    refused(command("prepare", *given, "out=old.zarr", "overwrite=true"), case.says)
    assert same_files(former, in_folder / "old.zarr")


def refused(result: Any, says: tuple[str, ...]) -> str:
    """The last line, which says it all, of a command that ends with exit code 2."""
    assert result.code == 2, result.err
    *notices, error = result.err.splitlines()
    assert error.startswith("error: ")
    assert all(line.startswith("notice: ") for line in notices)
    for words in says:
        assert words in error
    return error


@pytest.mark.parametrize("change", ODD.values(), ids=ODD)
def test_odd_input_that_means_something_is_read(
    change: Spoil, image_folder: Any, in_folder: Path, command: Any
) -> None:
    change(image_folder)
    given = ("source=folder", "source.path=images", "check=false")
    result = command("prepare", *given, "out=new.zarr")
    assert (result.code, result.err) == (0, "")
    assert shown(in_folder) == ["images", "new.zarr"]
