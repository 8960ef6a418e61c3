"""Which recordings lie nearest to each, so that they are each other's negatives.

The released code of CompA (Ghosh et al., ICLR 2024) joins every recording of its second stage with
one of the five that lie nearest to it, drawn anew each time, which doubles the batch. Here
(``batching.NearBatches``) the batch keeps its size, so that runs with and without neighbours
compare at equal batches; an epoch has twice as many steps.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

NONE = -1
_AT_ONCE = 1_024


@torch.no_grad()
def nearest(embeddings: Tensor, count: int, texts: np.ndarray) -> np.ndarray:
    """(N, count) int64: of each of N recordings those of highest cosine, the nearest first.

    embeddings: (N, D), of any length. texts: (N,) numbers, equal where texts are, or what they say:
    such recordings are no neighbours, for they would be false negatives. ``NONE`` where too few
    others are left.
    """
    units = normalize(embeddings.double().cpu(), dim=1)
    numbers = torch.from_numpy(texts)
    found = torch.full((len(units), count), NONE)
    for start in range(0, len(units), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        cosines = units[part] @ units.T
        cosines.masked_fill_(numbers[part, None] == numbers, -torch.inf)
        values, rows = cosines.topk(min(count, len(units)), dim=1)
        found[part, : rows.shape[1]] = rows.masked_fill(values == -torch.inf, NONE)
    return found.numpy()
