"""Recordings of any length through a model that hears windows of one length."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

Crop = Literal["windows", "start", "centre", "random"]
Fill = Literal["repeatpad", "repeat", "pad"]
INT16 = 32767.0


def crop_starts(
    length: int, window: int, crop: Crop, *, uid: str = "", seed: int = 0, draws: int = 1
) -> list[int]:
    """First samples of the windows that stand for a recording of ``length`` samples.

    A recording no longer than the window has one, at 0. windows: one after the other; the last one
    ends where the recording ends, and so may overlap its neighbour. random: ``draws`` of them, from
    (uid, seed) alone.
    """
    spare = length - window
    if spare <= 0 or crop == "start":
        return [0]
    if crop == "centre":
        return [spare // 2]
    if crop == "windows":
        return [*range(0, spare, window), spare]
    key = hashlib.sha256(f"{seed}\0{uid}".encode()).digest()
    rng = np.random.default_rng(np.frombuffer(key, dtype=np.uint32))
    return rng.integers(0, spare + 1, draws).tolist()


def embed_windows(
    embed: Callable[[Tensor, Tensor], Tensor],
    signals: Tensor,
    lengths: Tensor,
    uids: Sequence[str],
    *,
    window: int,
    crop: Crop,
    seed: int = 0,
    draws: int = 1,
    at_once: int = 64,
) -> Tensor:
    """(N, D) unit rows: the mean of the unit embeddings of a recording's windows, normalised.

    signals: (N, 1, T), lengths: (N,) samples, uids: N names. embed: windows (M, 1, W'), zero beyond
    their lengths (M,), W' at most ``window`` -> (M, D); it fills short ones itself. A recording's
    row does not depend on the others, but for rounding.
    """
    starts = [
        crop_starts(length, window, crop, uid=uid, seed=seed, draws=draws)
        for length, uid in zip(lengths.tolist(), uids, strict=True)
    ]
    owner = torch.tensor([i for i, own in enumerate(starts) for _ in own], device=signals.device)
    first = torch.tensor([s for own in starts for s in own], device=signals.device)
    longest = min(window, signals.shape[2])
    steps = torch.arange(longest, device=signals.device)
    parts = []
    for who, at in zip(owner.split(at_once), first.split(at_once), strict=True):
        place = (at[:, None] + steps).clamp_max(signals.shape[2] - 1)
        left = (lengths.to(who.device)[who] - at).clamp_max(longest)
        cut = signals[who, 0].gather(1, place) * (steps < left[:, None])
        parts.append(normalize(embed(cut[:, None], left).float(), dim=1))
    embedded = torch.cat(parts)
    sums = embedded.new_zeros(len(signals), embedded.shape[1]).index_add_(0, owner, embedded)
    return normalize(sums, dim=1)


def through_int16(signals: Tensor) -> Tensor:
    """Samples in [-1, 1] as 16 bits would keep them, towards zero (LAION-CLAP's round trip)."""
    return (signals.clamp(-1, 1) * INT16).trunc() / INT16
