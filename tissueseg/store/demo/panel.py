"""Classes and SP panel of the demo, and what each class expresses.

Classes and channels are the study's (ORION colorectal cancer), with its nuclear stain put back.
Marker names and accessions agree with UniProt; DNA and Pan-CK follow VirTues (Histone H3, KRT14).
"""

from __future__ import annotations

import numpy as np

from tissueseg.contracts import Channel, TissueClass

CLASSES: tuple[TissueClass, ...] = (
    TissueClass(0, "background", "#000000"),
    TissueClass(1, "stroma", "#9c8a6b"),
    TissueClass(2, "tumor", "#e6352b"),
    TissueClass(3, "macrophage", "#f5a623"),
    TissueClass(4, "helper_t", "#2f7de1"),
    TissueClass(5, "cytotoxic_t", "#17c3d6"),
    TissueClass(6, "endothelia", "#35b34a"),
    TissueClass(7, "other", "#b8b8b8"),
    TissueClass(8, "treg", "#8e44e0"),
    TissueClass(9, "b_cell", "#ff6ec7"),
)

BACKGROUND, STROMA, TUMOR, MACROPHAGE, HELPER_T = range(5)
CYTOTOXIC_T, ENDOTHELIA, OTHER, TREG, B_CELL = range(5, 10)

SHARES = np.array([0.767, 0.084, 0.103, 0.019, 0.011, 0.004, 0.006, 0.005, 0.001, 0.0004])
"""Share of all pixels per class, the study's; B cells are raised from 0.00007, one nucleus in eight
tissues, to where a small cohort holds a few."""

PANEL: tuple[Channel, ...] = (
    Channel("CD31", "P16284"),
    Channel("CD45", "P08575"),
    Channel("CD68", "P34810"),
    Channel("CD4", "P01730"),
    Channel("FOXP3", "Q9BZS1"),
    Channel("CD8a", "P01732"),
    Channel("CD45RO", "P08575-4"),
    Channel("CD20", "P11836"),
    Channel("PD-L1", "Q9NZQ7"),
    Channel("CD3e", "P07766"),
    Channel("CD163", "Q86VB7"),
    Channel("E-cadherin", "P12830"),
    Channel("PD-1", "Q15116"),
    Channel("Ki67", "P46013"),
    Channel("Pan-CK", "P02533"),
    Channel("SMA", "P62736"),
    Channel("DNA", "P68431", nuclear=True),
)
"""The study's 16 channels in its order, then the nuclear stain that it dropped."""

INDEX = {channel.name: i for i, channel in enumerate(PANEL)}

LOCALISATION: dict[str, tuple[float, float, float]] = {
    # nucleus, membrane, cytoplasm; a membrane seen from above also veils its nucleus
    "FOXP3": (1.0, 0.0, 0.06),
    "Ki67": (1.0, 0.0, 0.03),
    "DNA": (1.0, 0.0, 0.015),
    "Pan-CK": (0.22, 0.6, 1.0),
    "E-cadherin": (0.10, 1.0, 0.16),
    "CD68": (0.25, 0.3, 1.0),
    "SMA": (0.15, 0.1, 0.6),
}
ON_MEMBRANE = (0.30, 1.0, 0.45)  # all others

EXPRESSION: dict[str, dict[str, tuple[float, float]]] = {
    # class -> channel -> (level of positive cells, fraction of cells that are positive)
    "stroma": {"SMA": (0.8, 0.65), "Ki67": (0.5, 0.03), "CD45": (0.05, 0.3)},
    "tumor": {
        "Pan-CK": (1.0, 0.98),
        "E-cadherin": (1.0, 0.95),
        "Ki67": (0.9, 0.38),
        "PD-L1": (0.5, 0.20),
    },
    "macrophage": {
        "CD68": (1.0, 0.97),
        "CD163": (0.9, 0.75),
        "CD45": (0.6, 1.0),
        "CD4": (0.25, 0.8),
        "PD-L1": (0.6, 0.35),
    },
    "helper_t": {
        "CD3e": (1.0, 1.0),
        "CD4": (0.9, 1.0),
        "CD45": (1.0, 1.0),
        "CD45RO": (0.8, 0.6),
        "PD-1": (0.7, 0.3),
        "Ki67": (0.6, 0.06),
    },
    "cytotoxic_t": {
        "CD3e": (1.0, 1.0),
        "CD8a": (1.0, 1.0),
        "CD45": (1.0, 1.0),
        "CD45RO": (0.7, 0.5),
        "PD-1": (0.7, 0.35),
        "Ki67": (0.6, 0.10),
    },
    "endothelia": {"CD31": (1.0, 1.0), "SMA": (0.3, 0.3)},
    "other": {"CD45": (0.35, 0.7), "CD68": (0.12, 0.3)},
    "treg": {
        "CD3e": (0.9, 1.0),
        "CD4": (0.9, 1.0),
        "FOXP3": (1.0, 1.0),
        "CD45": (0.9, 1.0),
        "CD45RO": (0.8, 0.8),
        "PD-1": (0.5, 0.4),
    },
    "b_cell": {"CD20": (1.0, 1.0), "CD45": (1.0, 1.0), "Ki67": (0.6, 0.08)},
}

CELL_CV = 0.32  # log-deviation of a positive cell's level
LEAK = 0.02  # level of a cell that does not express the marker


def draw_expression(rng: np.random.Generator, kinds: np.ndarray) -> np.ndarray:
    """Levels of every cell.

    Args:
        rng: stream of the SP image.
        kinds: (n + 1,) class id of every cell, 0 first.

    Returns:
        (n + 1, 17) float32, about 1 for a strongly positive cell, 0 in the first row.
    """
    names = [c.name for c in CLASSES]
    mean = np.zeros((len(CLASSES), len(PANEL)), np.float32)
    positive = np.zeros_like(mean)
    for name, markers in EXPRESSION.items():
        for marker, (level, fraction) in (markers | {"DNA": (1.0, 1.0)}).items():
            mean[names.index(name), INDEX[marker]] = level
            positive[names.index(name), INDEX[marker]] = fraction
    shape = (len(kinds), len(PANEL))
    size = np.exp(0.12 * rng.standard_normal((len(kinds), 1)))  # cells differ as a whole, too
    spread = np.exp(CELL_CV * rng.standard_normal(shape))
    on = rng.random(shape) < positive[kinds]
    levels = (np.where(on, mean[kinds], 0) + LEAK) * spread * size
    levels[:, INDEX["DNA"]] = np.array([0, 0.8, 0.75, 0.7, 1.2, 1.2, 0.9, 1.0, 1.15, 1.15])[
        kinds
    ] * (1 + 0.5 * (spread[:, INDEX["DNA"]] - 1))
    levels[0] = 0
    return levels.astype(np.float32)
