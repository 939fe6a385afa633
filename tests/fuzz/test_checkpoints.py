"""Weights, marker vectors, decoders and states that were spoilt: read, or refused in one line.

Some inputs are pickles that would leave a file behind if they were run: none may.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from fuzz.fuzzing import spoil
from fuzz.kinds import Kind, check
from fuzz.plain_values import ODD, spoil_tree
from google_crc32c import Checksum
from published import HEADS, write_published
from safetensors.torch import save
from torch import Tensor
from virtues_made import data

from tissueseg.contracts import Channel, DataSpec, EncoderSpec, Modality, Normalisation, TissueClass
from tissueseg.data.markers import MarkerTable
from tissueseg.data.normalise import Normaliser
from tissueseg.decoders.skip import SkipDecoder
from tissueseg.encoders.sam import SAMEncoder
from tissueseg.encoders.virtues import VirTues
from tissueseg.encoders.vit import ViTEncoder
from tissueseg.modules.checkpoint import DecoderCheckpoint, load_decoder, save_decoder
from tissueseg.modules.state_files import StateFiles
from tissueseg.tensorfile import read_tensors

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0)]

PANEL = (Channel("DAPI", "P68431", True), Channel("CD3"), Channel("CD4"))
_HARM = "/tmp/tissueseg-fuzz-harm"


class Harmful:
    """Unpickling it leaves a file behind."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path(_HARM),)


class Built:
    """Unpickling it sets attributes, or appends, of what torch may build."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


_CALLS: tuple[Any, ...] = (
    Harmful(),
    Built(getattr, (Path, "touch")),
    Built(eval, (f"open({_HARM!r}, 'w')",)),
    Built(torch.load, (_HARM,)),
    Built(torch._utils._rebuild_tensor_v2, (None, 0, (10**6,), (1,), False, {})),
    Built(torch.Tensor, ((1 << 40,),)),
    Built(torch.Size, ((-1,),)),
    Built(torch.device, ("cuda:99",)),
    Built(bytearray, (1 << 20,)),
)


def spoilt_tensors(random: Random, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of other shapes, types or names, or without numbers."""
    found = dict(tensors)
    for _ in range(random.choice((0, 1, 1, 2))):
        name = random.choice(list(found))
        value = found[name]
        match random.randrange(9):
            case 0:
                del found[name]
                if not found:
                    return {}
            case 1:
                found[random.choice(("x", "", f"{name}.x", "é\0", name[:-1]))] = found.pop(name)
            case 2:
                found[name] = value.flatten()[: random.choice((0, 1, 2))]
            case 3:
                found[name] = value[None]
            case 4:
                kinds = (torch.int64, torch.uint8, torch.bool, torch.complex64, torch.float16)
                kinds += (torch.bfloat16, torch.float64, torch.float8_e4m3fn)
                found[name] = value.to(random.choice(kinds))
            case 5:
                odd = (float("nan"), float("inf"), 1e38)
                found[name] = torch.full(value.shape, random.choice(odd))
            case 6:
                found[name] = value.T if value.ndim == 2 else value.reshape(-1, 1)
            case 7:
                other = random.choice(list(found))
                found[name], found[other] = found[other], found[name]
            case 8:
                found[name] = value.new_zeros(())
    return {name: value.clone().contiguous() for name, value in found.items()}


def spoilt_safetensors(random: Random, tensors: Mapping[str, Tensor], about: Any = None) -> bytes:
    """A file whose tensors, header or bytes are spoilt."""
    before = save(spoilt_tensors(random, tensors), about)
    match random.randrange(5):
        case 0 | 1:
            return before
        case 2:
            return spoil(random, before, words=True)
    (length,) = struct.unpack("<Q", before[:8])
    header, body = before[8 : 8 + length], before[8 + length :]
    if random.randrange(3):
        header = json.dumps(spoil_tree(random, json.loads(header), _HEADERS), default=str).encode()
    else:
        header = spoil(random, header, words=True)
    odd = (0, length, 2**63, 2**64 - 1, 10**9)
    said = len(header) if random.randrange(6) else random.choice(odd)
    return struct.pack("<Q", said) + header + body


_HEADERS = (
    *ODD,
    [0, 4],
    [4, 0],
    [0, 2**63],
    [-4, 0],
    [2**62, 2],
    "F32",
    "F64",
    "I4",
    "F8_E4M3",
    "BOOL",
)


def spoilt_torch(random: Random, content: Any) -> bytes:
    """A file of torch whose content, pickle, members or bytes are spoilt."""
    out = io.BytesIO()
    zipped = random.randrange(4) > 0
    content = random.choice(_CALLS) if not random.randrange(15) else content
    if isinstance(content, dict) and not random.randrange(10):
        content = content | {random.choice(list(content)): random.choice(_CALLS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, out, _use_new_zipfile_serialization=zipped)
    before = out.getvalue()
    match random.randrange(6):
        case 0 | 1:
            return before
        case 2:
            return spoil(random, before, [pickle.dumps(Harmful())])
    if not zipped:
        return spoil(random, before[:600], [pickle.dumps(Harmful(), 2)]) + before[600:]
    with zipfile.ZipFile(io.BytesIO(before)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    pickles = [name for name in members if name.endswith(".pkl")]
    name = random.choice([*members, *pickles, *pickles, *pickles])
    match random.randrange(6):
        case 0:
            del members[name]
        case 1:
            members[f"{name}x"] = members.pop(name)
        case 2:
            members[name] = random.choice(_pickles())
        case _:
            members[name] = spoil(random, members[name], _pickles(), words=True)
    out = io.BytesIO()
    packing = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _pickles() -> list[bytes]:
    return [pickle.dumps(call, protocol) for call in _CALLS[:4] for protocol in (0, 2, 4)]


def tensor_file_kind(folder: Path) -> Kind:
    """Weights of every layout, given to the encoder or decoder they are for."""
    files = write_published(folder)
    virtues, table = read_tensors(str(files.virtues)), read_tensors(str(files.table))
    cellvit = torch.load(files.cellvit, weights_only=True)
    vit = {n: t for n, t in cellvit["model_state_dict"].items() if n.startswith("encoder.")}
    sam = _sam()
    markers = MarkerTable(str(files.table), unmatched="drop", duplicates="first")
    spec = EncoderSpec("vit", ("he",), (16,) * 4, 16)
    whole = (1, 2, 3, 4)

    def as_virtues(path: str) -> None:
        about = EncoderSpec("virtues", ("sp",), (16,) * 4, 8)
        panel = DataSpec(Modality.SP, 3, (), PANEL, 0.5, 16)
        VirTues(about, panel, levels=whole, weights=path, markers=markers)

    def as_vit(path: str) -> None:
        ViTEncoder(spec, data("he"), path, levels=whole, heads=HEADS, positions="dino")

    def as_sam(path: str) -> None:
        about = EncoderSpec("sam", ("he",), (16,) * 4, 8)
        SAMEncoder(about, data("he"), path, whole)

    def as_decoder(path: str) -> None:
        SkipDecoder(spec, 3, 5, {"classes": {}}, width=1 / 64, share="branches", weights=path)

    uses: list[tuple[Callable[[str], object], Mapping[str, Tensor], Mapping[str, Any]]] = [
        (as_virtues, virtues.tensors, {}),
        (as_vit, vit, {"config": cellvit["config"]}),
        (as_sam, sam, {}),
        (as_decoder, cellvit["model_state_dict"], {"arch": "CellViT256"}),
        (read_tensors, table.tensors, {}),
    ]

    def make(random: Random, place: Path) -> tuple[Callable[[str], object], str]:
        use, tensors, about = random.choice(uses)
        suffix = random.choice((".safetensors", ".pth"))
        path = place / f"w{suffix if random.randrange(10) else '.bin'}"
        if suffix == ".safetensors":
            said = {
                key: json.dumps(spoil_tree(random, value), default=str)
                for key, value in about.items()
                if random.randrange(3)
            }
            path.write_bytes(spoilt_safetensors(random, tensors, said or None))
        else:
            key = random.choice(("model_state_dict", "state_dict", "model", "teacher", "x"))
            state: Any = spoilt_tensors(random, tensors)
            said = spoil_tree(random, dict(about))
            said = said if isinstance(said, dict) else {"config": said}
            content = {key: state, **said} if random.randrange(3) else state
            path.write_bytes(spoilt_torch(random, content))
        return use, str(path)

    return Kind(make, lambda given: _safely(given[0], given[1]))


def _sam() -> dict[str, Tensor]:
    about = EncoderSpec("sam", ("he",), (16,) * 4, 8, random_init=True)
    made = SAMEncoder(
        about, data("he"), None, (1, 2, 3, 4), heads=4, window=3, global_blocks=(2, 4), grid=8
    )
    renamed = {n.replace(".mlp.fc", ".mlp.lin"): t for n, t in made.state_dict().items()}
    return renamed | {"neck.0.weight": torch.ones(2, 16, 1, 1)}


def markers_kind(folder: Path) -> Kind:
    """A table of vectors, or a folder of them."""
    vectors = {name: torch.randn(6) for name in ("P68431", "P07766", "P01730")}

    def make(random: Random, place: Path) -> tuple[Path, str]:
        unmatched = random.choice(("refuse", "drop"))
        if not random.randrange(3):
            path = place / "table.safetensors"
            path.write_bytes(spoilt_safetensors(random, vectors))
            return path, unmatched
        spoilt = random.choice(list(vectors))
        for name, vector in vectors.items():
            odd = (vector, {"x": vector}, [vector], (vector, vector), 3, None, vector.numpy(), "x")
            odd += (
                vector.to_sparse(),
                vector[:5],
                vector.half(),
                vector.int(),
                torch.nn.Linear(1, 1),
            )
            content: Any = random.choice((*odd, *[vector] * 10)) if name == spoilt else vector
            whole = io.BytesIO()
            torch.save(content, whole)
            sane = whole.getvalue()
            (place / f"{name}.pt").write_bytes(
                spoilt_torch(random, content) if name == spoilt else sane
            )
        return place, unmatched

    def read(given: tuple[Path, str]) -> None:
        path, unmatched = given
        _safely(lambda p: MarkerTable(p, unmatched=unmatched)(PANEL), str(path))

    return Kind(make, read)


def decoder_kind(folder: Path) -> Kind:
    """`decoder.ckpt`, as evaluate and predict use it."""
    encoder = EncoderSpec("vit", ("sp",), (8,) * 4, 8, random_init=True, sha256="abc")
    classes = (TissueClass(0, "background", "#000000"), TissueClass(1, "cell", "#ffffff"))
    panel = (Channel("DAPI", None, True), Channel("CD3"))
    about = DataSpec(Modality.SP, 2, classes, panel, 0.5, 64)
    normaliser = Normaliser(Modality.SP, Normalisation(), (0.1, 0.2), (1.0, 2.0))
    with torch.random.fork_rng():
        decoder = torch.nn.Linear(3, 2)
    made = DecoderCheckpoint(
        encoder=encoder.as_dict(),
        data=about.as_dict(),
        normaliser=normaliser.as_dict(),
        decoder={"_target_": "x", "heads": {"classes": {"depth": 2}}, "width": 0.5},
        split={"train": {"a": "1"}, "val": {"b": "2"}, "test": {}},
        train_pixels=[10, 3],
        state=decoder.state_dict(),
        epoch=4,
        monitor="val/dice/macro_foreground",
        score=0.5,
    )
    save_decoder(folder / "decoder.ckpt", made)
    good = torch.load(folder / "decoder.ckpt", weights_only=True)

    def make(random: Random, place: Path) -> Path:
        content = dict(good)
        content["state"] = spoilt_tensors(random, good["state"])
        said = {key: value for key, value in content.items() if key != "state"}
        said = spoil_tree(random, said)
        if isinstance(said, dict):
            content = said | {"state": content["state"]}
        path = place / "decoder.ckpt"
        path.write_bytes(spoilt_torch(random, content))
        return path

    def read(path: Path) -> None:
        found = load_decoder(path)
        found.about("run")
        found.read_normaliser()
        found.check_encoder(encoder)
        found.check_data(about)
        found.check_unseen({"x": "9"})
        found.split_of({"a": "1", "b": "2"})
        found.restore(torch.nn.Linear(3, 2), None)

    return Kind(make, lambda path: _safely(read, path))


def state_kind(folder: Path) -> Kind:
    """The state of a training: names, checksums, bytes, and content under a right checksum."""
    state: dict[str, Any] = {
        "state_dict": {"w": torch.arange(4.0)},
        "loops": {"epoch": 2, "at": [1]},
    }

    def make(random: Random, place: Path) -> Path:
        for step in (5, 7):
            content = {"loops": spoil_tree(random, state["loops"]), "state": state["state_dict"]}
            data = spoilt_torch(random, content)
            crc = Checksum(data).digest().hex() if random.randrange(3) else "0" * 8
            name = f"step_{step:09d}-{crc}.ckpt"
            odd = (
                f"step_{step}.ckpt",
                f"step_{step:09d}-{crc}.ckpt.x",
                ".1.partial",
                "step_x.ckpt",
            )
            (place / (name if random.randrange(5) else random.choice(odd))).write_bytes(
                data if random.randrange(4) else spoil(random, data)
            )
        return place

    def read(place: Path) -> None:
        files = StateFiles(place)
        found, _ = files.recover()
        if found is not None:
            files.load_checkpoint(found)

    return Kind(make, lambda place: _safely(read, place))


KINDS = {
    "tensor_files": tensor_file_kind,
    "markers": markers_kind,
    "decoder": decoder_kind,
    "state": state_kind,
}


@pytest.mark.parametrize("name", KINDS)
def test_spoilt_checkpoints_are_read_or_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "corpus").mkdir()
    check(name, KINDS[name](tmp_path / "corpus"), tmp_path / "inputs", capsys)


def _safely(read: Callable[[Any], object], given: Any) -> None:
    try:
        read(given)
    finally:
        ran = Path(_HARM).exists()
        Path(_HARM).unlink(missing_ok=True)
        if ran:
            raise AssertionError("a pickle ran code")
