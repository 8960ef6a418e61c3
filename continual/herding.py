"""iCaRL's exemplars (Rebuffi et al. 2017): taken greedily, towards the mean of their class."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from continual.memory import CountingMemory
from multimodal.errors import UserError

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


class HerdingMemory(CountingMemory):
    """Exemplars of iCaRL (algorithms 4 and 5).

    Call ``update`` once per experience, with all its items and their features under the current
    model. Each class then holds at most m = capacity // (classes seen) exemplars, ranked by
    ``herding_order``; lists of earlier classes are cut to their first m. UserError where m is 0.
    Items lie class by class in the order of arrival (ascending within an experience), best first.

    iCaRL's classes never come back. If one does (a new domain, a blurry stream), its earlier and
    its new items share the m places by how many of each were seen; the best of either side are
    kept, and the two lists are merged evenly, so that a later cut keeps the shares too.
    """

    needs_features = True

    def _write(self, indices: Tensor, labels: Tensor, features: Tensor | None) -> None:
        if features is None or features.ndim != 2 or len(features) != len(indices):
            got = None if features is None else tuple(features.shape)
            raise ValueError(f"herding needs features ({len(indices)}, D), got {got}.")
        if not bool(torch.isfinite(features).all()):
            raise ValueError("herding features contain NaN or infinity.")
        classes = list(dict.fromkeys(self.labels.tolist() + labels.unique().tolist()))
        quota = self.capacity // max(len(classes), 1)
        if classes and not quota:
            need = f"herding {len(classes)} classes needs at least {len(classes)}"
            raise UserError(f"memory capacity {self.capacity}: {need}.")
        held, held_labels = self.indices, self.labels
        self._size = 0
        for label in classes:
            kept = held[held_labels == label]
            new = (labels == label).nonzero().squeeze(1)
            count = self._share(label, quota, len(kept), len(new))
            best = herding_order(features[new.to(features.device)], count)
            ranked = _merged(kept[: quota - count], indices[new[best]])
            start, self._size = self._size, self._size + len(ranked)
            self._indices[start : self._size] = ranked
            self._labels[start : self._size] = label
            self._seen[label] += len(new)

    def _share(self, label: int, quota: int, held: int, new: int) -> int:
        """Places that the new items of a class take: their share, and those that stand empty."""
        total = self._seen[label] + new
        share = (2 * quota * new + total) // (2 * total) if total else 0
        return min(new, max(share, quota - held))


def _merged(first: Int64[Tensor, " first"], second: Int64[Tensor, " second"]) -> Tensor:
    """Both lists in one, each in its order and evenly spread."""
    places = [(torch.arange(len(part)) + 0.5) / max(len(part), 1) for part in (first, second)]
    return torch.cat([first, second])[torch.cat(places).argsort(stable=True)]
