"""Augmentation from the command line: what is chosen, refused by name, and goes online and why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from feature_runs import WORDS, error_line
from stores import choices, compose

from tissueseg import preflight
from tissueseg.augmentations import altering_parts, build_augmentation

Command = Callable[..., Any]  # name, overrides -> code, out, err

RUN = (*WORDS, "epochs=1", "run_dir=run")
PART = "+augmentation.he.odd"
REFUSED = {
    "an unknown set": (
        ["augmentation=heavy"],
        "Choose from: cellvit, dihedral, none, strong, study",
    ),
    "an unknown argument": (
        ["augmentation=study", "+augmentation.he.jitter.brightnes=0.2"],
        "augmentation.he.jitter cannot be built: brightnes unknown, choose from brightness, ",
    ),
    "a chance": (
        ["augmentation=study", "augmentation.he.jitter.p=1.5"],
        "augmentation.he.jitter cannot be built: p=1.5: Input should be less than or equal to 1",
    ),
    "a chance of SP": (
        ["modality=sp", "augmentation=study", "augmentation.sp.dropout.p=-1"],
        "ChannelDropout.p=-1, wanted a number 0 … 1",
    ),
    "no such transform": (
        [f"{PART}={{_target_: albumentations.Sparkle}}"],
        "albumentations.Sparkle cannot be found",
    ),
    "another library": (
        [f"{PART}={{_target_: os.system}}"],
        "os.system is not among the packages configs may build from",
    ),
    "movement among colours": (
        [f"{PART}={{_target_: albumentations.Affine}}"],
        "augmentation.he.odd is Affine, wanted one that leaves pixels where they are",
    ),
    "colour among movements": (
        ["+augmentation.geometry.odd={_target_: albumentations.Blur}"],
        "augmentation.geometry.odd is Blur, wanted one that moves images and labels alike",
    ),
    "a crop that stays small": (
        ["+augmentation.geometry.odd={_target_: albumentations.RandomCrop, height: 8, width: 8}"],
        "augmentation.geometry.odd makes (8, 8) px of (32, 32), tiles must keep their size",
    ),
    "ids that are mixed": (
        [
            "+augmentation.geometry.odd={_target_: albumentations.Affine, rotate: [9, 9],"
            " mask_interpolation: 1}"
        ],
        "augmentation.geometry.odd ",
    ),
    "an unknown part": (
        ["modality=sp", "+augmentation.sp.odd={_target_: torch.nn.Identity}"],
        "augmentation.sp.odd=Identity(), wanted ShotNoise, ChannelDropout, Gain or Offset",
    ),
    "a part without a target": ([f"{PART}=3"], "augmentation.he.odd=3, wanted a _target_"),
    "a group that is a word": (["augmentation.he=blur"], "augmentation.he=blur, wanted a name"),
    "a margin": (
        ["augmentation.margin=5"],
        "margin=5, wanted a number 0 … 2 (a share of the tile)",
    ),
    "an unknown group": (["+augmentation.rgb={}"], "augmentation: "),
    "stored features": (
        ["augmentation=study", "features=stored"],
        "augmentation has he.jitter, but features=stored has views alone: choose "
        "augmentation=dihedral or features=online.",
    ),
    "stored features of strong": (
        ["augmentation=strong", "features=stored", "modality=sp"],
        "augmentation has geometry.affine, geometry.elastic, sp.shot, sp.dropout, sp.gain, sp.offset, ",
    ),
}


@pytest.mark.parametrize(("words", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_before_anything_is_opened(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    says: str,
    record_property: Any,
) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no store
    error = error_line(command("train", *RUN, *words))
    record_property("message", error)
    assert says in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", choices("augmentation"))
@pytest.mark.parametrize("modality", ["he", "sp", "he_sp"])
def test_every_set_composes_builds_and_passes_its_trial(name: str, modality: str) -> None:
    config = compose("setting=demo", f"augmentation={name}", f"modality={modality}")
    preflight.check(config)
    made = build_augmentation(config, halo_px=0)
    assert made.parts == altering_parts(config)
    assert config.views.dihedral == (1 if name == "none" else 8)
    assert bool(made) == (name not in ("none", "dihedral"))
    if modality == "he_sp":
        assert not made.idle


def test_views_on_the_command_line_win() -> None:
    config = compose("setting=demo", "augmentation=study", "views.dihedral=4")
    assert config.views.dihedral == 4
    config = compose("setting=demo", "views=1", "augmentation=study")
    preflight.check(config)
    assert config.views.dihedral == 1


def test_a_part_that_is_null_is_left_out() -> None:
    config = compose("setting=demo", "augmentation=study", "augmentation.he.jitter=null")
    assert altering_parts(config) == ("sp.dropout",)
    assert build_augmentation(config, 0).parts == ("sp.dropout",)


def test_stored_features_serve_turns_alone(command: Command, here: Path) -> None:
    """What they lack is encoded online, with the reason; embedding it is refused."""
    error = error_line(command("embed", *WORDS, "augmentation=study"))
    assert "augmentation has he.jitter, but embed has views alone: choose augmentation=" in error
    result = command("embed", *WORDS, "augmentation=dihedral")
    assert result.code == 0, result.err
    turned = command("train", *RUN, "augmentation=dihedral", "run_dir=turned")
    assert turned.code == 0, turned.err
    assert "features: stored in" in turned.out
    altered = command("train", *RUN, "augmentation=study", "run_dir=altered")
    assert altered.code == 0, altered.err
    why = "encoded online, since augmentation has he.jitter, which stored features do not show"
    assert why in altered.out
    assert "To encode them once" not in altered.out
    scored = command("evaluate", "run=altered", "features=online")  # as they stand
    assert scored.code == 0, scored.err


def test_parts_for_images_a_run_lacks_are_said_to_be_idle(command: Command, here: Path) -> None:
    result = command("train", *RUN, "augmentation=strong", "modality=he")
    assert result.code == 0, result.err
    idle = "augmentation: sp.shot, sp.dropout, sp.gain, sp.offset not applied, modality=he has no"
    assert idle in result.out


def test_a_seed_repeats_an_augmented_run_to_the_last_bit(command: Command, here: Path) -> None:
    scores = []
    for name in ("one", "two"):
        words = (*RUN, "augmentation=strong", "modality=he_sp", f"run_dir={name}")
        result = command("train", *words)
        assert result.code == 0, result.err
        scores.append((here / name / "metrics.csv").read_text())
    assert scores[0] == scores[1]


def test_runs_from_before_are_scored_without(command: Command, here: Path) -> None:
    assert command("train", *RUN).code == 0
    saved = here / "run" / "config.yaml"
    lines = saved.read_text().splitlines(keepends=True)
    start = lines.index("augmentation:\n")
    after = (i for i in range(start + 1, len(lines)) if not lines[i].startswith(" "))
    end = next(after, len(lines))
    saved.write_text("".join(lines[:start] + lines[end:]))
    result = command("evaluate", "run=run", "features=online")
    assert result.code == 0, result.err
