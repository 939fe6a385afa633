"""Published weights into our networks: layouts recognised, every parameter accounted for.

A checkpoint's keys tell its layout; each layout says which of its tensors an encoder has no use for,
and why. A parameter the checkpoint lacks, one of another shape, or one inside the encoder that nobody
expected stops the run: what loads in part computes something else than what was published.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tissueseg.contracts import Accounting, Normalisation
from tissueseg.errors import ConfigError, WeightsError
from tissueseg.tensorfile import TensorFile, check_local, read_tensors

_SHOWN = 4

Rules = Sequence[tuple[str, str]]
"""(pattern of tensor names, why an encoder has no use for them)."""

CELLVIT_IGNORED: Rules = (
    (r"(decoder\d|nuclei_\w+_decoder|hv_map_decoder)\.", "CellViT's decoder, see decoder.weights"),
    (r"(classifier_head|head)\.", "a classifier on top of the encoder"),
    (r"norm\.", "the last norm: features are taken before it"),
    (r"fc_norm\.", "the last norm: features are taken before it"),
    (r"neck\.", "SAM's neck: features are taken before it"),
    (r"mask_token$", "used in pre-training only"),
)


class Checkpoint(NamedTuple):
    """A checkpoint whose layout is known."""

    source: str
    layout: str  # one of LAYOUTS
    tensors: dict[str, Tensor]  # the encoder's, by the layout's names without prefix
    others: dict[str, Tensor]  # the rest
    about: dict[str, Any]


def open_checkpoint(source: str | None, encoder: str, wanted: Sequence[str]) -> Checkpoint:
    """Read a checkpoint and refuse one of another layout than an encoder takes.

    Args:
        source: path or hub address; None is refused.
        encoder: name, for messages.
        wanted: names among LAYOUTS.

    Raises:
        WeightsError: none given, damaged, or of an unknown or other layout.
    """
    check_source(source, f"encoder={encoder}", random_init=False)
    assert source is not None
    checkpoint = recognise(read_tensors(source), source)
    if checkpoint.layout not in wanted:
        raise WeightsError(
            f"{source} holds a network of layout {checkpoint.layout}, but encoder={encoder} wants "
            f"{' or '.join(wanted)}: choose the encoder that fits the file."
        )
    return checkpoint


def check_source(source: str | None, encoder: str, random_init: bool, key: str = "encoder") -> None:
    """Refuse an encoder without weights, or with two kinds of them, before anything is opened.

    Args:
        source: path or hub address.
        encoder: as named on the command line.
        random_init: whether random weights were asked for.
        key: where its options stand in the configuration.
    """
    if source is not None and random_init:
        raise ConfigError(
            f"{encoder} has {key}.weights and {key}.random_init=true: keep one of them."
        )
    if source is None and not random_init:
        raise WeightsError(
            f"{encoder} has no weights: give {key}.weights=<file or hf://owner/repository/file>, or "
            f"{key}.random_init=true for a network that has learnt nothing."
        )
    if source is not None:
        check_local(source)


def recognise(file: TensorFile, source: str) -> Checkpoint:
    """Tell a file's layout by its keys."""
    names = set(file.tensors)
    for layout, belongs, prefix in LAYOUTS:
        for lead in (prefix, ""):
            inner = {n.removeprefix(lead) for n in names if n.startswith(lead)}
            if belongs(inner):
                tensors = {
                    n.removeprefix(lead): t for n, t in file.tensors.items() if n.startswith(lead)
                }
                others = {n: t for n, t in file.tensors.items() if not n.startswith(lead)}
                return Checkpoint(source, layout, tensors, others, file.about)
    shown = ", ".join(sorted(names)[:_SHOWN])
    raise WeightsError(
        f"{source} has a layout this project does not know (keys such as {shown}): known are "
        f"{', '.join(layout for layout, _, _ in LAYOUTS)}."
    )


def load(
    module: nn.Module, checkpoint: Checkpoint, named: Mapping[str, str], ignored: Rules
) -> Accounting:
    """Copy a checkpoint's tensors into a module, as float32, and account for all of them.

    Args:
        module: every one of its parameters must be in the checkpoint.
        checkpoint: recognised.
        named: parameter of the module -> the checkpoint's name for it; others have the same name.
        ignored: which of the encoder's other tensors may stay behind, and why.

    Raises:
        WeightsError: parameters missing, of another shape, or unexpected.
    """
    ours = dict(module.named_parameters())
    theirs = {name: named.get(name, name) for name in ours}
    given = checkpoint.tensors
    if missing := sorted(t for t in theirs.values() if t not in given):
        raise WeightsError(
            f"{checkpoint.source} lacks {_listed(missing)} of the encoder: it is incomplete."
        )
    for name, parameter in ours.items():
        found = given[theirs[name]]
        if found.shape != parameter.shape:
            raise WeightsError(
                f"{checkpoint.source}: {theirs[name]} has shape {list(found.shape)}, wanted "
                f"{list(parameter.shape)}: these weights belong to another architecture."
            )
        if not found.is_floating_point():
            raise WeightsError(
                f"{checkpoint.source}: {theirs[name]} holds {found.dtype}, wanted floating point: give "
                "the weights before they were quantised."
            )
        if not found.isfinite().all():
            raise WeightsError(
                f"{checkpoint.source}: {theirs[name]} holds values that are not finite."
            )
    left = {n: t for n, t in given.items() if n not in set(theirs.values())}
    behind = [*left.items(), *checkpoint.others.items()]  # a name may stand with and without prefix
    if unexpected := sorted(n for n in left if not _reason(n, ignored)):
        raise WeightsError(
            f"{checkpoint.source} has {_listed(unexpected)} which this encoder knows nothing of: these "
            "weights belong to another architecture."
        )
    with torch.no_grad():
        for name, parameter in ours.items():
            parameter.copy_(given[theirs[name]])
    return Accounting(
        layout=checkpoint.layout,
        loaded=sum(p.numel() for p in ours.values()),
        missing=0,
        ignored=sum(tensor.numel() for _, tensor in behind),
        reasons=_ignored(behind, ignored),
    )


def random_weights(module: nn.Module) -> Accounting:
    """The accounting of a network whose parameters were asked to be random."""
    count = sum(p.numel() for p in module.parameters())
    return Accounting("random_init", loaded=0, missing=count, ignored=0)


def he_normalisation(checkpoint: Checkpoint, default: Normalisation) -> Normalisation:
    """The H&E mean and std that a CellViT checkpoint states, else the default's."""
    config, stated = _config(checkpoint), {}
    for key in ("mean", "std"):
        if (value := _entry(config, f"transformations.normalize.{key}")) is not None:
            numbers = _three_numbers(value)
            least = 0.0 if key == "mean" else 1e-6
            if numbers is None or min(numbers) < least or max(numbers) > 1:
                raise WeightsError(
                    f"{checkpoint.source}: its config states {key}={value!r}, wanted 3 numbers for RGB "
                    "scaled to 0 … 1: fetch the checkpoint anew."
                )
            stated[f"he_{key}"] = numbers
    return Normalisation(**(vars(default) | stated))


def _config(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The configuration beside the tensors; a file that was converted holds it as JSON."""
    config = checkpoint.about.get("config")
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except json.JSONDecodeError:
            config = None
    return config if isinstance(config, Mapping) else {}


def _entry(config: Mapping[str, Any], key: str) -> Any:
    """A value by its dotted key, in a config that is flat (as published) or nested."""
    if key in config:
        return config[key]
    first, _, rest = key.partition(".")
    inner = config.get(first)
    return _entry(inner, rest) if rest and isinstance(inner, Mapping) else None


def _three_numbers(value: Any) -> tuple[float, ...] | None:
    """What a config states for R, G and B; None where it is something else."""
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == 3 and all(map(math.isfinite, numbers)) else None


def _ignored(behind: Sequence[tuple[str, Tensor]], rules: Rules) -> tuple[str, ...]:
    """Tensors that stay behind, grouped by reason: "decoder.* (1,234): why"."""
    groups: dict[str, list[tuple[str, Tensor]]] = {}
    for name, tensor in behind:
        reason = _reason(name, rules) or "not part of the encoder"
        groups.setdefault(reason, []).append((name, tensor))
    return tuple(
        f"{_listed(sorted({n.split('.')[0] + ('.*' if '.' in n else '') for n, _ in group}))} "
        f"({sum(tensor.numel() for _, tensor in group):,}): {reason}"
        for reason, group in sorted(groups.items())
    )


def _reason(name: str, rules: Rules) -> str | None:
    return next((reason for pattern, reason in rules if re.match(pattern, name)), None)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _is_released_virtues(names: set[str]) -> bool:
    return {
        "patch_summary_token",
        "patch_encoder.weight",
        "prior_embedding_encoder.weight",
    } <= names


def _is_dual_virtues(names: set[str]) -> bool:
    return {
        "patch_summary_token",
        "multiplex_patch_encoder.weight",
        "protein_encoder.weight",
    } <= names


def _is_vit(names: set[str]) -> bool:
    return {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight"} <= names


def _is_sam(names: set[str]) -> bool:
    return {"pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.lin1.weight"} <= names


LAYOUTS: tuple[tuple[str, Callable[[set[str]], bool], str], ...] = (
    ("virtues", _is_released_virtues, "encoder."),
    ("virtues_dual", _is_dual_virtues, "encoder."),
    ("vit", _is_vit, "encoder."),
    ("sam", _is_sam, "encoder."),
)
"""(layout, whether names belong to it, prefix its keys may carry)."""
