"""Demo tissue: procedurally drawn, co-registered H&E, SP and labels, for runs without any download.

Labels, H&E and SP each draw from a stream of their own, so that a change to one image's rendering
leaves the other image and the labels as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tissueseg.errors import ConfigError
from tissueseg.store.demo.anatomy import lay_out, plan_of
from tissueseg.store.demo.nuclei import place_nuclei
from tissueseg.store.demo.panel import CLASSES, PANEL, SHARES, TUMOR
from tissueseg.store.demo.proteomics import render_sp
from tissueseg.store.demo.stains import render_he

__all__ = ["CLASSES", "PANEL", "DemoParameters", "DemoTissue", "draw_tissue"]

MIN_SIZE_PX = 64
GOLDEN = 0.6180339887  # its multiples modulo 1 spread evenly, however many are taken


@dataclass(frozen=True)
class DemoParameters:
    """What a demo cohort is drawn from."""

    tissues: int = 8
    size_px: int = 512  # height and width of a tissue
    mpp: float = 0.5  # µm per pixel; all structures keep their size in µm
    seed: int = 0

    def __post_init__(self) -> None:
        if self.tissues < 1 or self.size_px < MIN_SIZE_PX or self.mpp <= 0 or self.seed < 0:
            raise ConfigError(
                f"demo got tissues={self.tissues}, size_px={self.size_px}, mpp={self.mpp}, "
                f"seed={self.seed}: give at least one tissue, size_px >= {MIN_SIZE_PX}, mpp > 0 "
                "and seed >= 0."
            )


class DemoTissue(NamedTuple):
    """One drawn tissue."""

    he: np.ndarray  # (3, H, W) uint8, RGB
    sp: np.ndarray  # (17, H, W) uint16, counts, channels as in PANEL
    instances: np.ndarray  # (H, W) int32, 0 background, nuclei 1 … n
    classes: np.ndarray  # (H, W) uint8, class id of every nucleus pixel, 0 background


def draw_tissue(parameters: DemoParameters, index: int) -> DemoTissue:
    """Draw one tissue; the same arguments give the same pixels, whatever the cohort's length.

    Args:
        parameters: `seed`, `size_px` and `mpp` count, `tissues` does not.
        index: which tissue of the cohort, from 0.
    """
    seeds = np.random.SeedSequence([parameters.seed, index]).spawn(3)
    anatomy, he, sp = (np.random.default_rng(seed) for seed in seeds)
    plan = plan_of(parameters.seed, index)
    shares = SHARES * np.array(plan.factors) * np.exp(0.12 * anatomy.standard_normal(len(SHARES)))
    luck = np.random.default_rng([parameters.seed, 9]).random(len(SHARES)) + GOLDEN * index
    regions = lay_out(
        anatomy, parameters.size_px, parameters.mpp, plan, shares[TUMOR] / plan.packing
    )
    nuclei = place_nuclei(anatomy, regions, shares, luck % 1)
    return DemoTissue(
        he=render_he(he, regions, nuclei),
        sp=render_sp(sp, regions, nuclei),
        instances=nuclei.instances,
        classes=nuclei.classes,
    )
