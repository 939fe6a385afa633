"""Cells of whole tissues, found as `predict` finds them and held against the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch.distributed as dist
from omegaconf import DictConfig
from rich.console import Console

from tissueseg.cells.workers import worker_pool
from tissueseg.drawing import save_sheet
from tissueseg.modules.cell_scoring import CellScoring, FoundCells, Judged
from tissueseg.modules.group import ALONE, Group
from tissueseg.modules.panels import ShownCells, draw_instances
from tissueseg.prediction import PredictedTissue, Predictor
from tissueseg.reporting.overview_pictures import CellView, crop
from tissueseg.reporting.pixel_progress import PixelProgress
from tissueseg.store import layout
from tissueseg.store.planes import Window

_LONGEST = timedelta(days=7)


def score_cells(
    config: DictConfig,
    predictor: Predictor,
    tissues: Sequence[str],
    groups: Sequence[str],
    folder: Path,
    console: Console,
    group: Group = ALONE,
) -> dict[str, Any]:
    """Predict tissues and score their cells.

    Args:
        config: of `evaluate`.
        predictor: of the run.
        tissues: with labels.
        groups: of the tissues, see `groups_of`.
        folder: of panels, to which `<tissue>_cells.png` of some tissues go.
        console: where progress goes.
        group: of processes, which take tissues in turn and add up what they count.

    Returns:
        For `metrics.json`: `scores` of all tissues, the same by tissue, the group of each, detected
        against true types, and reliability of probabilities.
    """
    store, names = predictor.store, [c.name for c in predictor.types]
    scoring = CellScoring(store, tissues, names, predictor.mpp, groups)
    for line in predictor.describe():
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if group.of > 1:
        console = Console(force_terminal=False)  # every process speaks of its own tissues
    with (
        _all_done(group),
        worker_pool(predictor.workers) as pool,
        TemporaryDirectory(prefix="cells-") as place,
    ):
        for i, tissue in [*enumerate(tissues)][group.number :: group.of]:
            entry, found = store.entry(tissue), FoundCells()
            pixels = entry.height * entry.width
            with PixelProgress(console, tissue, pixels, store.mpp) as progress:
                predicted = predictor.predict(
                    predictor.schema(tissue, {}),
                    Path(place) / tissue,
                    pool,
                    found.take,
                    progress.tell,
                    partial(scoring.region, i),
                )
            progress.done(predicted.counts.cells, predicted.seconds, predicted.network_s)
            judged = scoring.cells(i, predicted.labels.canvas, found)
            if i < config.panels.count:
                _draw(predictor, tissue, predicted, judged, config.panels.size_px, folder)
    scoring.join(group)
    found = {"instances": str(predictor.instances), "scores": scoring.scores()}
    by_tissue = {"tissues": scoring.by_tissue(), "groups": dict(zip(tissues, groups, strict=True))}
    return found | by_tissue | scoring.tables()


@contextmanager
def _all_done(group: Group) -> Iterator[None]:
    """Wait for the others at the end, however long their tissues take.

    What processes tell each other is due in minutes.
    """
    if group.of == 1:
        yield
        return
    patient: Any = dist.new_group(backend="gloo", timeout=_LONGEST)
    yield
    dist.barrier(patient)


def _draw(
    predictor: Predictor,
    tissue: str,
    predicted: PredictedTissue,
    judged: Judged,
    size_px: int,
    folder: Path,
) -> None:
    """The central field of a tissue: true and predicted cells, and what became of each."""
    store, canvas = predictor.store, predicted.labels.canvas
    table, entry = predictor.classes, store.entry(tissue)
    height, width = min(size_px, entry.height), min(size_px, entry.width)
    window = Window((entry.height - height) // 2, (entry.width - width) // 2, height, width)
    types = predicted.tally.types_of_ids
    image = crop(CellView(store, tissue, [canvas], types, table), window).plain
    truth = store.read(tissue, layout.INSTANCES, window)
    true_types = np.zeros(int(judged.ids.max(initial=0)) + 1, np.int64)
    true_types[judged.ids] = judged.types if predictor.types else 1
    labels = np.asarray(canvas[window.y : window.y + height, window.x : window.x + width])
    known = (
        ShownCells(truth.astype(np.int64), true_types),
        ShownCells(labels.astype(np.int64), types, judged.doubtful),
    )
    folder.mkdir(parents=True, exist_ok=True)
    page = draw_instances(image, *known, judged.matches, table)
    save_sheet(page, folder / f"{tissue}_cells.png")
