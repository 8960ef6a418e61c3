"""Encoders: ``forward(features, lengths) -> Encoded``.

A registered encoder config is an ``EncoderConfig``: it says which front end makes its features and
builds the ``Encoder`` for a modality's adapter.
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from pydantic import Field
from torch import Tensor, nn

from multimodal.batch import Encoded
from multimodal.modalities import SEVERAL, Adapter
from multimodal.registry import Config, Registry

# Of encoders that are made here; the largest vision transformers are 6,144 wide and 56 deep.
Width = Annotated[int, Field(ge=8, le=8192)]
Depth = Annotated[int, Field(ge=1, le=256)]
Heads = Annotated[int, Field(ge=1, le=1024)]
MOST_WEIGHTS = 2**31  # 8 GiB, and four times that while they are trained

ENCODERS = Registry("encoder", "multimodal.encoders", default="compact")


class Encoder(Protocol):
    """An ``nn.Module`` with the width D of its embeddings."""

    width: int

    def __call__(self, features: Tensor, lengths: Tensor) -> Encoded:
        """(N, channels, *axes) and (N,) valid steps -> tokens, mask, pooled."""
        ...


def refuse_large(width: int, depth: int) -> None:
    """ValueError for blocks of 12 x width^2 weights each that no machine is meant to hold."""
    if (weights := 12 * width**2 * depth) > MOST_WEIGHTS:
        raise ValueError(
            f"width {width} and depth {depth} make {weights:,} weights; at most {MOST_WEIGHTS:,}"
        )


def forbid_misfit(modality: Any, encoder: Any) -> None:
    """ValueError unless both are of several modalities, or neither is."""
    if (modality.registered_name == SEVERAL) != (encoder.registered_name == SEVERAL):
        raise ValueError(
            f"modality {modality.registered_name} with encoder {encoder.registered_name}: what is "
            f"of several modalities is read by encoder {SEVERAL}, and nothing else is; its towers "
            "are of one each (encoder.towers)"
        )


class EncoderConfig(Config):
    """Base of every encoder's config."""

    def front_end(self, adapter: Adapter) -> nn.Module:
        """``forward(batch: Batch) -> Features``: the adapter's own, unless a checkpoint has its."""
        return adapter.front_end()

    @property
    def reads_features(self) -> bool:
        """Of the adapter's front end, whatever is in the batches that this reads."""
        return type(self).front_end is EncoderConfig.front_end

    @property
    def published(self) -> bool:
        """It is, or holds, a checkpoint of a published size; a step takes seconds on a CPU."""
        return False

    def build(self, adapter: Adapter) -> Encoder:
        """An encoder of the features (N, adapter.channels, *adapter.axes axes)."""
        raise NotImplementedError
