"""Where configurations and weights that come along lie, and which packages bring more."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "configs"

CONFIG_DIR = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "configs"

BUILTIN = "builtin://"
"""Before the name of a file of tensors that the package brings along."""

WEIGHTS_DIR = _PACKAGE / "weights"
"""Where these are."""

OWN_PACKAGES = "TISSUESEG_PACKAGES"
"""The variable that names packages of one's own which configurations may build from."""


def own_packages() -> tuple[str, ...]:
    """Their names, in order."""
    return tuple(
        name.strip() for name in os.environ.get(OWN_PACKAGES, "").split(",") if name.strip()
    )
