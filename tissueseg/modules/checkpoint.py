"""`decoder.ckpt`: a decoder, what it was trained on and with; of its encoder only what learnt too.

It loads with `weights_only=True`. What it says of encoder and data is compared with what it meets.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tissueseg.contracts import DataSpec, EncoderSpec, TissueClass
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.encoders.base import Encoder
from tissueseg.encoders.finetune import Finetune, restore
from tissueseg.errors import RunFolderError, SpecMismatchError, in_one_line
from tissueseg.forms import Each, Form, Listed, require
from tissueseg.heads import scored_classes

FORMAT = 3
_READ = (2, FORMAT)  # files of format 2 say nothing of fine-tuning: there was none
AS_LOADED = -1  # epoch of a decoder that was not trained here
_FORM: Form = {
    "encoder": Each(object),
    "data": {"classes": Listed({"id": int, "name": str, "color": str})},
    "normaliser": {"sp_mean": Listed(float), "sp_std": Listed(float)},
    "decoder": {"heads": Each(object)},
    "split": Each(Each(str)),
    "train_pixels": Listed(int),
    "state": Each(Tensor),
    "epoch": int,
    "monitor": str,
    "finetune": Each(object),
    "encoder_state": Each(Tensor),
}


@dataclass(frozen=True)
class DecoderCheckpoint:
    """Everything a trained decoder needs to be used again."""

    encoder: dict[str, Any]  # EncoderSpec.as_dict
    data: dict[str, Any]  # DataSpec.as_dict
    normaliser: dict[str, Any]  # Normaliser.as_dict
    decoder: dict[str, Any]  # its configuration
    split: dict[str, dict[str, str]]  # side -> tissue -> digest of its pixels
    train_pixels: list[int]  # of each scored class: the prior that scores are held against
    state: dict[str, Tensor]
    epoch: int
    monitor: str  # metric it was chosen by
    score: float
    finetune: dict[str, Any] = field(default_factory=dict)  # Finetune.as_dict
    encoder_state: dict[str, Tensor] = field(default_factory=dict)  # parameters that learnt

    def about(self, name: str) -> dict[str, Any]:
        """What stands above every table of this decoder's scores; `name` is the run's, as configured."""
        encoder = Finetune(**self.finetune).label(EncoderSpec(**self.encoder).label)
        return {
            "run": run_name(name, self.data["modality"], encoder),
            "encoder": encoder,
            "modality": self.data["modality"],
            "epoch": self.epoch,
            "monitor": self.monitor,
            "classes": [c.name for c in self.scored_classes],
        }

    @property
    def scored_classes(self) -> tuple[TissueClass, ...]:
        """Between what its pixels are scored."""
        return scored_classes(self.decoder["heads"], DataSpec(**self.data).classes)

    def read_normaliser(self) -> Normaliser:
        """The normaliser, with the training tissues' statistics."""
        return Normaliser.from_dict(self.normaliser)

    def split_of(self, digests: Mapping[str, str]) -> Split:
        """The split of training, if a store still holds those very tissues.

        Args:
            digests: tissue -> digest, as in the store now.
        """
        for side, tissues in self.split.items():
            changed = [t for t, digest in tissues.items() if digests.get(t) != digest]
            if changed:
                raise SpecMismatchError(
                    f"tissue {changed[0]} of side {side!r} is not in the store as it was in training: "
                    "the split no longer holds. Give store.path=… to score another store."
                )
        return Split(**{side: tuple(tissues) for side, tissues in self.split.items()})

    def check_unseen(self, digests: Mapping[str, str]) -> None:
        """Refuse tissues that the decoder was trained on, under whatever name."""
        known = set(self.split["train"].values())
        if seen := [tissue for tissue, digest in digests.items() if digest in known]:
            raise SpecMismatchError(
                f"{len(seen)} tissues of this store, such as {seen[0]}, trained the decoder: their "
                "scores would be leaked. Score a store without them, or side=train of the run's own."
            )

    def restore(self, decoder: nn.Module, encoder: Encoder | None) -> None:
        """Put back what was learnt, into a decoder and an encoder made from the run's configuration.

        Raises:
            SpecMismatchError: they are not those that learnt it.
        """
        try:
            decoder.load_state_dict(self.state)
        except RuntimeError as error:
            raise SpecMismatchError(
                "the decoder that the run's configuration makes is not the one of its checkpoint: "
                f"{in_one_line(error)}. Copy the run's folder again."
            ) from error
        if encoder is not None and self.finetune:
            restore(encoder, self.encoder_state)

    def check_encoder(self, spec: EncoderSpec) -> None:
        """Refuse an encoder other than the one the decoder was trained on."""
        _refuse_differences("encoder", self.encoder, spec.as_dict())

    def check_data(self, spec: DataSpec) -> None:
        """Refuse data with other classes, channels or scale."""
        _refuse_differences("data", self.data, spec.as_dict(), but=("tile_px",))


def run_name(name: str, modality: str, encoder: str) -> str:
    """What a run is called everywhere: its choices, and whether its encoder is random."""
    return f"{name}-{modality}-{encoder}"


def save_decoder(path: Path, checkpoint: DecoderCheckpoint) -> None:
    """Write atomically: an interrupted writer leaves the file before.

    Raises:
        RunFolderError: the disk does not take it.
    """
    partial = path.with_suffix(".partial")
    content = {f.name: getattr(checkpoint, f.name) for f in fields(checkpoint)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content | {"format": FORMAT}, partial)
        partial.replace(path)
    # Torch's own writer raises RuntimeError for a full disk.
    except (OSError, RuntimeError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise RunFolderError(
            f"{path} cannot be written ({in_one_line(error)}): make room there. The decoder before is "
            "kept."
        ) from error


def load_decoder(path: Path) -> DecoderCheckpoint:
    """Read a decoder checkpoint onto the CPU.

    Raises:
        RunFolderError: missing, damaged or of another format.
    """
    if not path.is_file():
        raise RunFolderError(f"no decoder checkpoint at {path}: has the run finished an epoch?")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content.pop("format") not in _READ:
            raise KeyError("format")
        require(content, _FORM)
        checkpoint = DecoderCheckpoint(**content)
        checkpoint.about("")
        checkpoint.read_normaliser()
        Split(**{side: tuple(tissues) for side, tissues in checkpoint.split.items()})
        return checkpoint
    except Exception as error:  # there is no end to the ways a damaged pickle fails
        raise RunFolderError(
            f"{path} is damaged or no decoder checkpoint of this version."
        ) from error


def _refuse_differences(
    what: str, wanted: dict[str, Any], given: dict[str, Any], but: tuple[str, ...] = ()
) -> None:
    differ = [k for k in wanted if k not in but and wanted[k] != given.get(k)]
    if differ:
        said = "; ".join(f"{k}: {_short(wanted[k])} ≠ {_short(given.get(k))}" for k in differ)
        raise SpecMismatchError(
            f"the decoder was trained on other {what} (trained ≠ given): {said}. "
            f"Give it the {what} it knows."
        )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
