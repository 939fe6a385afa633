"""Albumentations, behind what augmentation asks of it: transforms that are built, tried out and run.

The one file that knows the library, which is no longer developed. It is imported when a transform is
built, for it takes two seconds. Of itself it takes unknown arguments with a warning, and masks with any
interpolation: here both are errors, found by trying each transform out before a run begins.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature
from types import ModuleType
from typing import Any

import numpy as np

from tissueseg.errors import ConfigError

Recipe = Callable[..., Any]
"""Builds a transform; one that depends on the size of images takes it as `side_px`."""

_AT_ONCE = 4
"""Channels that move as one image. OpenCV mirrors no more than 128 and warps no more than four, for which
the library cuts images up and joins them again, at more cost than the warp itself."""

_TRIALS = 3


class Transforms(threading.local):
    """The transforms of one group, in order; every thread builds its own, since they hold what they draw.

    Args:
        group: `geometry`, which moves pixels of images and labels alike, or `he`, which colours H&E.
        recipes: name -> recipe.
        side_px: of the images they will be given.

    Raises:
        ConfigError: one that cannot be built, or is of another kind than its group's.
    """

    def __init__(self, group: str, recipes: Mapping[str, Recipe], side_px: int) -> None:
        self._made_of = group, dict(recipes), side_px
        self._built = {n: _built(f"{group}.{n}", r, side_px) for n, r in recipes.items()}
        kind = {"geometry": "DualTransform", "he": "ImageOnlyTransform"}[group]
        for name, transform in self._built.items():
            _check_kind(f"{group}.{name}", transform, kind)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._made_of

    def colour(self, rgb: np.ndarray, seeds: Mapping[str, int]) -> np.ndarray:
        """Alter (H, W, 3) uint8, with one seed per transform."""
        for name, transform in self._built.items():
            transform.set_random_seed(seeds[name])
            rgb = transform(image=rgb)["image"]
        return rgb

    def move(
        self,
        image: np.ndarray,
        planes: np.ndarray,
        seeds: Mapping[str, int],
        margin_px: int = 0,
        force: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Move (C, H, W) float32 and (n, H, W) int32 alike, with one seed per transform.

        Planes are never interpolated, and 0 where there was nothing to move; images may be mirrored
        there. Both come back without the margin on each side. `force`: whatever the chances are.
        """
        parts = [_last(image[i : i + _AT_ONCE]) for i in range(0, len(image), _AT_ONCE)]
        more = {f"image_{i}": part for i, part in enumerate(parts[1:])}
        data = {"image": parts[0], "mask": _last(planes)} | more
        for name, transform in self._built.items():
            transform.add_targets(dict.fromkeys(more, "image"))
            transform.set_random_seed(seeds[name])
            data = transform(force_apply=force, **data)
        within = slice(margin_px, -margin_px or None)
        seen = within, within
        moved = [data["image"][seen], *(data[key][seen] for key in more)]
        return np.concatenate([_first(part) for part in moved]), _first(data["mask"][seen])

    def try_out(self) -> None:
        """Run every transform on noise.

        Raises:
            ConfigError: one that changes size or number type, mixes ids of labels, or fails.
        """
        group, recipes, side_px = self._made_of
        for name, recipe in recipes.items():
            with warnings.catch_warnings():  # not in `_built`: other threads share the filters
                warnings.simplefilter("error", UserWarning)
                alone = Transforms(group, {name: recipe}, side_px)
            for seed in range(_TRIALS):
                try:
                    said = alone._wrong_with(name, seed, side_px)
                except Exception as error:  # whatever a library says of what it cannot do
                    said = (
                        f"fails on tiles ({type(error).__name__}: {' '.join(str(error).split())})"
                    )
                if said:
                    raise ConfigError(f"augmentation.{group}.{name} {said}: choose another.")

    def _wrong_with(self, name: str, seed: int, side_px: int) -> str:
        rng, square = np.random.default_rng(seed), (side_px, side_px)
        if self._made_of[0] == "he":
            rgb = rng.integers(0, 256, (*square, 3), np.uint8)
            altered = self._built[name](image=rgb, force_apply=True)["image"]
            same = (altered.shape, altered.dtype) == (rgb.shape, rgb.dtype)
            return "" if same else f"makes {altered.dtype} {altered.shape} of uint8 {rgb.shape}"
        image = rng.random((5, *square), np.float32)
        ids = rng.integers(1, 2**31, (2, *square)).astype(np.int32)
        moved, labels = self.move(image, ids, {name: seed}, force=True)
        if moved.shape != image.shape or labels.shape != ids.shape:
            return f"makes {moved.shape[1:]} px of {square}, tiles must keep their size"
        if not np.isin(labels, np.append(ids, 0)).all():
            return "mixes ids of labels, wanted masks taken from the nearest pixel"
        return ""


def random_zoom(side_px: int, largest: float = 2.0, p: float = 1.0) -> Any:
    """A square part of the image, of 1 / `largest` of its side or more, enlarged to all of it."""
    smallest = max(1, round(side_px / largest))
    size = (side_px, side_px)
    exact = 6  # INTER_NEAREST_EXACT; the other one shifts labels by half a pixel
    crop = _library().RandomSizedCrop
    return crop((smallest, side_px), size, mask_interpolation=exact, p=p, strict=True)


def superpixels(side_px: int, p_replace: float = 0.1, segments: int = 200, p: float = 0.1) -> Any:
    """Patches of like colour, each replaced by its mean by chance; found at half the image's side."""
    found = {"n_segments": (segments, segments), "max_size": max(1, side_px // 2)}
    return _library().Superpixels((p_replace, p_replace), **found, p=p, strict=True)


def library_ready() -> None:
    """Import albumentations such that it asks no server for its newest version."""
    _library()


def _library() -> ModuleType:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _built(key: str, recipe: Recipe, side_px: int) -> Any:
    if not callable(recipe):
        raise ConfigError(f"augmentation.{key}={recipe!r}, wanted a _target_ and its options.")
    _library()
    made = recipe.func if isinstance(recipe, partial) else recipe
    try:
        known = signature(made).parameters
        if unknown := set(getattr(recipe, "keywords", ())) - set(known):
            raise TypeError(f"{', '.join(sorted(unknown))} unknown, choose from {', '.join(known)}")
        given = {"side_px": side_px} if "side_px" in known else {}
        if "InitSchema" in getattr(made, "__dict__", ()):
            given["strict"] = True  # else bad values fall back to defaults, with a warning
        return _unmirrored(recipe(**given))
    except (TypeError, ValueError, UserWarning) as error:
        raise ConfigError(f"augmentation.{key} cannot be built: {_reason(error)}.") from error


def _unmirrored(transform: Any) -> Any:
    """Let a transform fill masks with 0 beyond their borders, whatever it does with images there.

    A mirrored nucleus would have the id of the one it mirrors, as if it were a piece of that.
    """
    if not hasattr(transform, "apply_to_mask") or not hasattr(transform, "border_mode"):
        return transform
    of_images, constant, on_masks = transform.border_mode, 0, transform.apply_to_mask

    def filled(*args: Any, **params: Any) -> np.ndarray:
        transform.border_mode = constant
        try:
            return on_masks(*args, **params)
        finally:
            transform.border_mode = of_images

    transform.fill_mask, transform.apply_to_mask = 0, filled
    transform.add_targets({"mask": "mask"})  # which it looked up when it was made
    return transform


def _last(planes: np.ndarray) -> np.ndarray:
    """(n, H, W) as (H, W, n), in memory of its own order."""
    return np.ascontiguousarray(np.moveaxis(planes, 0, -1))


def _first(planes: np.ndarray) -> np.ndarray:
    """(H, W, n), of one plane (H, W) too, as (n, H, W)."""
    return np.moveaxis(planes if planes.ndim == 3 else planes[..., None], -1, 0)


def _reason(error: Exception) -> str:
    """What was wrong with which argument; pydantic says it in four lines."""
    found = getattr(error.__cause__, "errors", None)
    if found is None:
        return " ".join(str(error).split()).rstrip(".")
    shown = (f"{'.'.join(map(str, e['loc']))}={e['input']!r}: {e['msg']}" for e in found())
    return "; ".join(shown)


def _check_kind(key: str, transform: Any, wanted: str) -> None:
    if isinstance(transform, getattr(_library(), wanted)):
        return
    does = {
        "DualTransform": "moves images and labels alike (albumentations.DualTransform)",
        "ImageOnlyTransform": "leaves pixels where they are (albumentations.ImageOnlyTransform)",
    }[wanted]
    raise ConfigError(f"augmentation.{key} is {type(transform).__name__}, wanted one that {does}.")
