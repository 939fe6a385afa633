"""Pictures of what a masked autoencoder filled in: the image, what of it was seen, what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import WandbLogger

from tissueseg.contracts import Normalisation
from tissueseg.data.image_tiles import ImageBatch, ImageTiles, collate_images
from tissueseg.drawing import save_sheet, sheet
from tissueseg.modules.pretraining import PretrainingModule

_LEAST_PX = 160  # of a picture's side, so that its title has room
_UNSEEN = 0.5  # grey of what is hidden
_SHOWN = (1.0, 99.0)  # percentiles of a channel that are black and white


class Reconstructions(pl.Callback):
    """Draws some held-out tiles, always the same, with the same tokens hidden.

    Args:
        tiles: held out.
        count: of tiles, spread over all.
        folder: where `<tissue>_<row>_<column>.png` goes.
        every_n_epochs: how often.
        channels: names, by row of the table of marker vectors; None: the image is H&E.
        normalisation: how H&E was scaled.
    """

    def __init__(
        self,
        tiles: ImageTiles,
        count: int,
        folder: Path,
        every_n_epochs: int,
        channels: Sequence[str] | None,
        normalisation: Normalisation,
    ) -> None:
        self._tiles, self._folder, self._every = tiles, folder, every_n_epochs
        self._items = np.unique(np.linspace(0, len(tiles) - 1, count).astype(int)).tolist()
        self._channels, self._normalisation = channels, normalisation

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw, save and hand to W&B."""
        epoch = trainer.current_epoch + 1
        due = epoch % self._every == 0 or epoch == trainer.max_epochs
        if not (due and trainer.is_global_zero and self._items):
            return
        assert isinstance(pl_module, PretrainingModule)
        paths = self.draw(pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_image("reconstructions", [str(path) for path in paths])

    def draw(self, module: PretrainingModule) -> list[Path]:
        """Draw them; the paths of the pictures."""
        self._folder.mkdir(parents=True, exist_ok=True)
        was_training, paths = module.training, list[Path]()
        module.eval()
        for item in self._items:
            batch = collate_images([self._tiles[item]])
            batch = ImageBatch(*(part.to(module.device) for part in batch))
            with torch.no_grad():
                found = module.autoencoder(batch)
                planes = module.autoencoder.planes(batch, found)
            parts = [part[0].float().cpu().numpy() for part in planes]
            paths.append(self._folder / self._name(batch))
            pictures = self._pictures(batch, *parts)
            save_sheet(sheet({k: _large(v) for k, v in pictures.items()}, legend=()), paths[-1])
        module.train(was_training)
        return paths

    def _name(self, batch: ImageBatch) -> str:
        """Of a tile's picture; tissues of several stores that share a name are numbered."""
        names, tissue = self._tiles.tissues, int(batch.tissue[0])
        row, column = batch.origin[0].tolist()
        lead = f"{tissue}_" if names.count(names[tissue]) > 1 else ""
        return f"{lead}{names[tissue]}_{row}_{column}.png"

    def _pictures(
        self, batch: ImageBatch, image: np.ndarray, seen: np.ndarray, filled: np.ndarray
    ) -> dict[str, np.ndarray]:
        if self._channels is None:
            parts = (self._colours(image), self._colours(filled))
            hidden = np.where(
                seen.astype(bool).transpose(1, 2, 0), parts[0], np.uint8(255 * _UNSEEN)
            )
            return {"H&E": parts[0], "seen": hidden, "filled in": parts[1]}
        pictures = {}
        for place, channel in enumerate(batch.decoded[0].tolist()):
            name = self._channels[int(batch.markers[0, channel])]
            low, high = np.percentile(image[place], _SHOWN)
            black_to_white = (low, max(high, low + 1e-6))
            pictures |= {
                f"{name}": _grey(image[place], *black_to_white),
                f"{name}, seen": _grey(
                    np.where(seen[place] > 0, image[place], np.nan), *black_to_white
                ),
                f"{name}, filled in": _grey(filled[place], *black_to_white),
            }
        return pictures

    def _colours(self, planes: np.ndarray) -> np.ndarray:
        mean, std = (
            np.array(n, np.float32)[:, None, None]
            for n in (self._normalisation.he_mean, self._normalisation.he_std)
        )
        return ((planes * std + mean).clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)


def _grey(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    scaled = ((plane - low) / (high - low)).clip(0, 1)
    scaled = np.where(np.isnan(scaled), _UNSEEN, scaled)
    return (scaled * 255).astype(np.uint8)[..., None].repeat(3, -1)


def _large(picture: np.ndarray) -> np.ndarray:
    """With every pixel drawn several times, where it is small."""
    times = -(-_LEAST_PX // picture.shape[0])
    return picture.repeat(times, 0).repeat(times, 1)
