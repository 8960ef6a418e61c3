"""Encoders: ``forward(features, lengths) -> Encoded``.

A registered encoder config is an ``EncoderConfig``: it says which front end makes its features and
builds the ``Encoder`` for a modality's adapter.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from multimodal.batch import Encoded
from multimodal.modalities import Adapter
from multimodal.registry import Config, Registry

ENCODERS = Registry("encoder", "multimodal.encoders", default="compact")


class Encoder(Protocol):
    """An ``nn.Module`` with the width D of its embeddings."""

    width: int

    def __call__(self, features: Tensor, lengths: Tensor) -> Encoded:
        """(N, channels, *axes) and (N,) valid steps -> tokens, mask, pooled."""
        ...


class EncoderConfig(Config):
    """Base of every encoder's config."""

    def front_end(self, adapter: Adapter) -> nn.Module:
        """``forward(batch: Batch) -> Features``: the adapter's own, unless a checkpoint has its."""
        return adapter.front_end()

    @property
    def reads_features(self) -> bool:
        """Of the adapter's front end, whatever is in the batches that this reads."""
        return type(self).front_end is EncoderConfig.front_end

    def build(self, adapter: Adapter) -> Encoder:
        """An encoder of the features (N, adapter.channels, *adapter.axes axes)."""
        raise NotImplementedError
