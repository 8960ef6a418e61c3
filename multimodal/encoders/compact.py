"""A small pre-norm transformer over convolutional tokens, trained from scratch, for all modalities.

Architecture after the Vision Transformer (Dosovitskiy et al. 2021) with pre-norm blocks (Xiong
et al. 2020), fixed sinusoidal positions (Vaswani et al. 2017), masked mean pooling, and a stem of
overlapping stride-2 convolutions instead of one linear patch embedding (Xiao et al. 2021, "Early
convolutions help transformers see better"). The stem runs over time (log-mel, ECG), over height
and width (X-ray), or over frames, height and width (video).
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import gelu

from multimodal.batch import Encoded
from multimodal.encoders import ENCODERS, Depth, EncoderConfig, Heads, Width, refuse_large
from multimodal.modalities import Adapter

# By number of axes: the convolution and its kernel size.
_CONVOLUTIONS = {1: (nn.Conv1d, 5), 2: (nn.Conv2d, 3), 3: (nn.Conv3d, 3)}


@ENCODERS.register("compact")
class CompactConfig(EncoderConfig):
    """width: D, a multiple of 2 x heads. patch: steps a token along each axis, a power of two.
    train: all of it, or none (it stays as it was initialised, or as a warm-up left it).
    """

    width: Width = 96
    depth: Depth = 3
    heads: Heads = 4
    patch: Literal[2, 4, 8, 16, 32] = 4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    train: Literal["all", "none"] = "all"

    @model_validator(mode="after")
    def _heads_divide_width(self) -> CompactConfig:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 2 x heads ({self.heads})")
        refuse_large(self.width, self.depth)
        return self

    def build(self, adapter: Adapter) -> CompactEncoder:
        encoder = CompactEncoder(
            adapter.channels,
            axes=adapter.axes,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            patch=self.patch,
            dropout=self.dropout,
        )
        return encoder.requires_grad_(self.train == "all")


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
        self.width, self.axes = width, axes
        convolution, kernel = _CONVOLUTIONS[axes]
        sizes = [channels] + [width] * (patch.bit_length() - 1)
        self.stem = nn.ModuleList(
            convolution(a, b, kernel, stride=2, padding=kernel // 2) for a, b in pairwise(sizes)
        )
        blocks = [
            nn.TransformerEncoderLayer(
                width,
                heads,
                dim_feedforward=4 * width,
                dropout=dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(depth)
        ]
        self.blocks, self.norm = nn.ModuleList(blocks), nn.LayerNorm(width)

    def grid(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Tokens along each axis, for features of this shape."""
        patch = 2 ** len(self.stem)
        return tuple(-(-size // patch) for size in shape[2:])

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """features: (N, channels, *axes) float; lengths: (N,) along the first axis."""
        assert features.dim() == 2 + self.axes, f"{self.axes} axes, not {tuple(features.shape)}"
        grid, lengths = features, lengths.to(features.device)
        for convolution in self.stem:
            grid, lengths = gelu(convolution(grid)), (lengths + 1) // 2
            # Else the next layer would see the bias of padded steps beside valid ones.
            grid = grid * _valid(grid, lengths).view(len(grid), 1, -1, *[1] * (self.axes - 1))
        shape, valid = tuple(grid.shape[2:]), _valid(grid, lengths)
        tokens_nld = grid.flatten(2).transpose(1, 2)
        tokens_nld = tokens_nld + _positions(shape, self.width).to(tokens_nld)
        mask_nl = valid.repeat_interleave(math.prod(shape[1:]), dim=1)
        for block in self.blocks:
            tokens_nld = block(tokens_nld, src_key_padding_mask=~mask_nl)
        tokens_nld = self.norm(tokens_nld)
        weights = mask_nl.unsqueeze(-1).to(tokens_nld.dtype)
        pooled = (tokens_nld * weights).sum(1) / weights.sum(1).clamp(min=1)
        return Encoded(tokens_nld, mask_nl, pooled)


def _valid(grid: Tensor, lengths: Tensor) -> Tensor:
    """(N, steps) True below each length along the first axis."""
    return torch.arange(grid.shape[2], device=grid.device) < lengths[:, None]


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
