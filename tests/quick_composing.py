"""Hydra's composition in a third of its time: half of what a test of a command takes without."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hydra._internal.hydra import Hydra
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource

from tissueseg.config import CONFIG_DIR


def compose_quickly(patch: pytest.MonkeyPatch) -> None:
    """Parse each file of the configuration once a process, and compose a command's once.

    Hydra parses them for every command. It also composes all to ask for `hydra.mode`, which is null
    here, before it composes all to run.
    """
    known = Plugins.instance().discover(ConfigSource)
    (files,) = (source for source in known if source.scheme() == "file")
    parse, parsed = files.load_config, dict[tuple[str, str], ConfigResult]()

    def load_config(source: ConfigSource, config_path: str) -> ConfigResult:
        key = (source.provider, config_path)
        if str(CONFIG_DIR) not in source.path:  # a test's own, which it may change
            return parse(source, config_path)
        if key not in parsed:
            parsed[key] = parse(source, config_path)
        return deepcopy(parsed[key])  # defaults are taken out of it

    patch.setattr(files, "load_config", load_config)
    patch.setattr(Hydra, "get_mode", lambda *_, **__: None)
