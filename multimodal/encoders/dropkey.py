"""DropKey: keys of attention are dropped before the softmax, in training only.

Li et al., "DropKey for Vision Transformer", CVPR 2023; in MoRE (Thapa et al., arXiv:2410.16239)
"linear attention dropping". Each entry of the scores is removed independently (per recording, head,
query and key) with the ratio of its layer; the softmax renormalises, so nothing is rescaled.

MoRE's code writes its schedule where nothing reads it, so that 0.3 acts in every layer; here the
schedule acts, and "constant" with 0.3 is what that code computes. That code adds -1e12 to scores,
which is -inf in half precision, so a row without keys would be NaN; here every row keeps a key.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Schedule = Literal["linear", "constant"]
# Rows so unlikely to lose every key that none ever does: fewer than one in 10^18.
NEVER = 1e-18
LARGEST = np.finfo(np.float32).max


def ratios(p0: float, depth: int, schedule: Schedule = "linear") -> list[float]:
    """Of each layer. linear: p0 (1 - l / (depth - 1)), from p0 to exactly 0; constant: p0."""
    if schedule == "constant" or depth == 1:
        return [p0] * depth
    return [p0 * (depth - 1 - layer) / (depth - 1) for layer in range(depth)]


def dropped_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ratio: float,
    *,
    valid: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """``scaled_dot_product_attention`` with DropKey: (N, heads, L, d) three times -> the same.

    ratio, valid, generator: see ``draw_keys``; with ratio 0 nothing is drawn.
    """
    if not ratio:
        mask = None if valid is None else valid[:, None, None]
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    shape = (query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    keep = draw_keys(shape, ratio, valid=valid, device=query.device, generator=generator)
    mask = additive(keep, query.dtype) if query.device.type == "cpu" else keep
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)


def draw_keys(
    shape: tuple[int, int, int, int],
    ratio: float,
    *,
    valid: Tensor | None = None,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
) -> Tensor:
    """(N, heads, queries, keys) bool: True where a key stays.

    shape: of the result. ratio: in [0, 1). valid: (N, keys) bool, False at padding, which is never
    kept; each recording needs a valid key. A row that would lose every valid key keeps one of
    them, drawn evenly. generator: None is torch's own, as for dropout.
    """
    if torch.device(device).type == "cpu":
        keep = _bernoulli(shape, ratio, generator)
    else:
        keep = torch.rand(shape, device=device, generator=generator) >= ratio
    fewest = shape[-1]
    if valid is not None:
        keep &= valid[:, None, None]
        fewest = int(valid.sum(-1).min())
    if ratio**fewest > NEVER:
        lost = (~keep.any(-1)).nonzero()
        if len(lost):
            weights = torch.ones(shape[0], shape[-1], device=device) if valid is None else valid
            key = torch.multinomial(weights[lost[:, 0]].float(), 1, generator=generator)
            keep[(*lost.T, key[:, 0])] = True
    return keep


def additive(keep: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where True, float32's lowest number where False: beside any key that stays its weight is 0.

    What the attention of a CPU makes of a boolean mask itself, which takes several times as long.
    """
    score = np.multiply(keep.numpy().view(np.int8) - np.int8(1), LARGEST, dtype=np.float32)
    return torch.from_numpy(score).to(dtype)


def _bernoulli(shape: tuple[int, ...], ratio: float, generator: torch.Generator | None) -> Tensor:
    """On the CPU, True with probability 1 - ratio, exactly.

    Drawing floats takes a third as long as the attention they are for, so an entry takes one random
    byte: it is dropped below the whole part of 256 ratio, kept above it, and on it (one entry of
    256) decided by the rest in a draw of its own. NumPy compares bytes ten times faster than torch.
    """
    count = torch.Size(shape).numel()
    words = torch.empty(-(-count // 8), dtype=torch.int64)
    drawn = words.random_(-(2**63), None, generator=generator).numpy().view(np.uint8)[:count]
    edge, rest = divmod(256 * ratio, 1)
    undecided = np.flatnonzero(drawn == int(edge)) if rest else []
    keep = np.greater_equal(drawn, int(edge), out=drawn.view(np.bool_))  # new memory costs as much
    keep[undecided] = torch.rand(len(undecided), generator=generator).numpy() >= rest
    return torch.from_numpy(keep).view(shape)
