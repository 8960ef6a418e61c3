"""The objectives that a config may name for aligning signals with texts.

Each names the starting scale and bias of the model that it trains, and how it is computed. The
losses themselves are pure functions in the other modules of this package.
"""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.contrastive import info_nce, siglip
from multimodal.objectives.cwcl import cwcl
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
    """scale: what cosines are multiplied with at the start. tile: None holds the similarity matrix;
    a number works it through in tiles of that side (large batches). mask_duplicates: pairs of equal
    text are no negatives of each other.
    """

    needs_frozen_text: ClassVar[bool] = False

    scale: float = Field(default=1 / 0.07, ge=1, le=100)
    bias: float = 0.0
    tile: int | None = Field(default=None, ge=1)
    mask_duplicates: bool = False

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        """gather: the batch is that of all processes."""
        raise NotImplementedError


@OBJECTIVES.register("clip")
class ClipConfig(AlignmentConfig):
    """Symmetric InfoNCE with a learned temperature (Radford et al. 2021, arXiv:2103.00020)."""

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        ids = pairs.ids if self.mask_duplicates else None
        return info_nce(
            pairs.signals, pairs.texts, pairs.scale, ids=ids, gather=gather, tile=self.tile
        )


@OBJECTIVES.register("siglip")
class SiglipConfig(AlignmentConfig):
    """Sigmoid loss (Zhai et al. 2023, arXiv:2303.15343). mask_duplicates: equal texts are then
    positives.
    """

    scale: float = Field(default=10.0, ge=1, le=100)
    bias: float = -10.0

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        ids = pairs.ids if self.mask_duplicates else None
        return siglip(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            pairs.bias,
            ids=ids,
            gather=gather,
            tile=self.tile,
        )


@OBJECTIVES.register("cwcl")
class CwclConfig(AlignmentConfig):
    """Continuously weighted contrastive loss, a reconstruction; see ``cwcl.py``.

    anchor: whose rows the weights belong to. kernel, sharpness, plain_weight: off by default.
    """

    needs_frozen_text: ClassVar[bool] = True

    anchor: Literal["trained", "frozen"] = "trained"
    kernel: Literal["linear", "power", "exp", "threshold"] = "linear"
    sharpness: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    plain_weight: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _sharpness_fits(self) -> Self:
        if (self.kernel == "linear") != (self.sharpness is None):
            raise ValueError("the kernels power, exp and threshold need a sharpness; linear none")
        return self

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        return cwcl(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            anchor=self.anchor,
            similarity_source=pairs.source,
            kernel=self.kernel,
            sharpness=self.sharpness,
            plain_weight=self.plain_weight,
            ids=pairs.ids if self.mask_duplicates else None,
            gather=gather,
            tile=self.tile,
        )
