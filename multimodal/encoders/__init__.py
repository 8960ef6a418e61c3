"""Encoders: ``forward(features, lengths) -> Encoded``.

A registered encoder config's ``build(channels, axes)`` gets the shape (N, channels, *axes) of
the features that the front end makes and returns an ``Encoder``.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from multimodal.batch import Encoded
from multimodal.registry import Registry

ENCODERS = Registry("encoder", "multimodal.encoders", default="compact")


class Encoder(Protocol):
    """An ``nn.Module`` with the width D of its embeddings."""

    width: int

    def __call__(self, features: Tensor, lengths: Tensor) -> Encoded:
        """(N, channels, *axes) and (N,) valid steps -> tokens, mask, pooled."""
        ...
