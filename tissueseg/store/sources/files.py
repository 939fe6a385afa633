"""File patterns of a folder: which tissues are there, and which file is whose."""

from __future__ import annotations

import glob
import hashlib
import re
from pathlib import Path

from tissueseg.errors import ConfigError


def find_description(folder: Path, given: str | Path | None) -> Path:
    """The YAML given, or the one in the folder."""
    path = folder / "tissues.yaml" if given is None else Path(given)
    if not path.is_file():
        raise ConfigError(
            f"no description at {path}: write one (see tissueseg/store/sources/folder.py) and give it as "
            "source.description=FILE, or as tissues.yaml in the folder."
        )
    return path


def match_ids(folder: Path, pattern: str, others: tuple[str, ...]) -> tuple[str, ...]:
    """Ids whose file is there, sorted; files that another pattern claims are no images.

    With images `{id}.png` and masks `{id}_mask.png`, `a_mask.png` fits both: it is the mask of `a`.
    """
    parts = [re.escape(part) for part in pattern.split("{id}")]
    expression = re.compile(parts[0] + r"(?P<id>[^/]+)" + r"(?P=id)".join(parts[1:]))
    wildcard = "*".join(glob.escape(part) for part in pattern.split("{id}"))
    paths = glob.glob(wildcard, root_dir=folder)  # noqa: PTH207, Path.glob refuses `../images`
    files = (Path(path).as_posix() for path in paths)
    found = {match["id"]: file for file in files if (match := expression.fullmatch(file))}
    claimed = {Path(fill(other, tissue)).as_posix() for other in others for tissue in found}
    return tuple(sorted(tissue for tissue, file in found.items() if file not in claimed))


def fill(pattern: str, tissue: str) -> str:
    """The file of a tissue."""
    return pattern.replace("{id}", tissue)


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
