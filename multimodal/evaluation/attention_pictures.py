"""From the relevance of tokens to the axes of what the encoder saw.

Values stay raw: between tokens they are interpolated, and only a display may stretch them. An X-ray
or a frame has (H, W), a video (F, H, W), a recording (T,) features along time, and a spectrogram
that is read in patches (AST) (bands, frames).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose1d, interpolate

from multimodal.batch import Features
from multimodal.errors import UserError
from multimodal.evaluation.attention_maps import TokenMap, unwrapped

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def picture(encoder: nn.Module, features: Features, tokens: TokenMap) -> Tensor:
    """(N, *axes) of ``features.values``, without their channels; float32 >= 0, raw.

    A token of the ECG transformer is spread over the samples that it reads, and averaged where
    tokens overlap; there is no map of a single lead, for a token reads all. UserError: an encoder
    whose tokens have no known places.
    """
    base = unwrapped(encoder)
    shape = tuple(features.values.shape)
    values_NP = tokens.values[:, tokens.extra :]
    grid, axes = places(base, shape, values_NP.shape[1])
    reads = getattr(base, "reads", None)
    if reads is not None:
        return spread(values_NP, shape[-1], *reads)
    return resized(values_NP, grid, axes)


def places(base: Any, shape: tuple[int, ...], count: int) -> tuple[tuple[int, ...], tuple]:
    """Tokens along each axis, and the axes' sizes."""
    config = getattr(getattr(base, "model", None), "config", None)
    if config is None:
        grid, axes = base.grid(shape), shape[2:]
    elif config.model_type == "audio-spectrogram-transformer":
        grid, axes = base.model.embeddings.get_shape(config), shape[1:]
    elif len(shape) == 5:  # videos: patches of some frames
        patch = (config.tubelet_size, config.patch_size, config.patch_size)
        grid, axes = tuple(n // p for n, p in zip(shape[2:], patch, strict=True)), shape[2:]
    elif len(shape) == 4:
        grid, axes = tuple(n // config.patch_size for n in shape[2:]), shape[2:]
    else:
        grid, axes = (count,), shape[2:]
    grid = tuple(int(n) for n in grid)
    if torch.Size(grid).numel() != count:
        raise UserError(
            f"encoder {type(base).__name__}: {count} tokens do not fill a grid of {grid}, so that "
            "their places in the picture are unknown."
        )
    return grid, axes


def resized(values_NP: Tensor, grid: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """(N, *axes): linear between the middles of tokens."""
    grid_N1G = values_NP.unflatten(1, (1, *grid))
    return interpolate(grid_N1G, axes, mode=MODES[len(grid)], align_corners=False)[:, 0]


def spread(values_NP: Tensor, samples: int, window: int, stride: int) -> Tensor:
    """(N, samples): token k over samples stride k to stride k + window - 1, the mean of those that
    read a sample; samples that none reads have 0."""
    ones = values_NP.new_ones(1, 1, window)
    total_N1T = conv_transpose1d(values_NP[:, None], ones, stride=stride)
    count_11T = conv_transpose1d(torch.ones_like(values_NP[:1, None]), ones, stride=stride)
    mean_NT = (total_N1T / count_11T.clamp(min=1))[:, 0]
    out_NT = values_NP.new_zeros(len(values_NP), samples)
    out_NT[:, : mean_NT.shape[1]] = mean_NT[:, :samples]
    return out_NT
