"""Packages of one's own that configurations may build from, and the configurations they bring.

`TISSUESEG_PACKAGES=mylab,other` names them. It is a variable, not an option: a configuration, which may
come from anywhere, must not widen what it may run; and the processes that a command starts have it too.
"""

from __future__ import annotations

import sys
import traceback
from importlib.machinery import PathFinder
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from tissueseg.config import CONFIG_DIR, OWN_PACKAGES, own_packages
from tissueseg.errors import ConfigError, in_one_line
from tissueseg.store.reading.yaml_text import load_yaml

_COMPOSING = "config_loader_impl.py"
"""Hydra's module that every composition goes through."""


class OwnConfigs(SearchPathPlugin):
    """Lets Hydra find `configs` in packages of one's own, after those of this one."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add them in the order they are named in."""
        for folder in config_dirs()[1:]:
            search_path.append(folder.parent.name, f"file://{folder}")


def find_own_packages() -> None:
    """Let Hydra know them, before it composes.

    Raises:
        ConfigError: one cannot be found.
    """
    for package in own_packages():
        if not _folders(package):
            raise ConfigError(
                f"{OWN_PACKAGES} names {package}, which is no package here: install it, or start in the "
                "folder that holds it."
            )
    Plugins.instance().register(OwnConfigs)


def config_dirs() -> list[Path]:
    """Where configurations lie: this package's, then those of one's own, in the order of their names."""
    folders = (folder / "configs" for package in own_packages() for folder in _folders(package))
    return [CONFIG_DIR, *(folder for folder in folders if folder.is_dir())]


def _folders(package: str) -> list[Path]:
    """Where a package lies, which is not imported for it; none: it cannot be found."""
    found = PathFinder.find_spec(package)
    return [Path(folder).resolve() for folder in (found and found.submodule_search_locations) or ()]


def why_not_composed(error: Exception) -> str | None:
    """What is wrong with a file of one's own that Hydra could not compose; None: it was another error.

    Hydra lets through what reading a file has raised, and stumbles over what it did not expect in a
    list of defaults.
    """
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    if _COMPOSING not in "".join([*frames, str(error.__cause__)]):  # the cause: of another process
        return None
    given = (Path(word.partition("=")[2] or after) for word, after in _config_dir_words())
    for folder in (*config_dirs()[1:], *given):
        for path in sorted(folder.rglob("*.yaml")):
            try:
                load_yaml(path)
            except ValueError as reason:
                return f"{path} cannot be read: {reason}."
    said = in_one_line(error)[:200]
    return f"the configuration cannot be composed: {said}. Look at the files of your own."


def _config_dir_words() -> list[tuple[str, str]]:
    """Words of the command line that name a folder of configurations, each with the next."""
    pairs = zip(sys.argv, [*sys.argv[1:], ""], strict=True)
    return [(word, after) for word, after in pairs if word.split("=")[0] in ("--config-dir", "-cd")]
