"""The order in which iCaRL takes exemplars: greedily, towards the mean of their class."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

TIE = 1e-12  # distances that differ by less are equal: rounding depends on the machine


def herding_order(features: Float[Tensor, "items dim"], count: int) -> Int64[Tensor, " chosen"]:
    """(min(count, N),) int64 positions of exemplars, best first (iCaRL, algorithm 4).

    features: (N, D), finite. With phi the L2-normalised features (an all-zero row stays zero) and
    mu their mean, the k-th exemplar p_k is the row not chosen yet that minimises
    || mu - 1/k (phi(p_k) + sum_{j < k} phi(p_j)) ||; of equal rows the first. Any prefix of the
    result is the result for a smaller count. O(N D) per exemplar, in float64 on the CPU.
    """
    phi = torch.nn.functional.normalize(features.detach().cpu().double(), dim=1)
    squared_norm, mean = phi.square().sum(1), phi.sum(0) / max(len(phi), 1)
    total, order = torch.zeros_like(mean), []
    for k in range(1, min(count, len(phi)) + 1):
        # ||k mu - total - phi||^2 without the part that all rows share.
        distance = squared_norm - 2 * (phi @ (k * mean - total))
        distance[order] = torch.inf
        order.append(int((distance <= distance.min() + TIE).nonzero()[0]))
        total += phi[order[-1]]
    return torch.tensor(order, dtype=torch.int64)
