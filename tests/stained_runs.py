"""What tests of whole tissues share: tissues whose nuclei can be seen, and a run that has seen them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_runs import WORDS, write_cohort
from stores import random_tissue

from tissueseg.store.planes import Tissue


def stained(height: int, width: int, seed: int, **parts: Any) -> Tissue:
    """A tissue whose nuclei can be seen."""
    tissue = random_tissue(height, width, seed, patient=str(seed))
    dark = np.where(tissue.instances > 0, 160, 0)
    he = np.stack([220 - dark, 200 - dark, 230 - dark // 2]).astype(np.uint8)
    return tissue._replace(he=he, **parts)


def stained_run(folder: Path, *words: str) -> Path:
    """A run on H&E, trained on `cohort.zarr` of the folder, which is written."""
    from tissueseg.command import run_command
    from tissueseg.train import train

    write_cohort(folder, {name: stained(128, 128, seed) for seed, name in enumerate("abc")})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        given = [*WORDS, "decoder=panoptic", "run_dir=run", *words]
        patch.setattr(sys, "argv", ["tissueseg.train", *given])
        run_command("train", train)
    return folder / "run"
