"""The SP image of a demo tissue: markers in their compartments, spill-over, background, shot noise.

What each cell expresses comes from `panel`; here it is laid over nucleus, membrane and cytoplasm,
leaked into neighbours and into other channels, and counted.
"""

from __future__ import annotations

import numpy as np

from tissueseg.store.demo.anatomy import Regions
from tissueseg.store.demo.fields import Field, bell, blur, smooth_noise, step
from tissueseg.store.demo.nuclei import Nuclei
from tissueseg.store.demo.panel import (
    INDEX,
    LOCALISATION,
    ON_MEMBRANE,
    PANEL,
    STROMA,
    draw_expression,
)
from tissueseg.store.demo.stains import border_distance

MEMBRANE_UM = 0.8
FOCUS_UM = 0.45  # blur of the optics
HALO_UM = 2.2  # glare and out-of-focus light of neighbours
HALO_SHARE = 0.12
GAIN = 4.0  # counts per photon
POSITIVE_COUNTS = 2600.0  # of a strongly positive cell, typical channel
PEDESTAL_COUNTS = 90.0
READ_NOISE_COUNTS = 5.0
BLEED = {  # into -> from: share; neighbours in a cycle, and dyes close in colour
    "CD4": {"CD68": 0.02, "CD3e": 0.02},
    "FOXP3": {"DNA": 0.02, "CD8a": 0.01},
    "CD8a": {"CD3e": 0.03},
    "CD20": {"CD45": 0.02},
    "PD-L1": {"CD20": 0.015, "Pan-CK": 0.02},
    "CD163": {"CD68": 0.04},
    "PD-1": {"E-cadherin": 0.02},
    "Ki67": {"DNA": 0.025},
    "SMA": {"Pan-CK": 0.015},
}


def render_sp(rng: np.random.Generator, regions: Regions, nuclei: Nuclei) -> np.ndarray:
    """(17, H, W) uint16 counts of a tissue, channels as in PANEL."""
    levels = draw_expression(rng, nuclei.kinds)
    signal = _compartments(rng, regions, nuclei, levels)
    signal[INDEX["SMA"]] += _smooth_muscle(regions, nuclei, levels[:, INDEX["SMA"]])
    signal[INDEX["CD31"]] += 0.5 * regions.wall**3
    _fill_epithelium(rng, regions, nuclei, signal)
    for i, channel in enumerate(signal):
        sharp = blur(channel, FOCUS_UM / regions.mpp)
        signal[i] = sharp + HALO_SHARE * (blur(channel, HALO_UM / regions.mpp) - sharp)
    signal = np.tensordot(_bleed(), signal, 1)
    return _count(rng, regions, signal)


def _compartments(
    rng: np.random.Generator, regions: Regions, nuclei: Nuclei, levels: np.ndarray
) -> np.ndarray:
    """(17, H, W) float32: every cell's levels on its nucleus, membrane and cytoplasm."""
    mpp, size_px = regions.mpp, len(nuclei.cells)
    inside = nuclei.instances > 0
    grain = 1 + 0.16 * smooth_noise(rng, size_px, 1.4 / mpp)
    dots = 1 + 0.25 * smooth_noise(rng, size_px, 1.0 / mpp)
    bulge = 0.65 + 0.35 * step(border_distance(nuclei.instances) * mpp, 0, 2.0)
    nucleus = inside * grain * bulge
    membrane = bell(border_distance(nuclei.cells) * mpp, MEMBRANE_UM) * (nuclei.cells > 0)
    cytoplasm = ((nuclei.cells > 0) & ~inside) * dots
    signal = np.empty((len(PANEL), size_px, size_px), np.float32)
    for i, channel in enumerate(PANEL):
        n, m, c = LOCALISATION.get(channel.name, ON_MEMBRANE)
        place = n * nucleus + c * cytoplasm
        signal[i] = levels[:, i][nuclei.cells] * (
            np.maximum(place, m * membrane * dots) if m else place
        )
    return np.maximum(signal, 0)


def _smooth_muscle(regions: Regions, nuclei: Nuclei, levels: np.ndarray) -> Field:
    """SMA beyond the nucleus: fibres about positive fibroblasts, and walls of vessels."""
    at_nuclei = np.where(nuclei.kinds == STROMA, levels, 0)[nuclei.instances]
    around = blur(at_nuclei.astype(np.float32), 6.0 / regions.mpp) * 6.0
    strands = step(regions.fibres, 0.35, 0.95)
    outer = blur(regions.wall, 1.5 / regions.mpp) * step(regions.loose, 0.2, 0.8)
    return (np.minimum(around, 1.1) * strands + 0.5 * outer) * regions.stroma


def _fill_epithelium(
    rng: np.random.Generator, regions: Regions, nuclei: Nuclei, signal: np.ndarray
) -> None:
    """Epithelium that no drawn cell claims belongs to cells cut above their nucleus."""
    lost = regions.nest & (nuclei.cells == 0)
    dots = 1 + 0.25 * smooth_noise(rng, len(lost), 1.0 / regions.mpp)
    dots *= np.exp(0.3 * smooth_noise(rng, len(lost), 12 / regions.mpp))
    signal[INDEX["Pan-CK"]][lost] = 0.9 * dots[lost]
    signal[INDEX["E-cadherin"]][lost] = 0.25 * dots[lost]


def _bleed() -> np.ndarray:
    """(17, 17) float32 mixing of channels, into × from."""
    matrix = np.eye(len(PANEL), dtype=np.float32)
    for into, sources in BLEED.items():
        for source, share in sources.items():
            matrix[INDEX[into], INDEX[source]] = share
    return matrix


def _count(rng: np.random.Generator, regions: Regions, signal: np.ndarray) -> np.ndarray:
    """Counts: staining strength, autofluorescence, photons' shot noise, the camera's noise."""
    mpp, size_px = regions.mpp, signal.shape[1]
    empty = blur((regions.void | regions.lumen).astype(np.float32), 1 / mpp)
    tissue = (0.5 + 0.5 * regions.fibres * regions.stroma + 1.2 * regions.vessel) * (
        1 - 0.8 * empty
    )
    strength = POSITIVE_COUNTS * np.exp(rng.normal(0, 0.25, len(PANEL)))
    glow = rng.uniform(50, 190, len(PANEL))
    counts = np.empty(signal.shape, np.uint16)
    for i, channel in enumerate(signal):
        haze = 1 + 0.25 * smooth_noise(rng, size_px, 120 / mpp)
        wash = 1 + 0.08 * smooth_noise(rng, size_px, 150 / mpp)
        light = np.maximum(strength[i] * wash * channel + glow[i] * haze * tissue, 0)
        light += PEDESTAL_COUNTS * 0.4
        photons = rng.poisson(light / GAIN)
        read = READ_NOISE_COUNTS * rng.standard_normal(light.shape, dtype=np.float32)
        counts[i] = np.clip(photons * GAIN + read + PEDESTAL_COUNTS * 0.6, 0, 65535)
    return counts
