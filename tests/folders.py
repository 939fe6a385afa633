"""What tests of image folders share: convert one, be refused, read its first tissue."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tissueseg.errors import TissuesegError
from tissueseg.store.checks import Tissue
from tissueseg.store.sources.folder import FolderSource
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter

SIZE = (40, 48)  # of the fixture's tissues


def convert(source: FolderSource, out: Path) -> TissueStore:
    """What the command does, in this process."""
    with TissueWriter(
        out, mpp=source.mpp, classes=source.classes, panel=source.panel, images=source.images
    ) as writer:
        for name, tissue in source:
            writer.add(name, tissue)
    return TissueStore(out)


def refused(folder: Any, tmp_path: Path) -> str:
    """The one line a user gets; nothing may be left beside the folder."""
    with pytest.raises(TissuesegError) as caught:
        convert(FolderSource(folder.path), tmp_path / "out.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def first(folder: Any) -> Tissue:
    return next(iter(FolderSource(folder.path)))[1]


def save_he(folder: Any, image: np.ndarray, mode: str | None = None) -> None:
    Image.fromarray(image, mode).save(folder.path / "a.he.png")
