"""A small pre-norm transformer over patch tokens, trained from scratch, for all modalities.

Architecture after the Vision Transformer (Dosovitskiy et al. 2021) with pre-norm blocks (Xiong
et al. 2020), fixed sinusoidal positions (Vaswani et al. 2017) and masked mean pooling. One
convolutional stem cuts the features into patches: over time (log-mel, ECG), over height and
width (X-ray), or over frames, height and width (video).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from multimodal.batch import Encoded
from multimodal.encoders import ENCODERS
from multimodal.registry import Config

_STEMS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@ENCODERS.register("compact")
class CompactConfig(Config):
    """width: D, a multiple of heads. patch: steps per token along each axis."""

    width: Annotated[int, Field(ge=8)] = 96
    depth: Annotated[int, Field(ge=1)] = 3
    heads: Annotated[int, Field(ge=1)] = 4
    patch: Annotated[int, Field(ge=1)] = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _heads_divide_width(self) -> CompactConfig:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 2 x heads ({self.heads})")
        return self

    def build(self, channels: int, axes: int) -> CompactEncoder:
        return CompactEncoder(
            channels,
            axes=axes,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            patch=self.patch,
            dropout=self.dropout,
        )


class CompactEncoder(nn.Module):
    """(N, channels, *axes) features -> Encoded of L = product of ceil(size / patch) tokens.

    Steps beyond ``lengths`` must be zero; tokens without a single valid step are masked, so an
    embedding does not depend on how far its batch was padded.
    """

    def __init__(
        self,
        channels: int,
        *,
        axes: int = 1,
        width: int = 96,
        depth: int = 3,
        heads: int = 4,
        patch: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width, self.patch, self.axes = width, patch, axes
        self.stem = _STEMS[axes](channels, width, kernel_size=patch, stride=patch)
        layer = nn.TransformerEncoderLayer(
            width,
            heads,
            dim_feedforward=4 * width,
            dropout=dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(
            layer, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        # TransformerEncoder copies one layer: give each block its own initial weights.
        for block in self.blocks.layers[1:]:
            for module in block.modules():
                if isinstance(module, nn.Linear):
                    module.reset_parameters()
                elif isinstance(module, nn.MultiheadAttention):
                    module._reset_parameters()

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """features: (N, channels, *axes) float; lengths: (N,) along the first axis."""
        sizes = features.shape[2:]
        assert len(sizes) == self.axes, f"expected {self.axes} axes, got {tuple(features.shape)}"
        padding = [p for size in reversed(sizes) for p in (0, -size % self.patch)]
        grid_ndlhw = self.stem(F.pad(features, padding))
        shape = tuple(grid_ndlhw.shape[2:])
        tokens_nld = grid_ndlhw.flatten(2).transpose(1, 2)
        tokens_nld = tokens_nld + _positions(shape, self.width).to(tokens_nld)
        steps = torch.arange(shape[0], device=features.device)
        valid = steps < lengths.to(features.device)[:, None].div(self.patch).ceil()
        mask_nl = valid.repeat_interleave(math.prod(shape[1:]), dim=1)
        tokens_nld = self.blocks(tokens_nld, src_key_padding_mask=~mask_nl)
        weights = mask_nl.unsqueeze(-1).to(tokens_nld.dtype)
        pooled = (tokens_nld * weights).sum(1) / weights.sum(1).clamp(min=1)
        return Encoded(tokens_nld, mask_nl, pooled)


@lru_cache(maxsize=256)
def _positions(shape: tuple[int, ...], width: int) -> Tensor:
    """(L, width) sinusoidal codes of a grid: each axis has its own share of the channels."""
    half = width // (2 * len(shape))
    rates = torch.exp(-math.log(10_000.0) / half * torch.arange(half))
    codes = torch.zeros(*shape, width)
    for axis, size in enumerate(shape):
        angles = torch.arange(size)[:, None] * rates
        code = torch.cat([angles.sin(), angles.cos()], dim=1)
        along = [size if a == axis else 1 for a in range(len(shape))]
        start = 2 * half * axis
        codes[..., start : start + 2 * half] = code.view(*along, 2 * half)
    return codes.flatten(0, -2)
