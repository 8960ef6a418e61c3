"""Classifiers of frozen features in closed form: no gradient, no order, no rehearsal.

Both hold sums over all recordings so far in float64, so they are exact: what they know after a
stream does not depend on its order or its batches (up to rounding). Scores are worked out when
they are first asked for after an update.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor


class StreamingLda:
    """Streaming linear discriminant analysis (Hayes & Kanan 2020, "Deep SLDA", arXiv:1909.01520).

    Running means mu_y with counts n_y and one within-class scatter S of all n recordings:

        d = f - mu_y;  S += d d^T n_y / (n_y + 1);  mu_y += d / (n_y + 1);  n_y += 1;  n += 1
        L = [(1 - e) S / n + e I]^-1,   score_c = f . L mu_c - mu_c . L mu_c / 2

    which equals the batch means and pooled covariance for any order; whole batches are merged at
    once. sigma="published": the paper's Sigma <- (n Sigma + d d^T n / (n + 1)) / (n + 1), whose
    total count lets the first recording of a class in with its full magnitude.

    width: D. shrinkage: e in (0, 1). ``means``: (C, D). ``counts``: (C,). ``scatter``: (D, D), S,
    or Sigma n of the published form.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        shrinkage: float = 1e-4,
        sigma: Literal["exact", "published"] = "exact",
        device: torch.device | str = "cpu",
    ) -> None:
        self.shrinkage, self.sigma = shrinkage, sigma
        kind: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self.means, self.counts = torch.zeros(num_classes, width, **kind), torch.zeros(num_classes)
        self.counts = self.counts.to(**kind)
        self.scatter = torch.zeros(width, width, **kind)
        self._solved: tuple[Tensor, Tensor] | None = None

    def update(self, features: Tensor, labels: Tensor) -> None:
        """features: (N, D), met in this order. labels: (N,) int64 in [0, C)."""
        f = features.detach().to(self.means)
        labels = labels.to(f.device)
        self._solved = None
        if self.sigma == "published":
            for row, label in zip(f, labels.tolist(), strict=True):
                self._publish(row, label)
            return
        member = torch.nn.functional.one_hot(labels, len(self.means)).to(f)
        new = member.sum(0)
        means = member.T @ f / new.clamp(min=1)[:, None]
        within, shift = f - means[labels], means - self.means
        total = self.counts + new
        weight = self.counts * new / total.clamp(min=1)
        self.scatter += within.T @ within + (shift * weight[:, None]).T @ shift
        self.means += shift * (new / total.clamp(min=1))[:, None]
        self.counts = total

    def _publish(self, row: Tensor, label: int) -> None:
        n = self.counts.sum()
        shift = row - self.means[label]
        # scatter holds n Sigma.
        self.scatter += torch.outer(shift, shift) * n / (n + 1)
        self.means[label] += shift / (self.counts[label] + 1)
        self.counts[label] += 1

    def scores(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, C) float32, -inf for classes without a recording."""
        if self._solved is None:
            identity = torch.eye(len(self.scatter)).to(self.scatter)
            covariance = self.scatter / self.counts.sum().clamp(min=1)
            mixed = (1 - self.shrinkage) * covariance + self.shrinkage * identity
            weight = torch.cholesky_solve(self.means.T, torch.linalg.cholesky(mixed)).T
            self._solved = weight, (weight * self.means).sum(1) / 2
        weight, offset = self._solved
        found = features.detach().to(weight) @ weight.T - offset
        return found.masked_fill(self.counts == 0, float("-inf")).float()

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of means, counts and scatter."""
        state = {"means": self.means, "counts": self.counts, "scatter": self.scatter}
        return {name: value.clone() for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name in ("means", "counts", "scatter"):
            setattr(self, name, state[name].to(self.means).clone())
        self._solved = None


class RecursiveLeastSquares:
    """Ridge regression on random features (GACL, Zhuang et al. 2024, arXiv:2403.15706).

    x = relu(f V), V (D, H) fixed, uniform in +-1/sqrt(D), drawn from the seed. After any sequence
    of batches the weights are those of all recordings at once, W = (X^T X + gamma I)^-1 X^T Y,
    which the published recursion (``recursive_step``) reaches too; kept here are the sums
    A = X^T X and Q = X^T Y, solved by Cholesky when scores are asked for.

    hidden: H, or None for the features themselves. ridge: gamma > 0. repeat: how often each batch
    counts (released: 3, which is ridge / 3). num_classes: C; a class without a positive so far
    scores -inf. A and its factor take 16 H^2 bytes.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        hidden: int | None = 5000,
        ridge: float = 100.0,
        repeat: int = 1,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.ridge, self.repeat, self.projection = ridge, repeat, None
        if hidden is not None:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.rand(width, hidden, dtype=torch.float64, generator=generator)
            self.projection = ((2 * drawn - 1) / math.sqrt(width)).to(device)
        size = hidden or width
        kind: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self.gram = torch.zeros(size, size, **kind)
        self.cross = torch.zeros(size, num_classes, **kind)
        self.met = torch.zeros(num_classes, dtype=torch.bool, device=device)
        self._weight: Tensor | None = None

    def update(self, features: Tensor, targets: Tensor) -> None:
        """features: (N, D). targets: (N,) int64 labels, or (N, C) 0 and 1; ValueError for NaN."""
        x, targets = self._expanded(features), targets.to(self.gram.device)
        if targets.dim() == 1:
            targets = torch.nn.functional.one_hot(targets, len(self.met))
        elif targets.isnan().any():
            raise ValueError("targets are NaN where a label is unknown; regression needs them all.")
        self.gram += self.repeat * (x.T @ x)
        self.cross += self.repeat * (x.T @ targets.to(x))
        self.met |= (targets == 1).any(0)
        self._weight = None

    def scores(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, C) float32, -inf for classes not met."""
        if self._weight is None:
            ridged = self.gram.clone()
            ridged.diagonal().add_(self.ridge)
            self._weight = torch.cholesky_solve(self.cross, torch.linalg.cholesky(ridged))
        found = self._expanded(features) @ self._weight
        return found.masked_fill(~self.met, float("-inf")).float()

    def _expanded(self, features: Tensor) -> Tensor:
        f = features.detach().to(self.gram)
        return f if self.projection is None else (f @ self.projection).relu()

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the sums; the projection follows from the seed."""
        state = {"gram": self.gram, "cross": self.cross, "met": self.met}
        return {name: value.clone() for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name in ("gram", "cross", "met"):
            setattr(self, name, state[name].to(self.gram.device).clone())
        self._weight = None


def recursive_step(
    inverse: Tensor, weight: Tensor, x: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """One step of the published recursion, from R = I / gamma and W = 0.

        K = I + X R X^T;   R <- R - R X^T K^-1 X R;   W <- W + R X^T (Y - X W)

    inverse: R (H, H). weight: W (H, C). x: (N, H). targets: (N, C). All float64.
    """
    k = torch.eye(len(x)).to(x) + x @ inverse @ x.T
    inverse = inverse - inverse @ x.T @ torch.linalg.solve(k, x @ inverse)
    return inverse, weight + inverse @ x.T @ (targets - x @ weight)
