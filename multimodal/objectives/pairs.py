"""What the objectives of paired embeddings take, and what their configs have in common."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from pydantic import Field, field_validator
from torch import Tensor

from multimodal.objectives import Loss
from multimodal.registry import Config


class Pairs(NamedTuple):
    """N pairs. signals, texts: (N, D). source: (N, W) frozen text encoder's output before any
    projection. ids: (N,) int64, equal where the texts are. scale, bias: the model's, scalars.
    """

    signals: Tensor
    texts: Tensor
    source: Tensor
    ids: Tensor
    scale: Tensor
    bias: Tensor


class AlignmentConfig(Config):
    """Base of the configs of objectives of pairs, each of which stands beside its function.

    scale: what cosines are multiplied with at the start. bias: what is added to them at the start,
    where the objective has one (``uses_bias``). tile: None holds the similarity matrix;
    a number works it through in tiles of that side (large batches). mask_duplicates: pairs of equal
    text are no negatives of each other.
    """

    needs_frozen_text: ClassVar[bool] = False
    uses_bias: ClassVar[bool] = False

    scale: float = Field(default=1 / 0.07, ge=1, le=100)
    bias: float = 0.0
    tile: int | None = Field(default=None, ge=1)
    mask_duplicates: bool = False

    @field_validator("bias")
    @classmethod
    def _bias_is_used(cls, bias: float) -> float:
        if bias and not cls.uses_bias:
            raise ValueError(f"objective {cls.registered_name!r} has no bias; leave it out")
        return bias

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        """gather: the batch is that of all processes."""
        raise NotImplementedError
