"""Lists of words saved by numpy, also as object arrays, without ever unpickling.

`np.save` writes an array of Python strings as a pickle, and unpickling runs whatever a file says. Here
its opcodes are only read (`pickletools.genops` executes nothing): what is a list of text comes out of
them, anything else is refused.
"""

from __future__ import annotations

import io
import pickletools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tissueseg.errors import TissueDataError

_OTHER = object()  # stands for anything in a pickle that is neither text nor a list
_MARK = object()

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_TEXT = ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
_SILENT = ("PROTO", "FRAME", "STOP")
_OTHERS = (  # opcodes that push one thing which is no text
    *("NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1"),
    *("BINFLOAT", "FLOAT", "BINBYTES", "SHORT_BINBYTES", "BINSTRING", "SHORT_BINSTRING", "STRING"),
    *("EMPTY_TUPLE", "EMPTY_DICT", "EMPTY_SET"),
)
_REPLACED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2, "BUILD": 2}
_GLOBALS = ("numpy ndarray", "numpy dtype", "_codecs encode")  # what an array's pickle names
_GLOBALS += tuple(f"numpy.{core}.multiarray _reconstruct" for core in ("core", "_core"))


def read_text_array(path: Path) -> tuple[str, ...]:
    """Words of a one-dimensional npy file, of type unicode or object.

    Raises:
        TissueDataError: damaged, not one-dimensional, or holding anything else than text.
    """
    try:
        with path.open("rb") as file:
            words = _read(path, file)
            "".join(words).encode()  # halves of characters can be in neither tables nor reports
    except TissueDataError:
        raise
    except Exception as error:  # a damaged file fails anywhere in the parsers
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TissueDataError(f"{path} cannot be read, is it damaged? ({reason})") from error
    return words


def _read(path: Path, file: BinaryIO) -> tuple[str, ...]:
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise TissueDataError(f"{path} is npy version {version}, wanted 1.0 or 2.0: save it again.")
    shape, _, dtype = _HEADERS[version](file)
    if len(shape) != 1:
        raise TissueDataError(f"{path} has shape {shape}, wanted a list of names: (n,).")
    if dtype.kind == "U":
        file.seek(0)
        words = np.lib.format.read_array(file, allow_pickle=False)
        codes = np.frombuffer(words.tobytes(), np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if (
            codes.max(initial=0) > sys.maxunicode
        ):  # numpy would make text of it that nothing can read
            raise ValueError(f"no character has the number {codes.max()}")
        return tuple(str(word) for word in words)
    if dtype.kind != "O":
        raise TissueDataError(f"{path} holds {dtype} values, wanted names: save them as text.")
    found = _last_list(path, file.read())
    if not all(isinstance(word, str) for word in found):
        raise TissueDataError(
            f"{path} holds more than text: save it as np.array(names, dtype=str)."
        )
    if len(found) != shape[0]:
        raise TissueDataError(
            f"{path} holds {len(found)} names, but its header says {shape[0]}: save it again."
        )
    return tuple(found)


def _last_list(path: Path, pickle: bytes) -> list[Any]:
    """The last list a pickle builds: the items of an object array."""
    machine = _Lists()
    for opcode, argument, _ in pickletools.genops(io.BytesIO(pickle)):
        if strange := machine.step(opcode.name, argument):
            raise TissueDataError(
                f"{path} is a pickle of more than names ({strange}), and pickles are never loaded: save "
                "it as np.array(names, dtype=str)."
            )
    return machine.last


class _Lists:
    """Follows a pickle's opcodes as far as text, lists and references to them need; runs nothing."""

    def __init__(self) -> None:
        self.last: list[Any] = []
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._steps: dict[str, Callable[[Any], None]] = {
            "MARK": lambda _: self._stack.append(_MARK),
            "EMPTY_LIST": lambda _: self._begin([]),
            "LIST": lambda _: self._begin(self._since_mark()),
            "APPEND": lambda _: self._extend([self._stack.pop()]),
            "APPENDS": lambda _: self._extend(self._since_mark()),
            "TUPLE": self._tuple,
            "MEMOIZE": lambda _: self._remember(len(self._memo)),
        }
        self._steps |= dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._remember)
        self._steps |= dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), self._recall)

    def step(self, name: str, argument: Any) -> str:
        """Follow one opcode; returns what no array of names needs, if it is that."""
        if name in ("GLOBAL", "STACK_GLOBAL"):
            return self._name(argument or " ".join(map(str, self._take(2))))
        if name in _TEXT:
            self._stack.append(argument)
        elif name in _OTHERS:
            self._stack.append(_OTHER)
        elif name in _REPLACED:
            self._take(_REPLACED[name])
            self._stack.append(_OTHER)
        elif name in self._steps:
            self._steps[name](argument)
        elif name not in _SILENT:
            return name
        return ""

    def _name(self, name: str) -> str:
        self._stack.append(_OTHER)
        return "" if name in _GLOBALS else name

    def _take(self, count: int) -> list[Any]:
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _tuple(self, _: Any) -> None:
        self._since_mark()
        self._stack.append(_OTHER)

    def _begin(self, items: list[Any]) -> None:
        self.last = items
        self._stack.append(items)

    def _extend(self, items: list[Any]) -> None:
        self._stack[-1].extend(items)

    def _since_mark(self) -> list[Any]:
        items: list[Any] = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _remember(self, place: int) -> None:
        self._memo[int(place)] = self._stack[-1]

    def _recall(self, place: int) -> None:
        self._stack.append(self._memo[int(place)])
