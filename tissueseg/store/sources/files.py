"""Files of a folder: which tissues are there, which file is whose, and whether all are there."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from pathlib import Path

from tissueseg.errors import ConfigError, TissueDataError


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


def find_patient(pattern: re.Pattern[str] | None, name: str, what: str) -> str | None:
    """The patient in an id: the pattern's group, or all it matches; None without a pattern.

    Args:
        pattern: of the description.
        name: id of a tissue or slide.
        what: which of the two, for messages.

    Raises:
        ConfigError: it matches nothing.
    """
    if pattern is None:
        return None
    match = pattern.search(name)
    patient = match and (match[1] if match.re.groups else match[0])
    if not patient:
        raise ConfigError(
            f"patient={pattern.pattern!r} finds nothing in the {what} id {name!r}: mend the pattern."
        )
    return patient


def require_files(folder: Path, files: Iterable[tuple[str, str]], hint: str) -> None:
    """Refuse a cohort of which files are missing.

    Args:
        folder: where they should be.
        files: whose it is (`tissue a`) and its path in the folder; images in Zarr are folders.
        hint: what to do.

    Raises:
        TissueDataError: naming the first.
    """
    missing = [(whose, folder / name) for whose, name in files if not _is_there(folder / name)]
    if missing:
        whose, path = missing[0]
        more = f" ({len(missing)} files are missing in all)" if len(missing) > 1 else ""
        raise TissueDataError(f"{whose}: {path} is missing{more}. {hint}")


def _is_there(path: Path) -> bool:
    return path.is_dir() if path.suffix == ".zarr" else path.is_file()
