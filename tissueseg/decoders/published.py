"""Published CellViT decoder weights into a SkipDecoder: names translated, all of it or nothing.

CellViT (Hörst et al. 2024) keeps the skip paths once and everything else per output; so do we, under
other names. A decoder filled in part would compute something that nobody published, so whatever is
missing or has another shape stops the run.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from tissueseg.contracts import Accounting, EncoderSpec
from tissueseg.errors import WeightsError
from tissueseg.tensorfile import read_tensors

LAYOUT = "cellvit_decoder"
SKIP_PATHS: tuple[str, ...] = ("decoder0", "decoder1", "decoder2", "decoder3")
BRANCHES = {
    "nuclei_type_maps_decoder": "classes",
    "nuclei_type_map_decoder": "classes",
    "hv_map_decoder": "hv",
    "nuclei_binary_map_decoder": "foreground",
}
"""Published branch -> our head."""

STRIDE_PX = 16
SETTINGS = {"share": "branches", "skips": "all", "project": None}
"""What a decoder must be built with to have the published layers."""

_HEADER = "decoder0_header"
_FOLDED = f"nuclei_binary_map_decoder.{_HEADER}.2."
_COUNTER = "num_batches_tracked"  # of batch norm; neither learnt nor used here, some files drop it
_READS = tuple(f"{path}.0.block.0.weight" for path in SKIP_PATHS[1:])  # levels 1 to 3
_DEEPEST = "bottleneck_upsampler.weight"  # level 4
_SHOWN = 4


def load(
    decoder: nn.Module, source: str, spec: EncoderSpec, settings: Mapping[str, object]
) -> Accounting:
    """Fill every parameter and statistic of a decoder from a CellViT checkpoint.

    Args:
        decoder: a SkipDecoder.
        source: path or `hf://owner/repository/file[@revision]`.
        spec: of the encoder it was built for.
        settings: what it was built with, by the keys of `SETTINGS`.

    Returns:
        What became of the file's numbers: `loaded + ignored` is all of them, but for batch counters.

    Raises:
        WeightsNotFoundError: no such file.
        WeightsError: a decoder built otherwise, or a file without all it needs in its shapes.
    """
    _check_settings(source, spec, settings)
    tensors, state = read_tensors(source).tensors, decoder.state_dict()
    heads = sorted({name.split(".")[1] for name in state if name.startswith(_HEADER)})
    named = _sources(source, tensors, heads)
    _check_names(source, state, named)
    found = {name: _ours(source, theirs, tensors) for name, theirs in named.items()}
    for name in (n for n in state if n in named):
        _check_shape(source, spec, (name, named[name]), found[name], state[name])
    with torch.no_grad():
        for name, value in state.items():
            value.copy_(found.get(name, torch.zeros_like(value)))  # only counters may be absent
    return _account(tensors, set(named.values()), _count(found))


def our_name(theirs: str) -> str | None:
    """Our name for a tensor of a published decoder; None when it belongs to none."""
    first, _, rest = theirs.partition(".")
    if first in SKIP_PATHS:
        return theirs
    if first not in BRANCHES:
        return None
    part, _, inner = rest.partition(".")
    head = BRANCHES[first]
    return f"{_HEADER}.{head}.{inner}" if part == _HEADER else f"branches.{head}.{rest}"


def _ours(source: str, theirs: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """A tensor of the file as our decoder holds it.

    The published foreground is a softmax over two logits, ours the sigmoid of one, and
    softmax(a, b)₁ = sigmoid(b − a): one linear map less the other is the same output.
    """
    tensor = tensors[theirs]
    if not tensor.isfinite().all():
        raise WeightsError(
            f"{source}: {theirs} holds values that are not finite: fetch the file again."
        )
    if not tensor.is_floating_point() and not theirs.endswith(_COUNTER):
        raise WeightsError(
            f"{source}: {theirs} holds {tensor.dtype}, wanted floating point: give the weights before "
            "they were quantised."
        )
    if not theirs.startswith(_FOLDED):
        return tensor
    if tensor.shape[:1] != (2,):
        raise WeightsError(
            f"{source}: {theirs} has shape {list(tensor.shape)}, wanted 2 outputs (background, "
            "nucleus): drop decoder.heads.foreground, or set decoder.weights=null."
        )
    return tensor[1:].float() - tensor[:1].float()


def _sources(source: str, tensors: Mapping[str, Tensor], heads: list[str]) -> dict[str, str]:
    """Our name -> the file's, for the skip paths and the heads this decoder has."""
    groups = sorted({name.split(".")[0] for name in tensors})
    if not any(our_name(name) for name in tensors):
        raise WeightsError(
            f"{source} holds no CellViT decoder, only {_listed(groups)}: give a whole CellViT "
            "checkpoint, or set decoder.weights=null."
        )
    chosen = [*SKIP_PATHS]
    for head in heads:
        names = [branch for branch, ours in BRANCHES.items() if ours == head]
        if not names:
            raise WeightsError(
                f"decoder.heads.{head} has no published weights, CellViT has "
                f"{', '.join(sorted(set(BRANCHES.values())))}: drop the head or set "
                "decoder.weights=null."
            )
        present = [name for name in names if name in groups]
        if not present:
            raise WeightsError(
                f"{source} lacks {names[0]}, which decoder.heads.{head} needs (it has "
                f"{_listed(groups)}): drop the head or set decoder.weights=null."
            )
        chosen.append(present[0])
    pairs = ((our_name(n), n) for n in tensors if n.split(".")[0] in chosen)
    return {ours: theirs for ours, theirs in pairs if ours}


def _check_settings(source: str, spec: EncoderSpec, settings: Mapping[str, object]) -> None:
    if spec.stride_px != STRIDE_PX:
        raise WeightsError(
            f"decoder.weights={source}: published decoder weights need a token every {STRIDE_PX} px, "
            f"but encoder={spec.name} has one every {spec.stride_px} px: take images of the "
            "encoder's own µm/px, another encoder, or decoder.weights=null."
        )
    for key, wanted in SETTINGS.items():
        if settings[key] != wanted:
            value = "null" if wanted is None else wanted
            raise WeightsError(
                f"decoder.weights={source}: published decoder weights need decoder.{key}={value}, got "
                f"{settings[key]}: choose decoder=cellvit or decoder.{key}={value}."
            )


def _check_names(source: str, wanted: Mapping[str, Tensor], named: Mapping[str, str]) -> None:
    """No layer may be left without weights, and no weight of a used branch without its layer."""
    missing = sorted(n for n in set(wanted) - set(named) if not n.endswith(_COUNTER))
    unexpected = sorted(named[n] for n in set(named) - set(wanted))
    if missing or unexpected:
        got = (
            f"has nothing for {_listed(missing)}" if missing else f"also has {_listed(unexpected)}"
        )
        raise WeightsError(
            f"{source} {got}, wanted exactly the published layers: it is incomplete or another variant "
            "of CellViT, or a head has other options than depth 2 and hidden 64."
        )


def _check_shape(
    source: str, spec: EncoderSpec, names: tuple[str, str], found: Tensor, place: Tensor
) -> None:
    """Most mismatches have one cause that can be named."""
    name, theirs = names
    got, wanted = tuple(found.shape), tuple(place.shape)
    if got == wanted:
        return
    if len(got) != len(wanted):
        name = ""  # no cause known
    weights = f"{source}: {theirs.split('.')[0]}"
    if name == "decoder0.0.block.0.weight" and got[0] == wanted[0]:
        raise WeightsError(
            f"{weights} reads images of {got[1]} channels (H&E as RGB), but this modality's have "
            f"{wanted[1]}: choose modality=he or set decoder.weights=null."
        )
    if (name in _READS or name.endswith(_DEEPEST)) and got[0] != wanted[0]:
        raise WeightsError(
            f"{weights} decodes features of width {got[0]}, but encoder={spec.name} returns "
            f"{wanted[0]}: choose the encoder these weights were trained with."
        )
    if name.startswith(f"{_HEADER}.classes.2.") and got[1:] == wanted[1:]:
        raise WeightsError(
            f"{weights} has {got[0]} classes, the store has {wanted[0]}: prepare a store with the "
            f"published {got[0]} (background is the first), or set decoder.weights=null to train anew."
        )
    raise WeightsError(
        f"{source}: {theirs} has shape {list(got)}, wanted {list(wanted)}: published weights need "
        "decoder.width=1 and heads with hidden 64."
    )


def _account(tensors: Mapping[str, Tensor], used: Collection[str], loaded: int) -> Accounting:
    """What stays behind is grouped by the first part of its name: "encoder.* (1,234): why"."""
    groups: dict[str, dict[str, Tensor]] = {}
    for name in sorted(set(tensors) - set(used)):
        group = name.split(".")[0] + (".*" if "." in name else "")
        groups.setdefault(group, {})[name] = tensors[name]
    reasons = [f"{g} ({_count(groups[g]):,}): {_reason(g)}" for g in sorted(groups)]
    if folded := _count({name: tensors[name] for name in used}) - loaded:
        reasons.append(f"{_FOLDED}* ({folded:,}): two logits became their difference")
    return Accounting(LAYOUT, loaded, 0, _count(tensors) - loaded, tuple(reasons))


def _count(tensors: Mapping[str, Tensor]) -> int:
    """Numbers in them, but for batch norm's counters."""
    return sum(t.numel() for n, t in tensors.items() if not n.endswith(_COUNTER))


def _reason(group: str) -> str:
    name = group.removesuffix(".*")
    if name in BRANCHES:
        return f"no use for another head {BRANCHES[name]}"
    if name == "encoder":
        return "the encoder, see encoder.weights"
    return "a classifier of tissues" if name == "classifier_head" else "not part of the decoder"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
