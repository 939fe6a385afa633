"""Published layouts that lack a part, and class maps and scales that do not fit a cohort."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from layouts import SIZE, PanNuke, Spora, Study, write_csv

from spoilt.spoiling import Case, Spoil


def study(spoil: Spoil, *says: str, options: tuple[str, ...] = ("source.mpp=0.5",)) -> Case:
    return Case(spoil, says, ("source=study", *options), Study)


def pannuke(spoil: Spoil, *says: str) -> Case:
    return Case(spoil, says, ("source=pannuke",), PanNuke)


def spora(spoil: Spoil, *says: str, options: tuple[str, ...] = ()) -> Case:
    return Case(spoil, says, ("source=spora", "source.untyped=ignore", *options), Spora)


def folder(*says: str, **options: str) -> Case:
    """A healthy folder, asked for something that does not fit it."""
    return Case(lambda _: None, says, tuple(f"{key}={value}" for key, value in options.items()))


class Harmful:
    """Unpickling it would leave a file behind."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("unpickled"),)


def remove(pattern: str) -> Spoil:
    return lambda made: [path.unlink() for path in made.path.glob(pattern)]


def huge(spora: Spora) -> None:
    """An image whose metadata claim far more than is there."""
    file = spora.image_path("a") / "0/zarr.json"
    meta = json.loads(file.read_text())
    meta["shape"] = [meta["shape"][0], 1_000_000, 1_000_000]
    file.write_text(json.dumps(meta))


COHORTS = {
    "study without its table": study(remove("*.csv"), "tissue_annotations.csv is missing"),
    "study without scale": study(lambda s: None, "source.mpp", options=()),
    "study's table leads elsewhere": study(
        lambda s: s.annotate({"tissue_id": ["../a", "b", "c"]}), "tissue_annotations.csv", "../a"
    ),
    "study's image is gone": study(remove("he/images_resized/a.png"), "a.png"),
    "study's masks are of another size": study(
        lambda s: s.array(
            "cell_masks/segmentation", "a", np.kron(s.instances, np.ones((2, 2), int))
        ),
        "80 × 96",
        "40 × 48",
        "resize_masks",
    ),
    "study's images differ by a pixel": study(
        lambda s: s.array("cycif/images_resized", "a", s.sp["a"][:, 1:]), "39 × 48", "40 × 48"
    ),
    "study's class names run code": study(
        lambda s: s.encode(np.array([Harmful()], object)), "labelencoder_broad_cell_type.npy"
    ),
    "study has more classes than names": study(
        lambda s: s.array("cell_masks/broad_cell_type", "a", np.full(SIZE, 7)), "7"
    ),
    "study's proteins are in another order": study(
        lambda s: s.genes({"name": ["CD3", "DAPI", "CD8"], "protein_id": ["", "", ""]}),
        "gene_dict_orion.csv",
    ),
    "study's channel table is empty": study(
        lambda s: write_csv(s.path / "cycif/channels.csv", {"channel_name": []}), "channels.csv"
    ),
    "PanNuke without masks": pannuke(remove("data/fold1/masks.npy"), "masks.npy"),
    "PanNuke's masks of another fold": pannuke(
        lambda p: np.save(p.path / "data/fold1/masks.npy", p.masks[:1]),
        "masks.npy",
        "(1, 32, 32, 6)",
    ),
    "PanNuke's images scaled to 1": pannuke(
        lambda p: np.save(p.path / "data/fold1/images.npy", p.images / 255), "images.npy"
    ),
    "PanNuke in an empty folder": pannuke(remove("**/*.npy"), "images.npy"),
    "PanNuke cut short": pannuke(
        lambda p: (p.path / "data/fold1/images.npy").write_bytes(b"\x93NUMPY\x01\x00"), "images.npy"
    ),
    "spora without pixels": spora(
        lambda s: shutil.rmtree(s.image_path("a") / "0/c"), "a.ome.zarr", "pixels"
    ),
    "spora that claims a terabyte": spora(huge, "40 × 48", "1000000 × 1000000"),
    "study's image with a header cut short": study(
        lambda s: (s.path / "cycif/images_resized/a.npy").write_bytes(
            b"\x93NUMPY\x01\x00\x16\x00{'descr': '<u2', 'sha("
        ),
        "a.npy cannot be read",
    ),
    "spora at another resolution": spora(
        lambda s: None, "1_0mpp", "0_5mpp", options=("source.mpp=0.5",)
    ),
    "spora of another modality": spora(lambda s: None, "codex", options=("source.modality=codex",)),
    "spora's mask is of another size": spora(
        lambda s: s.mask("a", s.instances[:39]), "39 × 48", "40 × 48"
    ),
    "spora's channels are not there": spora(remove("imc/channels.parquet"), "channels.parquet"),
    "class map of classes that are not there": folder(
        "class_map", "'tumour'", "did you mean tumor?", class_map="{drop: [tumour]}"
    ),
    "class map that names a class twice": folder(
        "class_map", "immune", class_map="{drop: [immune], ignore: [immune]}"
    ),
    "class map of background": folder("background", class_map="{rename: {background: x}}"),
    "class map that leaves nothing": folder("class_map", class_map="{drop: [tumor, immune]}"),
    "class map with an unknown key": folder(
        "'dropp'", "did you mean drop?", class_map="{dropp: []}"
    ),
    "class map file that is not there": folder("none.yaml cannot be read", class_map="none.yaml"),
    "scale of the store that is none": folder("mpp=-1", mpp="-1"),
    "scale of the store in other units": folder("mpp=500", mpp="500"),
    "check that is neither true nor false": folder("check=maybe", check="maybe"),
}
