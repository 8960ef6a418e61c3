"""Losses row by row, of a few rows at a time, whose intermediate results are not kept.

For losses whose every row needs all columns at once (a volume, a bisection): a block is ``tile``
rows and all columns. Backward computes each block again, so memory grows with tile * C, not R * C,
for one more forward pass. Values are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from multimodal.objectives.tools.tiled import check_tile


def by_rows(function: Callable[[slice], Tensor], count: int, tile: int | None) -> Tensor:
    """The results of ``function(rows)``, (r, ...) each, of ``count`` rows one after another.

    function: without random numbers; it is called again in the backward pass. tile: rows at a
    time; None: all. ValueError if it is below 1.
    """
    check_tile(tile)
    if tile is None or count <= tile:
        return function(slice(0, count))
    blocks = [slice(start, min(start + tile, count)) for start in range(0, count, tile)]
    found = [
        checkpoint(function, rows, use_reentrant=False, preserve_rng_state=False) for rows in blocks
    ]
    return torch.cat(found)
