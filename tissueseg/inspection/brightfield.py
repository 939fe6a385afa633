"""Whether an H&E image looks like brightfield: bright glass, darker tissue, darkest nuclei.

Full-resolution pixels of windows spread evenly over the tissue: averages of a whole slide would show
neither nuclei nor saturated colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tissueseg.inspection.findings import Oddity, share
from tissueseg.inspection.pixels import TissuePixels
from tissueseg.store.layout import CHUNK_PX, INSTANCES
from tissueseg.store.planes import Window

PLACES = 6  # windows along each side of a large tissue
STEP_PX = 2  # every second pixel
GLASS = 205  # darkest of R, G and B on empty glass
BLANK = 0.95  # share of glass
DARK = 70.0  # luminance: brightfield has brighter pixels
GREY = 3.0  # difference between R, G and B that no stain is as pale as
BRIGHTER = 15.0  # luminance by which nuclei of inverted images exceed what surrounds them
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


class BrightfieldFacts(NamedTuple):
    """Of sampled pixels; luminance 0 … 255."""

    highest: int  # value in any channel
    bright: float  # luminance, 99.5 % quantile
    median: float  # luminance
    spread: float  # standard deviation of the most varied channel
    colour: float  # mean difference between the largest and smallest of R, G and B
    glass: float  # share of empty pixels
    nuclei: float  # mean luminance inside instances minus that outside; nan without either


def measure_brightfield(pixels: TissuePixels) -> BrightfieldFacts:
    """Sample a tissue's H&E image, and its masks at the same places."""
    rgb, inside = [], []
    for window in _places(pixels.shape):
        he = pixels.read("he", window)[:, ::STEP_PX, ::STEP_PX]
        rgb.append(he.reshape(3, -1))
        inside.append(pixels.read(INSTANCES, window)[::STEP_PX, ::STEP_PX].ravel() > 0)
    return brightfield_facts(np.concatenate(rgb, axis=1), np.concatenate(inside))


def brightfield_facts(rgb: np.ndarray, inside: np.ndarray) -> BrightfieldFacts:
    """Describe pixels.

    Args:
        rgb: (3, n) uint8.
        inside: (n,) bool, in an instance.
    """
    luminance = _LUMINANCE @ rgb.astype(np.float32)
    lowest, largest = rgb.min(axis=0), rgb.max(axis=0)
    both = inside.any() and not inside.all()
    contrast = luminance[inside].mean() - luminance[~inside].mean() if both else np.nan
    return BrightfieldFacts(
        highest=int(largest.max()),
        bright=float(np.quantile(luminance, 0.995)),
        median=float(np.median(luminance)),
        spread=float(rgb.std(axis=1).max()),
        colour=float((largest - lowest).mean()),
        glass=float((lowest > GLASS).mean()),
        nuclei=float(contrast),
    )


def brightfield_oddities(tissue: str, facts: BrightfieldFacts) -> Iterator[Oddity]:
    """Check the H&E image of one tissue; the first thing that is wrong explains the others."""
    for wrong, what, shown, advice in _checks(facts):
        if wrong:
            yield Oddity(tissue, "warning", "H&E", what, shown, advice, 0.0)
            return


def _checks(f: BrightfieldFacts) -> tuple[tuple[bool, str, str, str], ...]:
    """Whether something is wrong, what, its value, and what to do."""
    return (
        (
            f.highest <= 1,
            "H&E of values up to 1",
            f"highest value {f.highest}",
            "wanted 0–255: it was scaled to 0–1 and made whole numbers; export 8-bit RGB",
        ),
        (
            f.spread < 1,
            "H&E of one colour",
            f"standard deviation {f.spread:.2g} of 255",
            "there is nothing to see: check the file, or leave the tissue out",
        ),
        (
            f.nuclei > BRIGHTER and f.median < 128,
            "inverted H&E",
            f"nuclei {f.nuclei:.0f} of 255 brighter than what surrounds them, median {f.median:.0f}",
            "brightfield has dark nuclei on bright glass: invert it (255 − value), or is it "
            "fluorescence? Then give it as SP",
        ),
        (
            f.bright < DARK,
            "nearly black H&E",
            f"99.5 % of the pixels below {f.bright:.0f} of 255",
            "brightfield has bright glass: was a 16-bit image cut to 8 bits, or is it fluorescence? "
            "Then give it as SP",
        ),
        (
            f.glass > BLANK,
            "blank H&E",
            f"{share(f.glass, 1)} empty glass",
            f"wanted at most {share(BLANK, 1)}: crop to the tissue, or leave it out",
        ),
        (
            f.colour < GREY,
            "grey H&E",
            f"R, G and B differ by {f.colour:.1f} of 255",
            "encoders of H&E expect colour: was one channel copied to three?",
        ),
    )


def _places(shape: tuple[int, int]) -> Iterator[Window]:
    """Whole chunks, spread evenly; all of them in a small tissue."""
    for y in _starts(shape[0]):
        for x in _starts(shape[1]):
            height, width = min(CHUNK_PX, shape[0] - y), min(CHUNK_PX, shape[1] - x)
            yield Window(y, x, height, width)


def _starts(length: int) -> list[int]:
    chunks = -(-length // CHUNK_PX)
    chosen = np.linspace(0, chunks - 1, min(chunks, PLACES)).round().astype(int)
    return [int(i) * CHUNK_PX for i in chosen]
