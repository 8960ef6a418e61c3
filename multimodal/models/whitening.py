"""Whitening of what a linear map reads, by mean and covariance of the recordings counted.

Gradient descent on a linear map (a head, a projection) takes steps in proportion to the condition
number of its input's covariance, and an online stream has few: embeddings of a frozen encoder,
whose variances differ by 10^3 and more and whose mean is far from 0, leave it unfinished when the
stream is over. That is a fault of the baseline and no finding about streams: a closed form on the
same embeddings has no such trouble. In white coordinates all directions are learned at one rate.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from multimodal.errors import UserError

# The transform is made anew once the recordings have grown by this share.
GROWTH = 0.05


class Whitening(nn.Module):
    """``forward(f (N, D)) -> Z (f - m)``, Z = (S / n + eps u I)^-1/2, u = tr(S / n) / D (ZCA).

    m and S / n are mean and covariance of the n recordings counted, so over these the outputs have
    mean 0 and covariance C (C + eps u I)^-1 with C = S / n: 1 where the variance is far above
    eps u, and small where it is rounding. Z is the symmetric root: outputs stay as near as they can
    to the inputs, and nearly the same when the sums grow, so a head's weights keep their meaning
    and are left alone then. eps is in mean variances, so the scale of the embeddings is no matter.
    The identity before anything is counted. Never in half precision, whose rounding of the large
    variances would drown the small ones.

    ``count``, ``mean`` (D,), ``scatter`` S (D, D): of all recordings, merged a batch at a time
    (Chan, Golub & LeVeque 1979), float64. ``used``: the count at which ``shift`` m and ``matrix`` Z
    were made, float32. In a stream (``update``): at the first batch, and when a batch has brought
    the count 5 % above it, so some 90 times in 16,000 recordings (batches of 32); each is a
    decomposition of (D, D), on one core 3 ms at D = 96 and 0.2 s at 768. All are buffers, so they
    are in every checkpoint; none is trained.
    """

    count: Tensor
    mean: Tensor
    scatter: Tensor
    used: Tensor
    shift: Tensor
    matrix: Tensor

    def __init__(self, width: int, *, eps: float = 1e-2) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(width, width, dtype=torch.float64))
        self.register_buffer("used", torch.zeros((), dtype=torch.int64))
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("matrix", torch.eye(width))

    @torch.no_grad()
    def update(self, features: Float[Tensor, "batch dim"]) -> None:
        """``add``, and ``refresh`` where the count has grown by 5 %."""
        self.add(features)
        count, used = int(self.count), int(self.used)
        if count > used and count >= (1 + GROWTH) * used:
            self.refresh()

    @torch.no_grad()
    def add(self, features: Float[Tensor, "batch dim"]) -> None:
        """Count recordings, none of which was counted before; ``forward`` stays what it is.

        UserError for NaN or infinity, which would stay for good.
        """
        new = len(features)
        if new == 0:
            return
        f = features.detach().to(self.mean)
        if not bool(f.isfinite().all()):
            raise UserError(
                "whiten: the encoder gives NaN or infinity for some recordings; leave them out, or "
                "leave whiten out."
            )
        old, middle = int(self.count), f.mean(0)
        apart, within = middle - self.mean, f - middle
        self.scatter += within.T @ within + torch.outer(apart, apart) * (old * new / (old + new))
        self.mean += apart * (new / (old + new))
        self.count += new

    @torch.no_grad()
    def refresh(self) -> None:
        """From now on ``forward`` is of all recordings counted so far."""
        values, vectors = torch.linalg.eigh(self.scatter / self.count)
        values = values.clamp(min=0)
        floor = self.eps * values.mean()
        if floor > 0:  # not after a single recording, whose variance is unknown
            root = (values + floor).rsqrt()
            self.matrix.copy_((vectors * root) @ vectors.T)
        self.shift.copy_(self.mean)
        self.used.copy_(self.count)

    def forward(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch dim"]:
        with torch.autocast(features.device.type, enabled=False):
            return (features.float() - self.shift) @ self.matrix

    @torch.no_grad()
    def folded(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """W (C, D) and b (C,) of a head on whitened inputs -> those of the same head on raw ones.

        W Z and b - W Z m: what is to outlast the transform of its time is kept like that.
        """
        raw = weight.double() @ self.matrix.double()
        return raw.to(weight), (bias.double() - raw @ self.shift.double()).to(bias)
