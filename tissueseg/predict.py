"""`python -m tissueseg.predict run=… [store.path=… | image=…]`: the cells of whole tissues, exported."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import Executor
from functools import partial
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from tissueseg.command import run_command
from tissueseg.composition import plain, task_words
from tissueseg.prediction_job import SPATIALDATA, Job, open_job, read_request
from tissueseg.ranks import ranks_to_start, start_ranks
from tissueseg.resuming import requeue
from tissueseg.store.processes import end_with_starter
from tissueseg.workers import SharedFolder, TakenOverError, leads, shared_console, stoppable

if TYPE_CHECKING:
    from tissueseg.instances.cell_table import CellSchema
    from tissueseg.prediction import PredictedTissue
    from tissueseg.reporting.tissue_summary import TissueSummary
    from tissueseg.store.claims import Claim


def predict(config: DictConfig) -> None:
    """Check, then find and export cells, here or in a process for each of several devices."""
    import torch

    from tissueseg.devices import own_device

    console = shared_console()
    request = read_request(config, console)
    if count := ranks_to_start(request.trained):
        with SharedFolder(request.out) as shared:  # what is wrong is said once
            open_job(request, shared, torch.device("cpu"), console)
        if worst := start_ranks("tissueseg.predict", task_words(), count, together=False):
            sys.exit(worst)
        return
    with stoppable(requeue), SharedFolder(request.out) as shared:
        _predict_all(open_job(request, shared, own_device(request.trained), console), shared)


def _predict_all(job: Job, shared: SharedFolder) -> None:
    """Tissue after tissue that is not there, and that no other process is at."""
    from tissueseg.cells.workers import worker_pool
    from tissueseg.reporting.prediction_folder import found_in, is_there
    from tissueseg.reporting.tissue_page import write_prediction_page

    exports, again = job.exports(), job.name if job.config.overwrite else None

    def done(tissue: str) -> bool:
        return is_there(job.out / tissue, job.made_by(tissue), exports, again)

    left = [tissue for tissue in job.tissues if not done(tissue)]
    if leads():
        _announce(job, len(left))
    with worker_pool(job.predictor.workers) as pool:
        elsewhere = shared.share(left, done, partial(_predict, job, pool), job.config.wait)
    if elsewhere:
        _say(job, f"{len(elsewhere)} tissues other processes are at: not waited for")
    summaries = found_in(job.out)
    if job.config.preview:  # of all tissues in the folder, whichever process found them
        write_prediction_page(job.out, f"Cells by {job.about['run']}", summaries)
    asked = [s for s in summaries if s.tissue in job.tissues]
    if leads():
        _say(job, f"{sum(s.cells.total for s in asked):,} cells in {len(asked)} tissues: {job.out}")


def _announce(job: Job, left: int) -> None:
    known = set(job.checkpoint.split["train"].values())
    seen = [t for t in job.tissues if job.store.entry(t).digest in known]
    _say(job, f"{job.about['run']}: {len(job.tissues)} tissues of {job.store.address}")
    for line in job.predictor.describe():
        _say(job, line)
    for line in job.about_images(*job.tissues):
        _say(job, f"notice: {line}")
    if seen:
        _say(job, f"notice: {len(seen)} of them trained the decoder, such as {seen[0]}")
    if job.predictor.encoder.spec.random_init:
        _say(job, "notice: the encoder has random weights: its cells test the machinery only")
    if kept := len(job.tissues) - left:
        _say(job, f"{kept} of {len(job.tissues)} tissues are there already, and are kept")


def _predict(job: Job, pool: Executor, tissue: str, claim: Claim) -> None:
    """One tissue: found in a hidden folder, which takes its name when all is there."""
    from tissueseg.reporting.pixel_progress import PixelProgress
    from tissueseg.reporting.prediction_folder import is_complete, write_stamp
    from tissueseg.tables.cell_files import CellFiles
    from tissueseg.tables.targets import complete

    entry = job.store.entry(tissue)
    schema = job.predictor.schema(tissue, job.about | {"tissue": tissue}, job.file_px)
    formats = [name for name in plain(job.config)["formats"] if name != SPATIALDATA]
    _clear(job.out, tissue)
    with complete(job.out / tissue, job.config.overwrite, is_complete) as place:
        place.mkdir()
        pixels = entry.height * entry.width
        with (
            PixelProgress(job.console, tissue, pixels, job.store.mpp) as progress,
            CellFiles(place, schema, formats) as files,
        ):
            found = job.predictor.predict(schema, place, pool, files.add, progress.tell)
        summary = _finish(job, schema, place, found)
        write_stamp(place, job.made_by(tissue), job.exports(), summary, job.name)
        if not claim.held():
            raise TakenOverError(tissue)
    progress.done(found.counts.cells, found.seconds, found.network_s)


def _clear(out: Path, tissue: str) -> None:
    """Remove what processes left that were killed at a tissue, on whatever machine."""
    for kind in ("partial-*", "old"):
        for left in out.glob(f".{escape(tissue)}.{kind}"):
            shutil.rmtree(left, ignore_errors=True)


def _finish(job: Job, schema: CellSchema, place: Path, found: PredictedTissue) -> TissueSummary:
    """Exports that want all cells, and pictures."""
    from dataclasses import replace

    from tissueseg.reporting import overview_pictures as pictures
    from tissueseg.reporting.tissue_page import write_tissue_page
    from tissueseg.reporting.tissue_summary import TissueSummary, list_files
    from tissueseg.tables.label_image import read_labels
    from tissueseg.tables.prediction_spatialdata import write_prediction_spatialdata

    tissue, entry, counts = schema.tissue, job.store.entry(schema.tissue), found.tally.counts()
    if SPATIALDATA in job.config.formats:
        write_prediction_spatialdata(place, place / f"{tissue}.spatialdata.zarr", schema)
    summary = TissueSummary(
        tissue,
        entry.height,
        entry.width,
        job.store.mpp,
        counts,
        schema.about,
        duplicates=found.counts.dropped,
        random_weights=job.predictor.encoder.spec.random_init,
        notices=(*job.about_images(tissue), *found.notices),
    )
    if not job.config.preview:
        return replace(summary, files=list_files(place))
    types = job.checkpoint.scored_classes
    view = pictures.CellView(
        job.store, tissue, read_labels(place).instances, found.tally.types_of_ids, types
    )
    whole = pictures.whole_tissue(view)
    pictures.preview(view, whole, counts).save(place / "preview.png")
    crops = [pictures.crop(view, window) for window in found.tally.densest()]
    summary = replace(summary, files=list_files(place))
    write_tissue_page(place, summary, whole, crops)
    return summary


def _say(job: Job, line: str) -> None:
    job.console.print(line, highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    end_with_starter()
    run_command("predict", predict)
