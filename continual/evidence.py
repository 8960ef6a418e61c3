"""How much to shrink: by the marginal likelihood, from the sums that a closed form is fitted from.

Type-II maximum likelihood (empirical Bayes; MacKay 1992, "Bayesian interpolation"). Nothing is
tuned on a test set, no recording is needed again, and the answer is a function of the sums alone,
so it depends on neither the order nor the batches of a stream.

Why not the usual criteria of the same sums: generalised cross-validation (Golub, Heath & Wahba
1979) has no minimum to speak of while there are fewer recordings than features, for the first
half of a small stream; oracle approximating shrinkage (Chen et al. 2010) makes the error of a
covariance small, which its largest eigenvalues rule, where scores take its inverse.
"""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

# Candidates, four a decade: ridges in mean eigenvalues of the Gram matrix; recordings' worth of
# prior.
RIDGES = 10.0 ** torch.arange(-8, 2.01, 0.25, dtype=torch.float64)
PRIORS = 10.0 ** torch.arange(-4, 4.01, 0.25, dtype=torch.float64)
_TINY = torch.finfo(torch.float64).tiny


def evidence_ridge(
    gram: Float64[Tensor, "hidden hidden"],
    cross: Float64[Tensor, "hidden classes"],
    *,
    squares: float,
    count: float,
    classes: int,
) -> tuple[float, Float64[Tensor, "hidden classes"]]:
    """The ridge l that explains the targets best, and W = (A + l I)^-1 Q with it.

    Each column of Y is X w + noise, with w ~ N(0, (v / l) I) and noise of variance v, one for all
    columns and at its own maximum. Up to a constant, minus twice the log likelihood is

        n C log(|Y|^2 - tr Q^T (A + l I)^-1 Q) + C sum_j log(1 + s_j / l)

    with the eigenvalues s_j of A; the difference is summed without cancelling. The least ridge of
    the grid where nothing tells them apart. gram: A = X^T X (H, H). cross: Q = X^T Y (H, C'), of
    which C columns are not zero. squares: |Y|^2. count: n. classes: C. Costs a decomposition of A.
    """
    values, vectors = torch.linalg.eigh(gram)
    rotated = vectors.T @ cross
    unit = float(values.mean()) or 1.0
    ridges = RIDGES.to(gram)[:, None] * unit
    there = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    s, power = values[there], rotated[there].square().sum(1)
    outside = max(squares - float((power / s).sum()), 0.0)
    unexplained = outside + (ridges * power / (s * (s + ridges))).sum(1)
    fit = count * classes * unexplained.clamp(min=_TINY).log()
    ridge = ridges[(fit + classes * torch.log1p(s / ridges).sum(1)).argmin(), 0]
    # Q has no part in directions that A lacks; what rounding put there would be divided by l.
    return float(ridge), vectors[:, there] @ (rotated[there] / (s + ridge)[:, None])


def evidence_shrinkage(scatter: Float64[Tensor, "dim dim"], freedom: float) -> float:
    """The share e in (0, 1] of u I, u = tr(S) / (m D), in (1 - e) S / m + e u I.

    That is the mean of the posterior of a covariance with prior inverse Wishart(a u I, D + 1 + a),
    whose mean is u I, and e = a / (m + a): a is the prior's worth in recordings, at the maximum of

        nu D / 2 log(a u) - (nu + m) / 2 log det(S + a u I)
            + log Gamma_D((nu + m) / 2) - log Gamma_D(nu / 2),   nu = D + 1 + a

    The share is the same for all multiples of S. scatter: S (D, D), of m degrees of freedom. 1
    where m < 1 or S is zero.
    """
    values = torch.linalg.eigvalsh(scatter).clamp(min=0)
    if freedom < 1 or values[-1] <= 0:
        return 1.0
    size, worth = len(values), PRIORS.to(scatter)
    prior = worth * values.mean() / freedom
    nu = size + 1 + worth
    log_det = (values + prior[:, None]).log().sum(1)
    gammas = torch.mvlgamma((nu + freedom) / 2, size) - torch.mvlgamma(nu / 2, size)
    likelihood = nu * size / 2 * prior.log() - (nu + freedom) / 2 * log_det + gammas
    best = float(worth[likelihood.argmax()])
    return best / (freedom + best)
