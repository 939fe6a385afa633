"""Where configurations and weights that come along lie, in a checkout and in a wheel alike."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "configs"

CONFIG_DIR = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "configs"

BUILTIN = "builtin://"
"""Before the name of a file of tensors that the package brings along."""

WEIGHTS_DIR = _PACKAGE / "weights"
"""Where these are."""
