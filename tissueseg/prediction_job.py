"""What `predict` is asked for, opened and checked: a run, its images, and where cells go."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from tissueseg.composition import plain, tissue_names
from tissueseg.errors import ConfigError
from tissueseg.store.notices import gather
from tissueseg.trained import check_command, check_path, run_folder, trained_config
from tissueseg.workers import SharedFolder, job_name

if TYPE_CHECKING:
    import torch

    from tissueseg.modules.checkpoint import DecoderCheckpoint
    from tissueseg.prediction import Predictor
    from tissueseg.store.tissues import TissueStore

SPATIALDATA = "spatialdata"
_IMAGES = "images.zarr"  # made of image files, in the folder of the cells
_IMAGE = ("file", "he", "sp", "mpp", "channels")
_DECIDING = ("types", "embedding", "ring_um", "views", "blend")


class Request(NamedTuple):
    """One call of the command, checked as far as its files are not opened."""

    config: DictConfig
    run: Path
    out: Path
    trained: DictConfig  # configuration of the run
    checkpoint: DecoderCheckpoint
    store: TissueStore | None  # None: it is made of image files
    tissues: list[str] | None  # None: all


class Job(NamedTuple):
    """One call of the command, opened and checked."""

    config: DictConfig
    out: Path
    store: TissueStore
    file_px: float  # pixels of an image file per pixel of the store that was made of it
    tissues: tuple[str, ...]
    checkpoint: DecoderCheckpoint
    predictor: Predictor
    settings: dict[str, Any]  # that decide on the cells, beside the pixels
    about: dict[str, str]  # for people
    name: str  # that all its processes share
    console: Console

    def made_by(self, tissue: str) -> dict[str, Any]:
        """What a tissue's cells are made by: what was made by the same is not made again."""
        digests = self.store.attributes(tissue)["digests"]
        return self.settings | {"images": {kind: digests[kind] for kind in self.store.images}}

    def exports(self) -> list[str]:
        """What is written of every tissue, beside its label image."""
        return [*plain(self.config)["formats"], *(["preview"] if self.config.preview else [])]

    def about_images(self, *tissues: str) -> list[str]:
        """What was assumed of image files and changed in them."""
        if self.store.path != self.out / _IMAGES:
            return []
        said = gather({tissue: self.store.attributes(tissue)["notices"] for tissue in tissues})
        if self.file_px == 1:
            return list(said)
        return [
            *said,
            f"resampled: a pixel is {self.file_px:.4g} of the file, on which GeoJSON lies",
        ]


def read_request(config: DictConfig, console: Console) -> Request:
    """Check everything that can be checked before anything is written."""
    from tissueseg import assembly, preflight
    from tissueseg.modules.checkpoint import load_decoder
    from tissueseg.prediction import check_options
    from tissueseg.reporting import runs

    folder = run_folder(config)
    check_command(config)
    check_options(config)
    if not isinstance(config.wait, bool):
        raise ConfigError(f"wait={config.wait}: wanted true or false.")
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
    store = None
    if not (config.image.he or config.image.sp):
        store = assembly.open_store(trained, console)
        _refuse_inside(out, store)
    return Request(config, folder, out, trained, checkpoint, store, names)


def open_job(request: Request, shared: SharedFolder, device: torch.device, console: Console) -> Job:
    """Check what is left before the first tile is read.

    Args:
        request: of the user.
        shared: its `out`, in which one process makes the images for all.
        device: that computes.
        console: for the user.
    """
    from tissueseg.devices import autocast_of
    from tissueseg.prediction import Predictor
    from tissueseg.reporting import runs
    from tissueseg.tables.targets import chosen

    config, trained, checkpoint = request.config, request.trained, request.checkpoint
    store, file_px = request.store, 1.0
    if store is None:
        store, file_px = _image_store(request, shared, console)
    tissues = chosen(store, request.tissues)
    autocast = autocast_of(config.trainer.precision)
    predictor = Predictor(config, trained, checkpoint, store, device, autocast)
    about = {key: str(value) for key, value in checkpoint.about(trained.name).items()}
    shown = {"run": about["run"], "run folder": str(request.run), "epoch": about["epoch"]}
    shown |= {"encoder": about["encoder"], "decoder": str(trained.name)}
    shown |= {"instances": str(predictor.instances), "date": time.strftime("%Y-%m-%d")}
    shown["commit"] = str(runs.environment()["commit"])
    settings = _settings(config, request.run, predictor)
    parts = (checkpoint, predictor, settings, shown, job_name())
    return Job(config, request.out, store, file_px, tissues, *parts, console)


def _image_store(
    request: Request, shared: SharedFolder, console: Console
) -> tuple[TissueStore, float]:
    """The store that is made of image files, or was by another process; see `Job.file_px`."""
    from tissueseg.contracts import DataSpec
    from tissueseg.store.image_store import file_mpp, image_store

    image: Any = request.config.image
    he, sp = (Path(path) if path else None for path in (image.he, image.sp))
    channels = None if image.channels is None else plain(image)["channels"]
    given = (he, sp, DataSpec(**request.checkpoint.data), image.mpp, channels)
    found, path = file_mpp(*given), request.out / _IMAGES

    def waiting() -> None:
        console.print(f"another process makes {path}: waiting", highlight=False, soft_wrap=True)

    with shared.alone_at(_IMAGES, waiting):
        store = image_store(*given, path, request.config.overwrite)
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
