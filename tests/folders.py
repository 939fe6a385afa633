"""What tests of image folders share: convert one, be refused, read its first tissue."""

from __future__ import annotations

import filecmp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tissueseg.errors import TissuesegError
from tissueseg.store.conversion import convert
from tissueseg.store.notices import gather
from tissueseg.store.planes import Tissue
from tissueseg.store.sources.folder import FolderSource

SIZE = (40, 48)  # of the fixture's tissues


def refused(folder: Any, tmp_path: Path) -> str:
    """The one line a user gets; no store may be left beside the folder."""
    with pytest.raises(TissuesegError) as caught:
        convert(FolderSource(folder.path), tmp_path / "out.zarr")
    assert shown(tmp_path) == ["images"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def first(folder: Any) -> Tissue:
    source = FolderSource(folder.path)
    return source.open(source.tissues[0])


def save_he(folder: Any, image: np.ndarray, mode: str | None = None) -> None:
    Image.fromarray(image, mode).save(folder.path / "a.he.png")


def said(tissue: Tissue) -> tuple[str, ...]:
    """What is said of the first tissue once it was read."""
    return gather({"a": tissue.notices})


def shown(folder: Path) -> list[str]:
    """What a user sees in a folder: finished tissues of an interrupted writer are hidden."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def same_files(one: Path, two: Path) -> bool:
    """Whether two folders hold the same names and bytes."""
    left, right = ({p.relative_to(root) for p in root.rglob("*")} for root in (one, two))
    files = sorted(str(p) for p in left if (one / p).is_file())
    return left == right and filecmp.cmpfiles(one, two, files, shallow=False)[1:] == ([], [])
