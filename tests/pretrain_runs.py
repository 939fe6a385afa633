"""What tests of `pretrain` share: stores and words of runs of a second, and their steps seen.

Run as a script this is the command as one process of several, told to stop at a place: arguments are
epoch, batch, side and number of a signal, of which 0 is none; then words of the command.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from stopped_runs import Place, watched
from stores import CLASSES, PANEL, random_tissue

from tissueseg.contracts import Channel
from tissueseg.modules.pretraining import PretrainingModule
from tissueseg.store.planes import Tissue
from tissueseg.store.writer import TissueWriter

STEPS = 3  # of an epoch: ten tiles, three at a time; one is left out
SIDES = {"a": (64, 160), "b": (64, 128), "c": (64, 64)}  # ten training tiles of 32 px, eight, four
MORE = (Channel("CD8", "P01732"), Channel("CD3", "P07766"), Channel("Ki67", "P46013"))

_SHARED = (
    "name=tiny",
    "logger=csv",
    "data.tile_px=32",
    "data.batch_size=3",
    "split={train: 1, val: 1, test: 1}",
    "panels={count: 1, every_n_epochs: 1}",
    "score_tiles=4",
    "epochs=2",
    "optim.scheduler.warmup=0",
    "encoder.mpp=0.5",
    "encoder.heads=2",
    "encoder.spec.channels=[16,16,16,16]",
)
ENCODERS = {
    "sp": (
        "encoder=virtues_demo",
        "encoder.hidden=24",
        "encoder.pattern=hvhv",
        "encoder.marker_width=6",
        "autoencoder.depth=1",
    ),
    "he": ("encoder=vit_demo", "encoder.levels=[1,2,3,4]", "encoder.grid=4", "autoencoder.dim=8"),
}
RANDOM = ("encoder.weights=null", "encoder.random_init=true")


def words(folder: Path, modality: str) -> tuple[str, ...]:
    """Of a pre-training from random weights on the store and markers in a folder."""
    return (
        *(f"modality={modality}", *ENCODERS[modality], *_SHARED, *RANDOM),
        *vectors(table(folder), modality),
        f"store.path={folder / 's.zarr'}",
    )


def vectors(path: Path, modality: str = "sp") -> tuple[str, ...]:
    """The word that names marker vectors."""
    return (f"encoder.markers.path={path}",) if modality == "sp" else ()


def table(folder: Path) -> Path:
    """Vectors of the markers of all stores."""
    return folder / "markers.safetensors"


def write_all(folder: Path) -> Path:
    """A store, one without labels and with other markers at half the pixel size, and vectors."""
    draw = torch.Generator().manual_seed(0)
    proteins = {c.uniprot for c in (*PANEL, *MORE) if c.uniprot}
    save_file({p: torch.randn(6, generator=draw) for p in sorted(proteins)}, table(folder))
    made = {n: tissue(*size, seed=seed) for seed, (n, size) in enumerate(SIDES.items())}
    write(folder / "s.zarr", made)
    others = {
        n: tissue(128, 128, seed, len(MORE))._replace(instances=None, classes=None)
        for seed, n in enumerate(SIDES)
    }
    write(folder / "more.zarr", others, MORE, mpp=0.25)
    return folder


def tissue(height: int, width: int, seed: int, channels: int = len(PANEL)) -> Tissue:
    """Random squares, so that there is something to be told from the rest."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 4000, (channels, height // 16, width // 16))
    sp = coarse.repeat(16, 1).repeat(16, 2) + rng.integers(0, 200, (channels, height, width))
    made = random_tissue(height, width, seed, sp=sp.astype(np.uint16))
    return made._replace(patient=f"p_{seed}")


def write(
    path: Path, tissues: Mapping[str, Tissue], panel: Sequence[Channel] = PANEL, mpp: float = 0.5
) -> None:
    with TissueWriter(path, mpp=mpp, classes=CLASSES, panel=panel) as writer:
        for name, made in tissues.items():
            writer.add(name, made)


def assert_same_run(one: Path, other: Path) -> None:
    """Nothing of what two runs left tells them apart."""
    for name in ("metrics.csv", "encoder.safetensors", "metrics.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    drawn = [sorted((folder / "panels").glob("*.png")) for folder in (one, other)]
    assert [p.name for p in drawn[0]] == [p.name for p in drawn[1]]
    for left, right in zip(*drawn, strict=True):
        assert left.read_bytes() == right.read_bytes()


def stopped_main(epoch: str, batch: str, side: str, number: str) -> None:
    """Run the command, and send this process the signal when it comes to the place."""
    from tissueseg.command import run_command
    from tissueseg.pretrain import pretrain

    stop = {Place(int(epoch), int(batch), side): int(number)} if int(number) else {}
    with watched(stop, PretrainingModule):
        run_command("pretrain", pretrain)


if __name__ == "__main__":
    place, sys.argv[1:] = sys.argv[1:5], sys.argv[5:]
    stopped_main(*place)
