"""The files of a report in one folder."""

from __future__ import annotations

import pytest
from reports_made import report

from tissueseg.errors import StoreWriteError
from tissueseg.reporting.study.files import write_report
from tissueseg.reporting.study.markdown import study_markdown


def test_every_form_is_written_and_named_the_page_first(tmp_path):
    made = report(tmp_path / "panels")
    paths = write_report(tmp_path / "new" / "out", made)
    assert paths[0].read_text(encoding="utf-8").startswith("<!doctype html>")
    assert paths[1].read_text(encoding="utf-8") == study_markdown(made)
    assert {path.name for path in paths} == {path.name for path in (tmp_path / "new/out").iterdir()}
    assert len(paths) == 7


def test_writing_again_replaces_what_was_there(tmp_path):
    made = report(tmp_path / "panels")
    before = [path.read_bytes() for path in write_report(tmp_path / "out", made)]
    assert [path.read_bytes() for path in write_report(tmp_path / "out", made)] == before


def test_a_refused_place_is_named_in_one_line(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("taken")
    with pytest.raises(StoreWriteError, match=r"cannot write the report to .*file.*Free space"):
        write_report(blocked, report(tmp_path / "panels"))
