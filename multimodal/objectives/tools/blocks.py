"""What is done to every entry of a block of logits, in as few passes as the device allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


def fold(
    logits: Float[Tensor, "r c"], maximum: Float[Tensor, " r"], total: Float[Tensor, " r"]
) -> tuple[Float[Tensor, " r"], Float[Tensor, " r"], Float[Tensor, " r"]]:
    """Take a block (r, c) into its rows' running maximum and sum of exp, (r,) each.

    Returns the block's own highest logits, the new maximum and the new sum.
    """
    highest = logits.amax(1)
    above = torch.maximum(maximum, highest)
    inside = (logits - above[:, None]).exp_().sum(1)
    return highest, above, total * (maximum - above).exp() + inside


def scaled_exp(
    logits: Float[Tensor, "r c"], maximum: Float[Tensor, " r"], factor: Float[Tensor, " r"]
) -> Float[Tensor, "r c"]:
    """(r, c): factor * exp(logits - maximum), maximum and factor of each row, (r,)."""
    return (logits - maximum[:, None]).exp_().mul_(factor[:, None])


def exact_softplus(x: Tensor) -> Tensor:
    """log(1 + exp x), x itself from 40 on: exact also in float64."""
    return softplus(x, threshold=40.0)


@cache
def fused(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """The function as one kernel on a GPU, where a pass over a block costs as much as its product;
    elsewhere as it is.
    """
    return torch.compile(function, dynamic=True) if device == "cuda" else function
