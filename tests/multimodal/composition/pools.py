"""Pools without signals."""

from __future__ import annotations

import numpy as np

from multimodal.composition.plan import Pool

NAMES = ("dog", "rain", "siren", "bell", "engine", "cough", "clock", "bird", "drill", "waves")


def pool_of(
    count: int = 200, *, seconds: tuple[float, float] = (1.0, 5.0), rate: int = 1000, seed: int = 0
) -> Pool:
    """Ten labels of five categories, ``count`` snippets of uniform length from 40 sources."""
    rng = np.random.default_rng(seed)
    return Pool(
        labels=np.arange(count) % len(NAMES),
        lengths=(rng.uniform(*seconds, count) * rate).astype(np.int64),
        rate=rate,
        names=NAMES,
        sources=tuple(f"s{i}" for i in rng.integers(40, size=count)),
        categories=tuple(str(i // 2) for i in range(len(NAMES))),
    )
