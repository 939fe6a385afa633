"""A folder with one whole slide, which several tests spoil."""

from __future__ import annotations

from pathlib import Path

import pytest
from slide_folders import SlideFolder, SlideImages, draw_slide


@pytest.fixture(scope="module")
def slide() -> SlideImages:
    return draw_slide()


@pytest.fixture
def folder(tmp_path: Path, slide: SlideImages) -> SlideFolder:
    """One slide of 300 × 420 px, described."""
    folder = SlideFolder(tmp_path / "slides")
    folder.add("a", slide)
    folder.describe()
    return folder
