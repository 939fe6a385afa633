"""Files of named tensors from anywhere, read without running what is in them.

`.safetensors`, or a torch file whose pickle holds tensors and plain values only. Anything else in a
pickle could run code on this machine when it is read, so it is refused, and named.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tissueseg.config import BUILTIN, WEIGHTS_DIR
from tissueseg.errors import WeightsError, WeightsNotFoundError

HUB = "hf://"
# Where training loops keep their tensors.
_STATES = ("model_state_dict", "state_dict", "model", "teacher")
_OFFENDER = re.compile(r"GLOBAL\s+([\w.]+)")
# Training loops leave NumPy numbers beside their tensors; building one runs nothing else.
_NUMBERS: list[Any] = [
    np.dtype,
    type(np.dtype(np.float64)),
    type(np.dtype(np.float32)),
    type(np.dtype(np.int64)),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
]
_PLAIN = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
)
CONVERT = (
    "Where you trust its origin, convert it once: "
    'python -c "import json, torch, safetensors.torch as s; '
    "d = torch.load('in.pth', map_location='cpu', weights_only=False); "
    "t = d.get('model_state_dict') or d.get('state_dict') or d; "
    "s.save_file({k: v.clone().contiguous() for k, v in t.items() if torch.is_tensor(v)}, "
    "'out.safetensors', {'config': json.dumps(d.get('config'), default=str)})\""
)


class TensorFile(NamedTuple):
    """What a file of tensors holds."""

    path: Path
    tensors: dict[str, Tensor]
    about: dict[
        str, Any
    ]  # plain values beside them, such as CellViT's `config`; JSON in safetensors


def read_tensors(source: str) -> TensorFile:
    """Read every tensor of a file onto the CPU.

    Args:
        source: a local path, or `hf://<owner>/<repository>/<file>[@<revision>]`.

    Raises:
        WeightsNotFoundError: no such file.
        WeightsError: damaged, no file of tensors, or one that wants to run code.
    """
    path = fetch(source)
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}.") from error
    _refuse_text(path, start)
    # By its first bytes before its name: torch writes a zip, a safetensors' header follows its length.
    zipped = start.startswith(b"PK")
    if start[8:9] == b"{" or (path.suffix == ".safetensors" and not zipped):
        return _read_safetensors(path)
    return _read_torch(path)


def fetch(source: str) -> Path:
    """The local path of a file, downloaded into the hub's cache if it lies there.

    Raises:
        WeightsNotFoundError: no such file, or it cannot be fetched.
        WeightsError: an address that is none, or the hub's library is not installed.
    """
    if (path := check_local(source)) is not None:
        return path
    address, _, revision = str(source).removeprefix(HUB).partition("@")
    parts = address.split("/")
    if len(parts) < 3 or not all(parts):
        raise WeightsError(
            f"{source} is no file on the hub: wanted hf://owner/repository/file[@revision]."
        )
    try:
        from huggingface_hub import hf_hub_download  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise WeightsError(
            f"{source} needs the hub's library: pip install 'tissueseg[hub]', or download the file and "
            "give its path."
        ) from None
    try:
        return Path(
            hf_hub_download("/".join(parts[:2]), "/".join(parts[2:]), revision=revision or None)
        )
    except Exception as error:  # network, login, licence gate, name: the hub's line says which
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise WeightsNotFoundError(
            f"{source} could not be fetched: {first.rstrip('.')}. Download it by hand and give its path."
        ) from error


def check_local(source: str) -> Path | None:
    """The path of a source on this machine, which must be there; None for one on the hub.

    Raises:
        WeightsNotFoundError: no such file.
    """
    if not isinstance(source, str):
        raise WeightsError(f"weights={source}, wanted a file or hf://owner/repository/file.")
    if source.startswith(HUB):
        return None
    if source.startswith(BUILTIN):
        return _brought(source)
    path = Path(source).expanduser()
    if not path.is_file():
        raise WeightsNotFoundError(
            f"no weights at {path}: give a file, or hf://owner/repository/file."
        )
    return path


def _brought(source: str) -> Path:
    there = {path.name: path for path in (WEIGHTS_DIR).glob("*.safetensors")}
    if (path := there.get(source.removeprefix(BUILTIN))) is None:
        raise WeightsNotFoundError(
            f"{source}: the package brings no such file, but {', '.join(sorted(there)) or 'none'}."
        )
    return path


def _read_safetensors(path: Path) -> TensorFile:
    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            about = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is damaged or cut short ({error}): fetch it again.") from error
    if not tensors:
        raise WeightsError(f"{path} holds no tensors: give another file.")
    _refuse_odd(path, tensors)
    return TensorFile(path, tensors, about)


def _read_torch(path: Path) -> TensorFile:
    try:
        with (
            path.open("rb") as file,  # opened here: by its path torch would go by its name
            torch.serialization.safe_globals(_NUMBERS),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # what is wrong is said below, in one line
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if found := _OFFENDER.search(str(error)):
            raise WeightsError(
                f"{path} is a pickle that wants to call {found[1]}, which could run any code, so it was "
                f"not read. {CONVERT}"
            ) from error
        raise WeightsError(f"{path} is no file of weights: wanted .safetensors or .pth.") from error
    except Exception as error:  # there is no end to the ways a damaged zip or pickle fails
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path} is a TorchScript program, not a file of weights: save its state_dict."
            ) from error
        raise WeightsError(
            f"{path} is damaged, cut short or no file of weights: fetch it again."
        ) from error
    if isinstance(content, Tensor):
        _refuse_odd(path, {"the tensor": content})
        return TensorFile(path, {"": content}, {})
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, wanted named tensors.")
    state = next((content[k] for k in _STATES if isinstance(content.get(k), Mapping)), content)
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors, only {sorted(map(str, content))[:8]}.")
    _refuse_odd(path, tensors)
    about = {k: v for k, v in content.items() if not isinstance(v, Tensor) and v is not state}
    return TensorFile(path, tensors, about if state is not content else {})


def _refuse_odd(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Kinds of tensors that little of torch can compute with."""
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
            raise WeightsError(f"{path}: {name} is sparse or quantised, wanted plain tensors.")
        if tensor.dtype not in _PLAIN:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise WeightsError(
                f"{path}: {name} holds {kind}, wanted plain numbers such as float32."
            )


def _refuse_text(path: Path, start: bytes) -> None:
    if not start:
        raise WeightsError(f"{path} is empty: fetch it again.")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path} is a Git LFS pointer, not the file it stands for: run git lfs pull, or download it."
        )
    if start.lstrip()[:1] == b"<":
        raise WeightsError(
            f"{path} is a web page saved under the name of weights: its download needs a login or a "
            "licence accepted in the browser."
        )
