"""Class weights for cross entropy, from how often each class occurs in training."""

from collections.abc import Sequence

from tissueseg.errors import ConfigError

CLIP = 20.0


def inverse_frequency(pixels: Sequence[float], clip: float = CLIP) -> list[float]:
    """1/frequency of each class, divided by the background's, clipped.

    Args:
        pixels: training pixels of each class, background first, IGNORE left out.
        clip: the largest weight, which a class that never occurs gets as well: the limit of ever
            rarer ones, and without effect on training data, where it labels no pixel.

    Returns:
        One weight per class; the background's is 1.

    Raises:
        ConfigError: no background pixel, or a negative count.
    """
    background = pixels[0]
    if background <= 0 or min(pixels) < 0:
        raise ConfigError(
            f"class weights need counts ≥ 0 with some background, got {list(pixels)}; "
            "set class_weights=null or give the numbers."
        )
    return [min(float(background / n), clip) if n else clip for n in pixels]
