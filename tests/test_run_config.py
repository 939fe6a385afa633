from __future__ import annotations

from pathlib import Path

import pytest

from tissueseg.errors import RunFolderError
from tissueseg.run_config import read_config, require_options


def write(folder: Path, text: str) -> Path:
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return folder


def test_a_configuration_is_read_as_it_was_left(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, "a: {b: 1}")).a.b == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2]", "it holds a list of 2, wanted keys with values"),
        ("a: !!bool maybe", "maybe"),
        ("a: [", "expected"),
        ("a: ${b", r"\$\{b"),
        ("a: 1\na: 2", "duplicate"),
        ("a: {b: [{1: 2}]}", r"a\.b\.0 has the key 1, wanted a word"),
    ],
)
def test_a_broken_configuration_is_a_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=rf"config.yaml cannot be used: .*{says}") as caught:
        read_config(write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("Copy the run's folder again, or mend the file.")


def test_a_missing_configuration_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="No such file"):
        read_config(tmp_path)


def test_groups_that_every_run_has_are_asked_for(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, "loss: {terms: {a: 1}}\ndata: x"))
    require_options(config, tmp_path, "loss", "loss.terms")
    for key, said in (("data", "x"), ("store", "None"), ("loss.terms.a", "1")):
        with pytest.raises(RunFolderError, match=f"{key} is {said}, wanted options"):
            require_options(config, tmp_path, "loss", key)
