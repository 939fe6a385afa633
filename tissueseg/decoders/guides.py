"""What the coarse heads of a pass tell its slots."""

from torch import Tensor
from torch.nn import functional as F


def resized(logits: Tensor, like: Tensor) -> Tensor:
    """Logits on the pixels of other features, bilinear: (B, 1, h, w) to (B, 1, H, W)."""
    size = like.shape[-2:]
    if logits.shape[-2:] == size:
        return logits
    return F.interpolate(logits, (size[0], size[1]), mode="bilinear", align_corners=False)
