"""Text towers without weights."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor


def hashed(texts: Sequence[str], width: int = 8) -> Tensor:
    """(n, width) float32, a random direction of its own for every text."""
    rows = [np.random.default_rng(zlib.crc32(t.encode())).normal(size=width) for t in texts]
    return torch.tensor(np.array(rows), dtype=torch.float32)


def constant(texts: Sequence[str]) -> Tensor:
    """A collapsed tower: it ignores its input."""
    return torch.tensor([[0.3, -0.7, 0.2]]).repeat(len(texts), 1)


def by_table(table: Mapping[str, Sequence[float]]) -> Callable[[Sequence[str]], Tensor]:
    """A tower that knows these texts only."""
    return lambda texts: torch.tensor([table[text] for text in texts])
