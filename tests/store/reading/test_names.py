"""Names saved by numpy, also as object arrays: read without unpickling anything."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import Study, study_refusal

from tissueseg.store.reading.names import read_text_array


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "data")


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_an_evil_label_encoder_executes_nothing(
    protocol: int, study: Study, tmp_path: Path
) -> None:
    trap = tmp_path / "trap"
    names = np.array(["background", Evil(trap), "immune"], object)
    save_object_array(study.encoder, names, protocol)
    assert "pickles are never loaded" in study_refusal(study)
    assert not trap.exists()
    np.load(study.encoder, allow_pickle=True)
    assert trap.exists()  # it does spring when somebody loads it


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_names_are_read_from_object_arrays_of_every_protocol(protocol: int, tmp_path: Path) -> None:
    names = [f"organ {i % 7} é" for i in range(3000)]  # repeated, in several batches of a pickle
    save_object_array(tmp_path / "names.npy", np.array(names, object), protocol)
    assert list(read_text_array(tmp_path / "names.npy")) == names
    np.save(tmp_path / "names.npy", np.array(names))
    assert list(read_text_array(tmp_path / "names.npy")) == names


def save_object_array(path: Path, array: np.ndarray, protocol: int) -> None:
    """What numpy does, with the pickle protocol of another version of it."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, file, protocol=protocol)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array(["a", 1], object), "holds more than text"),
        (np.array([["a"], ["b"]], object), "has shape (2, 1), wanted a list of names"),
        (np.array([1, 2]), "holds int64 values, wanted names"),
        (np.array([], object), "names no class"),
    ],
)
def test_what_is_no_list_of_names_is_refused(array: np.ndarray, said: str, study: Study) -> None:
    study.encode(array)
    assert said in study_refusal(study)


def test_names_that_are_fewer_than_the_header_says_or_damaged_are_refused(
    study: Study,
) -> None:
    content = study.encoder.read_bytes()
    study.encoder.write_bytes(content.replace(b"(3,)", b"(4,)"))
    assert "holds 3 names, but its header says 4" in study_refusal(study)
    study.encoder.write_bytes(content[:-20])
    assert "cannot be read, is it damaged?" in study_refusal(study)
    study.encoder.write_bytes(b"nothing")
    assert "cannot be read, is it damaged?" in study_refusal(study)


@pytest.mark.parametrize("order", "<>")
def test_text_of_numbers_that_are_no_characters_is_refused(order: str, study: Study) -> None:
    names = np.array(["background", "tumour", "stroma"], f"{order}U12")
    study.encode(names)
    read_text_array(study.encoder)
    content = study.encoder.read_bytes()
    letter = np.array(["m"], f"{order}U1").tobytes()
    study.encoder.write_bytes(content.replace(letter, b"\x12\x12\x12\x12", 1))
    assert "no character has the number 303174162" in study_refusal(study)
    half = np.array([0xD800], f"{order}u4").tobytes()
    study.encoder.write_bytes(content.replace(letter, half, 1))
    assert "surrogates not allowed" in study_refusal(study)
