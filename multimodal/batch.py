"""Batch and Encoded: what encoders, objectives and learners receive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

TENSORS = ("inputs", "lengths", "labels", "indices", "embeddings")


@dataclass(frozen=True)
class Batch:
    """N recordings, padded on the right to the longest one.

    inputs: (N, ...) canonical signals (speech: (N, 1, T) float, 16 kHz), zero beyond ``lengths``.
    lengths: (N,) int64, valid steps along the modality's time axis (samples for speech).
    labels: (N,) int64 class ids, or, for multi-label data, (N, C) float: 1 present, 0 absent, NaN
    unknown.
    indices: (N,) int64, rows of the Manifest.
    texts: N captions, reports or transcripts, or None where the data has none.
    embeddings: (N, D) of a frozen tower, from its cache; inputs may then be empty, (N, 0).
    """

    inputs: Tensor
    lengths: Tensor
    labels: Tensor
    indices: Tensor
    texts: tuple[str, ...] | None = None
    embeddings: Tensor | None = None

    def __len__(self) -> int:
        return self.lengths.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """A copy whose tensors live on ``device``; this batch itself if they already do."""
        if self.inputs.device == torch.device(device):
            return self
        return self._map(lambda t: t.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """A copy in page-locked memory, from which transfers to a GPU are asynchronous."""
        return self._map(lambda t: t.pin_memory())

    def rows(self, start: int, stop: int) -> Self:
        """Rows [start, stop) as views, with the same padding."""
        part = self._map(lambda t: t[start:stop])
        return part if self.texts is None else replace(part, texts=self.texts[start:stop])

    def where(self, mask: Tensor) -> Self:
        """The rows of a (N,) bool mask on the same device, as copies with the same padding."""
        part = self._map(lambda t: t[mask])
        if self.texts is None:
            return part
        kept = tuple(text for text, keep in zip(self.texts, mask.tolist(), strict=True) if keep)
        return replace(part, texts=kept)

    def split(self, size: int) -> tuple[Self, Self]:
        """The first ``size`` rows and the others, as views; ``join`` gives this batch back."""
        first, second = self.rows(0, size), self.rows(size, len(self))
        object.__setattr__(second, "_split", (first, self))
        return first, second

    @classmethod
    def join(cls, first: Batch, second: Batch) -> Batch:
        """The rows of both, which must be padded alike (parts of one gathered batch are).

        Without a copy where the two are a ``split`` batch.
        """
        parts = second.__dict__.get("_split")
        if parts is not None and parts[0] is first:
            return parts[1]
        texts = None
        if first.texts is not None and second.texts is not None:
            texts = first.texts + second.texts
        names = [n for n in TENSORS if getattr(first, n) is not None]
        tensors: dict[str, Any] = {
            n: torch.cat([getattr(first, n), getattr(second, n)]) for n in names
        }
        return cls(**tensors, texts=texts)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        changed: dict[str, Any] = {
            name: function(tensor)
            for name in TENSORS
            if (tensor := getattr(self, name)) is not None
        }
        return type(self)(**changed, texts=self.texts)


class Features(NamedTuple):
    """What a front end makes of a Batch and an encoder reads.

    values: (N, channels, *axes): (N, mels, frames) log-mel, (N, leads, samples) ECG,
    (N, 1, height, width) X-ray, (N, 3, frames, height, width) video; zero in padded steps.
    lengths: (N,) int64, valid steps along the first of the axes (images: their height).
    """

    values: Tensor
    lengths: Tensor


class Encoded(NamedTuple):
    """What an encoder returns.

    tokens: (N, L, D). mask: (N, L) bool, True where a token is real. pooled: (N, D).
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
