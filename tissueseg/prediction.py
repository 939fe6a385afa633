"""A trained run applied to whole tissues: from the command's options to cells, tissue by tissue.

`predict` exports what comes of it, `evaluate` holds it against the truth; both see the same cells.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from tissueseg.agreement import check_tiles
from tissueseg.building import build, finish
from tissueseg.cells.block_work import TYPINGS, BlockWork
from tissueseg.cells.map_files import MapFiles
from tissueseg.cells.map_layout import MapLayout
from tissueseg.cells.pipeline import CellPipeline
from tissueseg.cells.workers import default_count
from tissueseg.config import CONFIG_DIR
from tissueseg.contracts import DataSpec, TissueClass
from tissueseg.data.datamodule import data_spec
from tissueseg.data.images import TileImages
from tissueseg.data.views import DIHEDRAL
from tissueseg.devices import processes_here
from tissueseg.encoders.base import Encoder
from tissueseg.encoders.finetune import tune
from tissueseg.errors import ConfigError, SpecMismatchError
from tissueseg.features import build_encoder
from tissueseg.instances.boxes import Box
from tissueseg.instances.cell_table import CellSchema, CellTable
from tissueseg.instances.maps import InstanceDecoder, Maps
from tissueseg.instances.stitch import Stitched
from tissueseg.instances.tiling import BLENDS
from tissueseg.modules.checkpoint import DecoderCheckpoint
from tissueseg.modules.inference import TileNetwork
from tissueseg.modules.tissue_maps import TissueMaps
from tissueseg.numbers import check_number, check_whole
from tissueseg.optimisation import finetune_of
from tissueseg.preflight import modality_of
from tissueseg.reporting.cell_tally import CellTally
from tissueseg.store.tissues import TissueStore
from tissueseg.tables.label_image import LabelImage

ASSUMED_MPP = 0.5
"""µm/px where a store knows none: sizes of nuclei must be sought at some scale."""

CHOSEN_BY_HEADS = {"hv": "hv", "boundary": "boundary"}
"""Head -> file of `configs/instances`, the first that a decoder has; without them `components`."""


@dataclass
class PredictedTissue:
    """What was found in a tissue, beside the files that were written."""

    counts: Stitched
    tally: CellTally
    labels: LabelImage
    seconds: float
    network_s: float  # of these, spent on waiting for maps
    notices: list[str] = field(default_factory=list)


class Predictor:
    """Everything a trained run needs to find the cells of a store's tissues.

    Args:
        config: of the command: see `configs/predict.yaml`.
        trained: of the run, with what the command says on top.
        checkpoint: of the run.
        store: whose tissues are predicted.
        device: that computes.
        autocast: number type of matrix products; None: float32.
        measures: whether intensities and features of cells are wanted.

    Raises:
        ConfigError: an option that cannot be used.
        SpecMismatchError: run, store, encoder and instance decoder do not fit.
    """

    def __init__(
        self,
        config: DictConfig,
        trained: DictConfig,
        checkpoint: DecoderCheckpoint,
        store: TissueStore,
        device: torch.device,
        autocast: torch.dtype | None,
        measures: bool = True,
    ) -> None:
        check_options(config)
        self._config, self.store, self._checkpoint = config, store, checkpoint
        self._images = tuple(store.images) if measures else ()
        self._embedding = measures and config.embedding
        self._ring_um = float(config.ring_um) if measures else 0.0
        modality, tile_px = modality_of(trained), trained.data.tile_px
        store.require(modality)
        known = replace(DataSpec(**checkpoint.data), tile_px=tile_px)
        found = replace(data_spec(store, modality, tile_px), classes=known.classes)
        checkpoint.check_data(found)  # a store without labels need not know the classes
        self.heads = list(trained.decoder.heads)
        self.instances = open_instances(config, self.heads)
        self.mpp = store.mpp or ASSUMED_MPP
        encoder, decoder = _networks(trained, known, checkpoint)
        self.encoder = encoder
        layout = MapLayout.of(self.heads, len(known.classes))
        self.network = TileNetwork(
            encoder,
            decoder,
            layout,
            device=device,
            autocast=autocast,
            views=config.views,
            features=self._embedding,
        )
        self.tile_px = tile_px
        self.overlap_px = _overlap(config, tile_px, encoder.stride_px)
        reach_px = self.instances.reach_px(self.mpp)
        self.region_px = _region(config.region_px, tile_px - self.overlap_px, reach_px)
        self._normaliser = checkpoint.read_normaliser()
        share = max(default_count() // processes_here(), 1)
        self.workers = share if config.workers is None else config.workers

    @property
    def classes(self) -> tuple[TissueClass, ...]:
        """Between what pixels are told, background first."""
        return self._checkpoint.scored_classes

    @property
    def types(self) -> tuple[TissueClass, ...]:
        """Of cells; empty where the decoder has no class head."""
        return self.classes[1:] if "classes" in self.heads else ()

    def describe(self) -> list[str]:
        """What is assumed and how tiles are put together, a line each."""
        stride = self.tile_px - self.overlap_px
        views = f", {self._config.views} views averaged" if self._config.views > 1 else ""
        lines = [
            f"tiles of {self.tile_px} px every {stride} px ({self._config.blend}){views}",
            f"instances: {self.instances}",
        ]
        if self.store.mpp is None:
            lines.append(
                f"notice: the store does not know its µm/px; nuclei are sought as at {ASSUMED_MPP:g}, "
                "and nothing is measured in µm"
            )
        return lines

    def schema(self, tissue: str, about: dict[str, str], file_px: float = 1.0) -> CellSchema:
        """What the table of a tissue's cells will hold; `file_px` as there."""
        types = self.classes[1:]
        shown = "sp" in self._images
        return CellSchema(
            tissue=tissue,
            mpp=self.store.mpp,
            types=tuple((c.id, c.name, c.color) for c in types),
            channels=tuple(c.name for c in self.store.panel) if shown else (),
            embedding_width=self.encoder.spec.channels[-1] if self._embedding else 0,
            about=about,
            file_px=file_px,
        )

    def predict(
        self,
        schema: CellSchema,
        folder: Path,
        pool: Executor,
        take: Callable[[CellTable], None],
        tell: Callable[[int], None] = lambda pixels: None,
        see: Callable[[Box, Maps], None] = lambda box, maps: None,
    ) -> PredictedTissue:
        """Find the cells of one tissue; their label image is written to `folder`.

        Args:
            schema: of its cells.
            folder: that is being made for it.
            pool: of `self.workers` workers.
            take: called with every part of the table of cells, in order of ids.
            tell: called with the number of pixels whose maps are there.
            see: called with every region and its maps.
        """
        entry = self.store.entry(schema.tissue)
        shape = (entry.height, entry.width)
        labels = LabelImage.create(folder, shape, self.store.mpp, self.classes)
        tally = CellTally(schema, shape)

        def taken(part: CellTable) -> None:
            tally.add(part)
            take(part)

        began, waited = time.monotonic(), 0.0
        with tempfile.TemporaryDirectory(prefix=".maps-", dir=folder) as place:
            work = self._work(schema, shape, Path(place))
            pipeline = CellPipeline(work, pool, self.workers, labels.canvas, taken)
            maps = self._maps(schema.tissue).regions(schema.tissue, shape)
            while True:
                before = time.monotonic()
                region = next(maps, None)
                waited += time.monotonic() - before
                if region is None:
                    break
                see(region.box, self.network.layout.maps(region.planes))
                work.maps.put(region.box, region.planes)
                if work.features is not None and region.features is not None:
                    work.features.put(region.grid, region.features)
                pipeline.region_put()
                tell(region.box.height * region.box.width)
            counts = pipeline.finish()
        labels.finish(tally.types_of_ids)
        seconds = time.monotonic() - began
        return PredictedTissue(counts, tally, labels, seconds, waited, _notices(counts))

    def _maps(self, tissue: str) -> TissueMaps:
        config, halo_px = self._config, self.encoder.spec.halo_px
        images = TileImages(self.store, [tissue], self._normaliser, self.tile_px, halo_px)
        return TissueMaps(
            self.network,
            images,
            tile_px=self.tile_px,
            overlap_px=self.overlap_px,
            blend=config.blend,
            region_px=self.region_px,
            batch_size=config.data.batch_size,
            features_width=self.encoder.spec.channels[-1] if self._embedding else 0,
        )

    def _work(self, schema: CellSchema, shape: tuple[int, int], place: Path) -> BlockWork:
        config, stride = self._config, self.encoder.stride_px
        folders = {name: place / name for name in ("maps", "features")}
        for folder in folders.values():
            folder.mkdir()
        features = MapFiles(folders["features"], self.region_px // stride)
        return BlockWork(
            schema=schema,
            shape=shape,
            maps=MapFiles(folders["maps"], self.region_px),
            layout=self.network.layout,
            decoder=self.instances,
            mpp=self.mpp,
            store=self.store.location,
            images=self._images,
            features=features if self._embedding else None,
            stride_px=stride,
            typing=config.types,
            ring_um=self._ring_um,
        )


def open_instances(config: DictConfig, heads: list[str]) -> InstanceDecoder:
    """Build the instance decoder that was chosen, or that the heads call for.

    Raises:
        SpecMismatchError: it wants a head that the decoder has not.
    """
    node = config.instances
    if not OmegaConf.is_dict(node) or "_target_" not in node:
        raise ConfigError(
            f"instances={node} names no way of decoding: choose instances=auto, hv, boundary or "
            "components."
        )
    if node._target_ is None:
        chosen = next((name for head, name in CHOSEN_BY_HEADS.items() if head in heads), None)
        loaded = OmegaConf.load(CONFIG_DIR / "instances" / f"{chosen or 'components'}.yaml")
        assert isinstance(loaded, DictConfig)
        node = loaded
    decoder: InstanceDecoder = finish("instances", build, config=node)
    if missing := [head for head in decoder.needs if head not in heads]:
        fitting = [name for head, name in CHOSEN_BY_HEADS.items() if head in heads]
        raise SpecMismatchError(
            f"instances={type(decoder).__name__} wants the head {missing[0]}, but this run's decoder has "
            f"{', '.join(heads)}: choose instances={' or '.join([*fitting, 'components'])}."
        )
    return decoder


def check_options(config: DictConfig) -> None:
    """Refuse numbers and names that mean nothing, before anything is opened."""
    for key, known in (("blend", BLENDS), ("types", TYPINGS), ("views", DIHEDRAL)):
        if config[key] not in known or isinstance(config[key], bool | float):
            options = ", ".join(map(str, known))
            raise ConfigError(f"{key}={config[key]} is unknown: choose from {options}.")
    for key in ("embedding", "preview", "overwrite"):
        if key in config and not isinstance(config[key], bool):
            raise ConfigError(f"{key}={config[key]}: wanted true or false.")
    check_whole("region_px", config.region_px, 64)
    if "ring_um" in config:
        check_number("ring_um", config.ring_um, lowest=0, note="µm")
    for key, lowest in (("overlap_px", 0), ("workers", 0), ("data.tile_px", 1)):
        if (value := OmegaConf.select(config, key)) is not None:
            check_whole(key, value, lowest)


def _networks(
    trained: DictConfig, data: DataSpec, checkpoint: DecoderCheckpoint
) -> tuple[Encoder, Any]:
    """Encoder and decoder of a run, with all that was learnt."""
    encoder = build_encoder(trained, data)
    checkpoint.check_encoder(encoder.spec)
    check_tiles(encoder.spec, data.tile_px, data.mpp)
    tune(encoder, finetune_of(trained), trained.seed)
    given = {"image_channels": data.image_channels, "n_classes": len(data.classes)}
    decoder = finish("decoder", build(trained.decoder), spec=encoder.spec, **given)
    checkpoint.restore(decoder, encoder)
    return encoder.requires_grad_(False), decoder


def _overlap(config: DictConfig, tile_px: int, stride: int) -> int:
    """Of neighbouring tiles, so that all of them begin at a token."""
    unit = 2 * stride
    overlap = tile_px // 4 // unit * unit if config.overlap_px is None else config.overlap_px
    if overlap % unit or 2 * overlap > tile_px:
        most = tile_px // 2 // unit * unit
        raise ConfigError(
            f"overlap_px={overlap} cannot be used with tiles of {tile_px} px and tokens of {stride} px: "
            f"choose a multiple of {unit} up to {most}."
        )
    return overlap


def _region(region_px: int, stride_px: int, reach_px: int) -> int:
    """Side of a region: whole strides of tiles, so that little reaches over into the next.

    At least what the instance decoder reaches, since blocks look no further than their neighbours.
    """
    strides = max(region_px // stride_px, -(-reach_px // stride_px), 1)
    return strides * stride_px


def _notices(counts: Stitched) -> list[str]:
    said = {
        "cells are larger than the widest window and were cut": counts.cut,
        "cells gave pixels to one that another block had found": counts.trimmed,
    }
    return [f"{n} {what}" for what, n in said.items() if n]
