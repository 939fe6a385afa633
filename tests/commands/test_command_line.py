"""What a command line is completed with before Hydra reads it."""

from __future__ import annotations

import pytest

from tissueseg.command_line import completed


def words(name: str, *said: str) -> list[str]:
    program, *found = completed(name, ["program", *said])
    assert program == "program"
    return found


@pytest.mark.parametrize("name", ["train", "embed", "doctor"])
def test_the_setting_of_the_environment_holds_for_all_that_take_trains_words(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TISSUESEG_SETTING", "orion")
    assert words(name, "seed=1") == ["setting=orion", "seed=1"]
    assert words(name, "setting=demo") == ["setting=demo"]


def test_a_run_that_goes_on_keeps_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TISSUESEG_SETTING", "orion")
    assert words("train", "resume=runs/x") == ["resume=runs/x"]
    assert words("train", "resume=auto", "run_dir=x") == [
        "setting=orion",
        "resume=auto",
        "run_dir=x",
    ]


@pytest.mark.parametrize("name", ["prepare", "evaluate", "predict", "report", "export"])
def test_commands_without_a_setting_get_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TISSUESEG_SETTING", "orion")
    assert words(name, "seed=1", "+study=decoders") == ["seed=1", "+study=decoders"]


@pytest.mark.parametrize(
    ("said", "protocol"),
    [
        ((), "demo"),
        (("setting=demo",), "demo"),
        (("setting=orion",), "full"),
        (("protocol=quick",), "quick"),
        (("setting=nowhere",), None),  # which Hydra refuses
    ],
)
def test_a_study_has_the_protocol_of_its_setting(
    said: tuple[str, ...], protocol: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TISSUESEG_SETTING", raising=False)
    found = [w for w in words("train", "-m", "+study=decoders", *said) if w.startswith("protocol")]
    assert found == ([] if protocol is None else [f"protocol={protocol}"])
    assert words("train", *said, "seed=1") == [*said, "seed=1"]


def test_flags_come_first_and_short_words_are_spelt_out() -> None:
    said = words("predict", "run=a", "--cfg", "job", "store=b.zarr")
    assert said == ["--cfg", "job", "run=a", "store.path=b.zarr"]
