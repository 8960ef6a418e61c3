"""Recordings longer than what a model reads at once: window after window, each as if alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

Forward = Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]]


def in_windows(forward: Forward, frames: Callable[[Any], int]) -> Forward:
    """``Family.forward`` for values (N, bands, windows x frames), from that of one window.

    frames: model -> those of a window. Tokens (N, windows x L, D); in windows that a recording does
    not reach none is real. A batch costs as many windows as its longest recording.
    """

    def run(model: Any, values: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        most = frames(model)
        if values.shape[2] <= most:
            return forward(model, values, lengths)
        parts, masks = [], []
        for at in range(0, values.shape[2], most):
            # One frame at least: a row without any would attend to nothing.
            left = (lengths - at).clamp(1, most)
            tokens, mask = forward(model, values[:, :, at : at + most], left)
            short = parts[0].shape[1] - tokens.shape[1] if parts else 0
            parts.append(pad(tokens, (0, 0, 0, short)))
            masks.append(pad(mask & (lengths > at)[:, None], (0, short)))
        return torch.cat(parts, dim=1), torch.cat(masks, dim=1)

    return run


def one_class_token(tokens: Tensor, mask: Tensor, windows: int) -> tuple[Tensor, Tensor]:
    """Of windows that each begin with a class token: the first token becomes the mean of theirs.

    A window counts as much as it has real tokens behind its class token. The other class tokens are
    real no longer. tokens: (N, windows x L, D), mask: (N, windows x L).
    """
    if windows == 1:
        return tokens, mask
    mask_NWL = mask.unflatten(1, (windows, -1)).clone()
    weight_NW = shares(mask, windows, class_tokens=1).to(tokens.dtype)
    class_NWD = tokens.unflatten(1, (windows, -1))[:, :, 0]
    mean_N1D = torch.einsum("nw,nwd->nd", weight_NW, class_NWD)[:, None]
    mask_NWL[:, 1:, 0] = False
    return torch.cat([mean_N1D, tokens[:, 1:]], dim=1), mask_NWL.flatten(1)


def shares(mask: Tensor, windows: int, *, class_tokens: int = 0) -> Tensor:
    """(N, windows): what a window has of a recording's real tokens; sums to 1.

    class_tokens: that many stand before those that count, in each window. mask: (N, windows x L).
    """
    count_NW = mask.unflatten(1, (windows, -1))[:, :, class_tokens:].sum(2)
    return count_NW / count_NW.sum(1, keepdim=True)
