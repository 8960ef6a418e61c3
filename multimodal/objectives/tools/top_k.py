"""Soft top-k: sigmoids of scores that add up to k, with the gradient of their threshold."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn.functional import logsigmoid

STEPS = 32


def soft_top_k_logits(
    scores: Float[Tensor, "rows labels"],
    k: Shaped[Tensor, " rows"],
    candidates: Bool[Tensor, "rows labels"],
    *,
    alpha: float = 2.0,
) -> Float[Tensor, "rows labels"]:
    """(R, M) alpha (s + t): the sigmoids of a row's candidates add up to its k, 1 <= k < number of
    candidates. With the implicit gradient of t; what stands where no candidate is means nothing.
    """
    scores = scores.masked_fill(~candidates, 0.0)
    with torch.no_grad():
        t = _threshold(scores, k.to(scores.dtype), candidates, alpha)
        x = alpha * (scores + t)
        # Logarithms of v: it underflows where every candidate is far from t.
        log_v = (logsigmoid(x) + logsigmoid(-x)).masked_fill(~candidates, -torch.inf)
        none = ~candidates.any(1, keepdim=True)
        share = log_v.masked_fill(none, 0.0).softmax(1)
    moved = (share * (scores - scores.detach())).sum(1, keepdim=True)
    return alpha * (scores + t - moved)


def _threshold(s: Tensor, k: Tensor, candidates: Tensor, alpha: float) -> Tensor:
    """(R, 1) t."""
    n, inf = candidates.sum(1).clamp(min=1).to(s.dtype), torch.inf
    none = ~candidates.any(1)
    high = s.masked_fill(~candidates, -inf).amax(1).masked_fill(none, 0.0)
    low = s.masked_fill(~candidates, inf).amin(1).masked_fill(none, 0.0)
    below = -high - (10 + (n / k).log().clamp(min=0)) / alpha
    above = -low + 10 / alpha
    s = s.masked_fill(~candidates, -inf)  # whose sigmoid is 0
    p = torch.empty_like(s)
    for _ in range(STEPS):
        middle = (below + above) / 2
        torch.add(s, middle[:, None], out=p)
        small = p.mul_(alpha).sigmoid_().sum(1) < k
        below, above = torch.where(small, middle, below), torch.where(small, above, middle)
    return ((below + above) / 2)[:, None]
