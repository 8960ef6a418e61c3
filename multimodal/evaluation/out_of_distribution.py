"""Is this recording of a class that training never saw? Distances from the training features.

The score is that of SSD+ (Sehwag et al. 2021) as PALM uses it (Lu et al. 2024, arXiv:2402.02653):
features of length 1, one mean mu and one covariance of all training recordings,
``-(x - mu)^T Sigma^+ (x - mu)``. We deviate from PALM's code, which subtracts the mean of the raw
features once more after it has standardised them; no figure of the paper is to be compared.
"""

from __future__ import annotations

import numpy as np
import torch

from multimodal.errors import UserError
from multimodal.evaluation.embeddings import Embeddings, finite_rows, unit_rows
from multimodal.evaluation.multi_label import auroc

ACCEPTED = 0.95  # share of known recordings that the threshold of ``fpr95`` lets through


class Mahalanobis:
    """Of the training features (N, D), N >= 2: their mean and the pseudo-inverse of their
    covariance.

    normalise: features are scaled to length 1 first. Where they do not span the space (N <= D, or
    channels that are constant or copies), distances count only what lies in their span.
    UserError: NaN, fewer than two features, all of them one point.
    """

    def __init__(self, features: Embeddings, *, normalise: bool = True) -> None:
        self._read = unit_rows if normalise else finite_rows
        rows = self._read(features)
        if len(rows) < 2:
            raise UserError(f"{len(rows)} training features are too few; give at least 2.")
        self.mean, deviation = rows.mean(dim=0), rows.std(dim=0, correction=0)
        noise = 1e-12 * float(rows.abs().max())
        if not (deviation > noise).any():
            raise UserError("all training features are one point; distances from it mean nothing.")
        # Channels of equal spread: what the pseudo-inverse takes for zero is then relative to each.
        self.spread = torch.where(deviation > noise, deviation, torch.inf)
        standard = (rows - self.mean) / self.spread
        covariance = standard.T @ standard / len(rows)
        self.inverse = torch.linalg.pinv(covariance, rtol=1e-10, hermitian=True)

    def scores(self, features: Embeddings) -> np.ndarray:
        """(M, D) -> (M,) float64, at most 0; the higher, the more like the training features."""
        rows = self._read(features)
        if rows.shape[1:] != self.mean.shape:
            raise UserError(
                f"features have {rows.shape[1]} dimensions and those of training {len(self.mean)}."
            )
        apart = (rows - self.mean) / self.spread
        return -((apart @ self.inverse) * apart).sum(dim=1).clamp(min=0).numpy()


def out_of_distribution_metrics(known: np.ndarray, novel: np.ndarray) -> dict[str, float]:
    """``ood_auroc``: the probability that a known recording scores above a novel one, ties counting
    half. ``ood_fpr95``: the share of the novel ones that pass the highest threshold which at least
    95 % of the known ones pass (a score equal to it does). Both in [0, 1].

    known, novel: (N,), (M,) scores, the higher the more known. UserError: one is empty, or NaN.
    """
    sides = {"known": np.asarray(known, np.float64), "novel": np.asarray(novel, np.float64)}
    for name, scores in sides.items():
        if scores.ndim != 1 or not len(scores) or np.isnan(scores).any():
            raise UserError(
                f"{name} scores have shape {scores.shape} and {int(np.isnan(scores).sum())} NaN; "
                "give one score or more, none of them NaN."
            )
    inside, outside = sides.values()
    joined = np.concatenate([inside, outside])[:, None]
    is_known = np.repeat([1.0, 0.0], [len(inside), len(outside)])[:, None]
    last = int(np.ceil(ACCEPTED * len(inside) - 1e-9)) - 1
    threshold = np.sort(inside)[::-1][last]
    return {
        "ood_auroc": float(auroc(joined, is_known)[0]),
        "ood_fpr95": float(np.mean(outside >= threshold)),
    }
