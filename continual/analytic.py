"""Classifiers of frozen features in closed form: no gradient, no rehearsal.

They hold sums over all recordings so far in float64, so they are exact: what they know after a
stream does not depend on its order or its batches, up to rounding (``sigma="published"`` alone
does). What scores need is worked out when they are first asked for after an update, and is not in
the state. A refused batch or state (UserError, a ValueError) changes nothing.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float, Float32, Float64, Shaped
from torch import Tensor
from torch.nn.functional import one_hot

from continual.evidence import evidence_ridge, evidence_shrinkage
from multimodal.errors import UserError


class _Sums:
    """State that is some tensors of fixed shape, and what is solved from it, kept until it changes.

    ``_kept``: names of the tensors. ``_solved``: whatever the subclass caches, None when stale.
    """

    _kept: tuple[str, ...]
    _solved: Any = None

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of all that later calls depend on, but for the constructor's arguments."""
        return {name: getattr(self, name).clone() for name in self._kept}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on, bit for bit, from ``state_dict()`` of a model built with the same arguments.

        The tensors may lie on any device. UserError for other names or shapes.
        """
        shapes = {name: tuple(getattr(self, name).shape) for name in self._kept}
        found = {name: tuple(value.shape) for name, value in state.items()}
        if found != shapes:
            raise UserError(
                f"checkpoint of shapes {found} does not fit {type(self).__name__}, {shapes}: "
                "keep the encoder, the classes and the settings of the learner."
            )
        for name in self._kept:
            setattr(self, name, state[name].to(getattr(self, name), copy=True))
        self._solved = None


class StreamingLda(_Sums):
    """Streaming linear discriminant analysis (Hayes & Kanan 2020, "Deep SLDA", arXiv:1909.01520).

    Running means mu_y with counts n_y and one within-class scatter S of all n recordings, all
    zero at first:

        d = f - mu_y;  S += d d^T n_y / (n_y + 1);  mu_y += d / (n_y + 1);  n_y += 1;  n += 1
        L = [(1 - e) S / n + e I]^-1,   score_c = f . L mu_c - mu_c . L mu_c / 2

    sigma="exact" (default) deviates from the paper: this recurrence gives the batch means and the
    pooled covariance for any order, and is applied to a whole batch at once, by the pairwise merge
    of means and scatters (Chan, Golub & LeVeque 1979). sigma="published" is the paper's

        Sigma <- (n Sigma + d d^T n / (n + 1)) / (n + 1)

    whose total count n lets the first recording of a class, where mu_y = 0, in as f f^T with
    nearly its full magnitude: Sigma then mixes in the class means and depends on the order. Kept
    for comparison; it runs recording by recording. Neither form has the paper's optional base
    phase (Sigma from the first data, by the OAS estimator): that would need a phase with a known
    end, which our streams lack. Each recording counts once.

    width: D >= 1. num_classes: C >= 1. shrinkage: e in (0, 1], in units of the features, or "auto":
    then L = [(1 - e) S / m + e u I]^-1 with m = n - classes met, u the mean variance and e by
    ``evidence_shrinkage``, so that no scores depend on the scale of the features. ``means``:
    (C, D). ``counts``: (C,), whole numbers. ``scatter``: (D, D), S, or n Sigma of the published
    form. All float64.
    """

    _kept = ("means", "counts", "scatter")

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        shrinkage: float | Literal["auto"] = "auto",
        sigma: Literal["exact", "published"] = "exact",
        device: torch.device | str = "cpu",
    ) -> None:
        if shrinkage != "auto" and not 0 < shrinkage <= 1:
            raise UserError(f"shrinkage {shrinkage}: must be above 0 and at most 1, or auto.")
        if sigma not in ("exact", "published"):
            raise UserError(f"sigma {sigma!r}: must be 'exact' or 'published'.")
        self.shrinkage, self.sigma = shrinkage, sigma
        kind: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self.means = torch.zeros(num_classes, width, **kind)
        self.counts = torch.zeros(num_classes, **kind)
        self.scatter = torch.zeros(width, width, **kind)

    def update(self, features: Float[Tensor, "..."], labels: Shaped[Tensor, "..."]) -> None:
        """features: (N, D), finite, met in this order. labels: (N,) ints in [0, C)."""
        f = _finite(features, len(self.scatter), self.means)
        labels = _class_ids(labels.to(f.device), len(f), len(self.counts))
        self._solved = None
        if self.sigma == "published":
            for row, label in zip(f, labels.tolist(), strict=True):
                self._publish(row, label)
            return
        member = one_hot(labels, len(self.counts)).to(f)
        new = member.sum(0)
        total = self.counts + new
        means = member.T @ f / new.clamp(min=1)[:, None]
        within, shift = f - means[labels], means - self.means
        # Of a class without new recordings, shift has no meaning; both its weights are 0.
        merged = self.counts * new / total.clamp(min=1)
        self.scatter += within.T @ within + (shift * merged[:, None]).T @ shift
        self.means += shift * (new / total.clamp(min=1))[:, None]
        self.counts = total

    def _publish(self, row: Tensor, label: int) -> None:
        n = self.counts.sum()
        shift = row - self.means[label]
        self.scatter += torch.outer(shift, shift) * (n / (n + 1))
        self.means[label] += shift / (self.counts[label] + 1)
        self.counts[label] += 1

    def scores(self, features: Float[Tensor, "batch dim"]) -> Float32[Tensor, "batch classes"]:
        """(N, D) -> (N, C) float32, -inf for classes without a recording."""
        if self._solved is None:
            mixed = torch.linalg.cholesky(self._covariance())
            weight = torch.cholesky_solve(self.means.T, mixed)  # (D, C)
            self._solved = weight, (weight.T * self.means).sum(1) / 2
        weight, offset = self._solved
        found = features.detach().to(weight) @ weight - offset
        return found.masked_fill(self.counts == 0, -math.inf).float()

    def _covariance(self) -> Tensor:
        """(D, D) the shrunk covariance; I before there is a scatter to shrink."""
        count, e, unit = float(self.counts.sum()), self.shrinkage, 1.0
        if isinstance(e, str):
            count -= float((self.counts > 0).sum())
            e = evidence_shrinkage(self.scatter, count)
            unit = float(self.scatter.diagonal().mean()) / max(count, 1.0) or 1.0
        mixed = self.scatter * ((1 - e) / max(count, 1.0))
        mixed.diagonal().add_(e * unit)
        return mixed


class RecursiveLeastSquares(_Sums):
    """Ridge regression on random features (GACL, Zhuang et al. 2024, arXiv:2403.15706).

    x = relu(f V) with V (D, H) fixed, uniform in +-1 / sqrt(D) (the default of a linear layer),
    no bias. The weights are those of all recordings at once, W = (X^T X + gamma I)^-1 X^T Y, and
    a score is x W.

    Deviations from the paper and its code. Kept are the sums A = X^T X and Q = X^T Y, solved by
    Cholesky when scores are asked for, instead of R = (A + gamma I)^-1 by ``recursive_step``: the
    same W, but no solve per batch, and rounding does not build up in R. V comes from a seed of its
    own and is not in the state. Each batch counts once; the released code fits it three times,
    which is repeat=3 and equals ridge / 3. Targets may also be several labels or none a recording.

    The paper's gamma, 100, was for 50,000 images. gamma is in units of A, which grows with the
    recordings, so for a few hundred of them that is far too much: "auto" (default) takes the gamma
    of ``evidence_ridge`` at every solve, from the same sums, |Y|^2 and the number of recordings.
    An eigendecomposition instead of a Cholesky factor, it takes about ten times as long. H is
    1000 by default, not the paper's 5000.

    width: D >= 1. num_classes: C >= 1. hidden: H >= 1, or None for x = f. ridge: gamma > 0, or
    "auto". repeat: >= 1. ``gram``: A (H, H), ``cross``: Q (H, C), ``projection``: V, ``totals``:
    |Y|^2 and n (with "auto" alone), all float64. ``met``: (C,) bool, classes with a positive so
    far. A takes 8 H^2 bytes (200 MB at H = 5000), a solve for a moment about three times as much
    again.
    """

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        hidden: int | None = 1000,
        ridge: float | Literal["auto"] = "auto",
        repeat: int = 1,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        size = width if hidden is None else hidden
        if size < 1 or repeat < 1 or (ridge != "auto" and ridge <= 0):
            values = f"hidden {hidden}, ridge {ridge}, repeat {repeat}"
            raise UserError(f"{values}: hidden and repeat must be at least 1, ridge above 0.")
        self.width, self.ridge, self.repeat, self.projection = width, ridge, repeat, None
        if hidden is not None:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.rand(width, hidden, dtype=torch.float64, generator=generator)
            self.projection = ((2 * drawn - 1) / math.sqrt(width)).to(device)
        kind: dict[str, Any] = {"dtype": torch.float64, "device": device}
        self.gram = torch.zeros(size, size, **kind)
        self.cross = torch.zeros(size, num_classes, **kind)
        self.met = torch.zeros(num_classes, dtype=torch.bool, device=device)
        self.totals = torch.zeros(2, **kind)
        self._kept = ("gram", "cross", "met", *["totals"] * (ridge == "auto"))

    def update(self, features: Float[Tensor, "..."], targets: Shaped[Tensor, "..."]) -> None:
        """features: (N, D), finite. targets: (N,) int labels in [0, C), or (N, C) of 0 and 1."""
        x = self._expanded(_finite(features, self.width, self.gram))
        y = self._indicators(targets.detach().to(x.device), len(x)).to(x)
        self._solved = None
        self.gram.addmm_(x.T, x, alpha=self.repeat)
        self.cross.addmm_(x.T, y, alpha=self.repeat)
        self.met |= (y == 1).any(0)
        self.totals[0] += self.repeat * y.sum()  # of 0 and 1, so also of their squares
        self.totals[1] += len(y)

    def _indicators(self, targets: Tensor, count: int) -> Tensor:
        if targets.ndim == 1:
            return one_hot(_class_ids(targets, count, len(self.met)), len(self.met))
        if targets.shape != (count, len(self.met)):
            got = tuple(targets.shape)
            raise UserError(f"targets must be ({count}, {len(self.met)}), got {got}.")
        if bool(targets.isnan().any()):
            raise UserError("unknown labels (NaN) cannot be regressed on: drop those recordings.")
        if not bool(((targets == 0) | (targets == 1)).all()):
            raise UserError("targets must be 0 or 1.")
        return targets

    def scores(self, features: Float[Tensor, "batch dim"]) -> Float32[Tensor, "batch classes"]:
        """(N, D) -> (N, C) float32, -inf for classes without a positive so far."""
        found = self._expanded(features.detach().to(self.gram)) @ self.weight
        return found.masked_fill(~self.met, -math.inf).float()

    @property
    def weight(self) -> Float64[Tensor, "hidden classes"]:
        """W (H, C) float64, zero columns for classes without a positive; not to be changed."""
        if self._solved is None:
            self._solved = self._solve()
        return self._solved

    def _solve(self) -> Tensor:
        if isinstance(self.ridge, str):
            squares, count = self.totals.tolist()
            classes = int(self.met.sum())
            return evidence_ridge(
                self.gram, self.cross, squares=squares, count=count, classes=classes
            )[1]
        ridged = self.gram.clone()
        ridged.diagonal().add_(self.ridge)
        return torch.cholesky_solve(self.cross, torch.linalg.cholesky(ridged))

    def _expanded(self, features: Tensor) -> Tensor:
        return features if self.projection is None else (features @ self.projection).relu_()


def recursive_step(
    inverse: Float64[Tensor, "hidden hidden"],
    weight: Float64[Tensor, "hidden classes"],
    x: Float64[Tensor, "batch hidden"],
    targets: Float64[Tensor, "batch classes"],
) -> tuple[Float64[Tensor, "hidden hidden"], Float64[Tensor, "hidden classes"]]:
    """One step of GACL's recursion, from R = I / gamma and W = 0; the new (R, W).

        K = I + X R X^T;   R <- R - R X^T K^-1 X R;   W <- W + R X^T (Y - X W)

    inverse: R (H, H). weight: W (H, C). x: (N, H). targets: (N, C). All float64.
    """
    k = torch.eye(len(x)).to(x) + x @ inverse @ x.T
    inverse = inverse - inverse @ x.T @ torch.linalg.solve(k, x @ inverse)
    return inverse, weight + inverse @ x.T @ (targets - x @ weight)


def _finite(features: Tensor, width: int, like: Tensor) -> Tensor:
    """features in the dtype and on the device of ``like``; NaN or infinity would stay for good."""
    if features.shape[1:] != (width,) or not bool(features.isfinite().all()):
        got = tuple(features.shape)
        raise UserError(f"features must be (N, {width}) without NaN or infinity, got {got}.")
    return features.detach().to(like)


def _class_ids(labels: Tensor, count: int, num_classes: int) -> Tensor:
    if labels.shape != (count,) or labels.is_floating_point() or labels.dtype == torch.bool:
        got = tuple(labels.shape)
        raise UserError(f"labels must be ({count},) integers, got {got}, {labels.dtype}.")
    if bool(((labels < 0) | (labels >= num_classes)).any()):
        raise UserError(f"labels must lie in [0, {num_classes}), got {labels.unique().tolist()}.")
    return labels.long()
