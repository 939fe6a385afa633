from __future__ import annotations

import pytest

from tissueseg.progress import table_console


def test_a_log_is_wide_enough_for_names_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert table_console().width == 120
    monkeypatch.setenv("COLUMNS", "70")
    assert table_console().width == 70


def test_a_terminal_has_its_own_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert table_console().width != 120
