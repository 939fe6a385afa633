"""Healthy tissues to plant faults in, and stores to find them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tissueseg.contracts import Channel
from tissueseg.inspection.overview import Inspection, judge, measure, shrink_images
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.store.demo import CLASSES, PANEL, DemoParameters, draw_tissue
from tissueseg.store.planes import Tissue
from tissueseg.store.tissues import TissueStore
from tissueseg.store.writer import TissueWriter

SHOWN = (16, 1, 14)  # channels of the demo: DNA, CD45, Pan-CK
SMALL_PANEL = tuple(PANEL[i] for i in SHOWN)

Write = Callable[..., TissueStore]


@pytest.fixture(scope="session")
def drawn() -> tuple[Tissue, ...]:
    """Three demo tissues of 256 px at 0.5 µm/px, of three patients."""
    parameters = DemoParameters(size_px=256)
    tissues = (draw_tissue(parameters, i) for i in range(3))
    return tuple(
        Tissue(t.instances, t.classes, t.he, t.sp[list(SHOWN)], patient=f"p_{i}")
        for i, t in enumerate(tissues)
    )


@pytest.fixture
def tissue(drawn: tuple[Tissue, ...]) -> Tissue:
    """One of them, free to be changed."""
    return drawn[0]._replace(instances=drawn[0].instances.copy(), classes=drawn[0].classes.copy())


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write tissues, by name, to a new store: its images are those of the first."""

    def to_store(
        tissues: Mapping[str, Tissue],
        mpp: float | None = 0.5,
        panel: tuple[Channel, ...] = SMALL_PANEL,
        **options: Any,
    ) -> TissueStore:
        images = next(iter(tissues.values())).images
        panel = panel if "sp" in images else ()
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr"
        options = {"classes": CLASSES, "panel": panel, "images": images} | options
        with TissueWriter(path, mpp=mpp, **options) as writer:
            for name, tissue in tissues.items():
                writer.add(name, tissue)
        return TissueStore(path)

    return to_store


def inspect(store: TissueStore) -> Inspection:
    """What `prepare` and `doctor` find, without pictures."""
    facts = {}
    for tissue in store.tissues:
        pixels = TissuePixels(store, tissue)
        shrink_images(pixels, [], 64)
        facts[tissue] = measure(pixels)
    return judge(store, facts)


def mirrored(tissue: Tissue) -> Tissue:
    """Another tissue with the same cells."""
    cut = (
        None if plane is None else np.ascontiguousarray(plane[..., ::-1]) for plane in tissue[:4]
    )
    return Tissue(*cut, *tissue[4:])  # pyright: ignore[reportArgumentType]
