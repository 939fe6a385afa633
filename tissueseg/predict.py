"""`python -m tissueseg.predict run=… [store.path=… | image=…]`: the cells of whole tissues, exported."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg.command import plain, run_command, tissue_names
from tissueseg.errors import ConfigError
from tissueseg.store.notices import gather
from tissueseg.trained import check_command, check_path, run_folder, trained_config

if TYPE_CHECKING:
    from tissueseg.instances.cell_table import CellSchema
    from tissueseg.modules.checkpoint import DecoderCheckpoint
    from tissueseg.prediction import PredictedTissue, Predictor
    from tissueseg.reporting.tissue_summary import TissueSummary
    from tissueseg.store.tissues import TissueStore

SPATIALDATA = "spatialdata"
_IMAGE = ("file", "he", "sp", "mpp", "channels")
_DECIDING = ("types", "embedding", "ring_um", "views", "blend")


class Job(NamedTuple):
    """One call of the command, opened and checked."""

    config: DictConfig
    run: Path
    out: Path
    store: TissueStore
    file_px: float  # pixels of an image file per pixel of the store that was made of it
    tissues: tuple[str, ...]
    checkpoint: DecoderCheckpoint
    predictor: Predictor
    settings: dict[str, Any]  # that decide on the cells, beside the pixels
    about: dict[str, str]  # for people
    console: Console


def predict(config: DictConfig) -> None:
    """Check, then find and export the cells of tissue after tissue."""
    from tissueseg.cells.workers import worker_pool
    from tissueseg.reporting.prediction_folder import found_in, is_there
    from tissueseg.reporting.tissue_page import write_prediction_page

    job = _open(config, Console())
    _announce(job)
    exports, again = _exports(config), config.overwrite
    kept = {t for t in job.tissues if is_there(job.out / t, _made_by(job, t), exports, again)}
    if kept:
        _say(job, f"{len(kept)} of {len(job.tissues)} tissues are there already, and are kept")
    with worker_pool(job.predictor.workers) as pool:
        for tissue in (tissue for tissue in job.tissues if tissue not in kept):
            _predict(job, tissue, pool)
    summaries = found_in(job.out)
    if config.preview:  # of all tissues in the folder, whichever call found them
        write_prediction_page(job.out, f"Cells by {job.about['run']}", summaries)
    asked = [s for s in summaries if s.tissue in job.tissues]
    _say(job, f"{sum(s.cells.total for s in asked):,} cells in {len(asked)} tissues: {job.out}")


def _open(config: DictConfig, console: Console) -> Job:
    """Check everything that can be checked before the first tile is read."""
    from tissueseg import preflight
    from tissueseg.modules.checkpoint import load_decoder
    from tissueseg.prediction import Predictor, check_options
    from tissueseg.reporting import runs
    from tissueseg.tables.targets import chosen
    from tissueseg.workers import autocast_of, chosen_devices

    folder = run_folder(config)
    check_command(config)
    check_options(config)
    _check_formats(config)
    _settle_image(config)
    names = tissue_names(config)
    trained, _ = trained_config(config, folder)
    trained.features, trained.embeddings.path = "online", None
    checkpoint = load_decoder(folder / runs.DECODER)
    preflight.check(trained)
    preflight.check_machine(trained)
    out = Path(config.out or folder / "prediction" / _title(config, trained))
    runs.check_writable(out, "out")
    if (out / runs.CONFIG).exists():
        raise ConfigError(f"out={out} is the folder of a run: choose another.")
    store, file_px = _open_store(config, trained, checkpoint, out, console)
    _refuse_inside(out, store)
    tissues = chosen(store, names)
    if (device := chosen_devices(trained))[1:]:
        raise ConfigError(
            f"trainer.devices={config.trainer.devices}: predict computes on one so far."
        )
    autocast = autocast_of(config.trainer.precision)
    predictor = Predictor(config, trained, checkpoint, store, device[0], autocast)
    about = {key: str(value) for key, value in checkpoint.about(trained.name).items()}
    shown = {"run": about["run"], "run folder": str(folder), "epoch": about["epoch"]}
    shown |= {"encoder": about["encoder"], "decoder": str(trained.name)}
    shown |= {"instances": str(predictor.instances), "date": time.strftime("%Y-%m-%d")}
    shown["commit"] = str(runs.environment()["commit"])
    settings = _settings(config, folder, predictor)
    parts = (checkpoint, predictor, settings, shown)
    return Job(config, folder, out, store, file_px, tissues, *parts, console)


def _open_store(
    config: DictConfig,
    trained: DictConfig,
    checkpoint: DecoderCheckpoint,
    out: Path,
    console: Console,
) -> tuple[TissueStore, float]:
    """The store that is named, the run's own, or one that is made of image files; see `Job.file_px`."""
    from tissueseg import assembly
    from tissueseg.contracts import DataSpec
    from tissueseg.store.image_store import file_mpp, image_store

    image = config.image
    if not (image.he or image.sp):
        return assembly.open_store(trained, console), 1.0
    he, sp = (Path(path) if path else None for path in (image.he, image.sp))
    channels = None if image.channels is None else plain(image)["channels"]
    given = (he, sp, DataSpec(**checkpoint.data), image.mpp, channels)
    found = file_mpp(*given)
    store = image_store(*given, out / "images.zarr", config.overwrite)
    return store, (store.mpp / found if store.mpp and found else 1.0)


def _refuse_inside(out: Path, store: TissueStore) -> None:
    """Results in a store would be taken for its own; but for the one that is made for them."""
    if "://" not in store.address and out.resolve().is_relative_to(store.path.resolve()):
        raise ConfigError(
            f"out={out} lies in the store {store.address}: choose a folder elsewhere."
        )


def _settle_image(config: DictConfig) -> None:
    """Find out what kind of image a file is, which the run's modality tells.

    Raises:
        ConfigError: options that are none, or a store beside the image.
    """
    from tissueseg.reporting import runs

    image: Any = config.image
    if not OmegaConf.is_dict(image) or set(image) - set(_IMAGE):
        raise ConfigError(f"image={image}: wanted a file, or {', '.join(_IMAGE)}.")
    for kind in ("file", "he", "sp"):
        check_path(f"image.{kind}", image[kind], optional=True)
    if image.file:
        modality = OmegaConf.select(OmegaConf.load(run_folder(config) / runs.CONFIG), "modality")
        if modality not in ("he", "sp"):
            raise ConfigError(
                f"image={image.file}: this run uses {modality}. Give image.he=… and image.sp=…"
            )
        image[modality] = image.file
    if config.store.path is not None and (image.he or image.sp):
        raise ConfigError("store.path and image both say what to predict: give one of them.")


def _check_formats(config: DictConfig) -> None:
    from tissueseg.tables.cell_files import FORMATS, check_formats
    from tissueseg.tables.spatial_elements import library

    formats = plain(config)["formats"]
    if not isinstance(formats, list) or not all(isinstance(name, str) for name in formats):
        raise ConfigError(f"formats={formats}: wanted some of {[*FORMATS, SPATIALDATA]}.")
    if SPATIALDATA in formats:
        library()
        if "parquet" not in formats:
            raise ConfigError("formats: spatialdata is made of the table in parquet: add parquet.")
    check_formats([name for name in formats if name != SPATIALDATA])


def _title(config: DictConfig, trained: DictConfig) -> str:
    """What the folder of a prediction is called: after its images."""
    image: Any = config.image
    if path := image.he or image.sp:
        return Path(path).name.split(".")[0]
    return "demo" if trained.store.path is None else Path(str(trained.store.path)).stem


def _settings(config: DictConfig, run: Path, predictor: Predictor) -> dict[str, Any]:
    """All that cells depend on, but for the pixels."""
    from tissueseg.reporting import runs

    decoder = hashlib.sha256((run / runs.DECODER).read_bytes()).hexdigest()
    options = {key: plain(config)[key] for key in _DECIDING}
    tiles = {"tile_px": predictor.tile_px, "overlap_px": predictor.overlap_px}
    how = {"instances": str(predictor.instances), "precision": config.trainer.precision}
    return {"decoder": decoder} | options | tiles | how


def _made_by(job: Job, tissue: str) -> dict[str, Any]:
    """What a tissue's cells are made by: what was made by the same is not made again."""
    digests = job.store.attributes(tissue)["digests"]
    return job.settings | {"images": {kind: digests[kind] for kind in job.store.images}}


def _exports(config: DictConfig) -> list[str]:
    """What is written of every tissue, beside its label image."""
    return [*plain(config)["formats"], *(["preview"] if config.preview else [])]


def _announce(job: Job) -> None:
    known = set(job.checkpoint.split["train"].values())
    seen = [t for t in job.tissues if job.store.entry(t).digest in known]
    _say(job, f"{job.about['run']}: {len(job.tissues)} tissues of {job.store.address}")
    for line in job.predictor.describe():
        _say(job, line)
    for line in _about_images(job, *job.tissues):
        _say(job, f"notice: {line}")
    if seen:
        _say(job, f"notice: {len(seen)} of them trained the decoder, such as {seen[0]}")
    if job.predictor.encoder.spec.random_init:
        _say(job, "notice: the encoder has random weights: its cells test the machinery only")


def _about_images(job: Job, *tissues: str) -> list[str]:
    """What was assumed of image files and changed in them."""
    if job.store.path != job.out / "images.zarr":
        return []
    said = gather({tissue: job.store.attributes(tissue)["notices"] for tissue in tissues})
    if job.file_px != 1:
        said = [
            *said,
            f"resampled: a pixel is {job.file_px:.4g} of the file, on which GeoJSON lies",
        ]
    return list(said)


def _predict(job: Job, tissue: str, pool: Executor) -> None:
    """One tissue: found in a hidden folder, which takes its name when all is there."""
    from tissueseg.reporting.pixel_progress import PixelProgress
    from tissueseg.reporting.prediction_folder import is_complete, write_stamp
    from tissueseg.tables.cell_files import CellFiles
    from tissueseg.tables.targets import complete

    entry = job.store.entry(tissue)
    schema = job.predictor.schema(tissue, job.about | {"tissue": tissue}, job.file_px)
    formats = [name for name in plain(job.config)["formats"] if name != SPATIALDATA]
    with complete(job.out / tissue, job.config.overwrite, is_complete) as place:
        place.mkdir()
        pixels = entry.height * entry.width
        with (
            PixelProgress(job.console, tissue, pixels, job.store.mpp) as progress,
            CellFiles(place, schema, formats) as files,
        ):
            found = job.predictor.predict(schema, place, pool, files.add, progress.tell)
        summary = _finish(job, schema, place, found)
        write_stamp(place, _made_by(job, tissue), _exports(job.config), summary)
    progress.done(found.counts.cells, found.seconds, found.network_s)


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
        notices=(*_about_images(job, tissue), *found.notices),
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
    run_command("predict", predict)
