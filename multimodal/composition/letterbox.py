"""Pictures in a part of a picture: the whole of each, its aspect kept, zeros around it."""

from __future__ import annotations

from torch import Tensor, nn


def letterboxed(pictures: Tensor, height: int, width: int) -> Tensor:
    """(N, C, H, W) -> (N, C, height, width), as large as fits, in the middle; uint8 or float.

    Bilinear, with the filter widened where it shrinks, so that fine detail does not alias.
    """
    scale = min(height / pictures.shape[2], width / pictures.shape[3])
    size = tuple(max(1, round(side * scale)) for side in pictures.shape[2:])
    if size != pictures.shape[2:]:
        pictures = nn.functional.interpolate(pictures, size, mode="bilinear", antialias=True)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    out = pictures.new_zeros(*pictures.shape[:2], height, width)
    out[:, :, top : top + size[0], left : left + size[1]] = pictures
    return out
