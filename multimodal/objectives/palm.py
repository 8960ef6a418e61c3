"""PALM: every class is a mixture of prototypes on the sphere, kept as running means.

Lu et al., "Learning with Mixture of Prototypes for Out-of-Distribution Detection", ICLR 2024,
arXiv:2402.02653; equations of its authors' code, the paper's form of L_MLE from public notes on it
(a reconstruction). Of C classes with K unit prototypes p_k^c each, unit rows z_i of class y_i, B
rows::

    1 assign   Sinkhorn, 3 rounds, of e^(Z P^T / eps) over all C K prototypes; w^c_ik: of each
               class its top-k, normalised to a sum of 1; w_ik = w^(y_i)_ik, without gradient
    2 update   p_k <- norm(m p_k + (1 - m) sum_i wh_ik z_i), wh = w normalised over i
    3 L_MLE    code:  -mean_i [ sum_k w_ik s_ik^(y_i) - lse_{c,k} s_ik^c ],  s = p.z / tau
               paper: -mean_i log[ sum_k w_ik e^(s_ik^(y_i)) / sum_{c,k} w^c_ik e^(s_ik^c) ]
    4 L_proto  SupCon over the C K prototypes after the update, with a temperature of its own
    L = L_MLE + contrast L_proto

The code's form is a bound of the paper's (the sum moved out of the logarithm, the denominator lost
its weights). Old prototypes are buffers, so L_proto reaches the encoder through (1 - m) wh z alone:
nearly nothing at the published m = 0.999. ``contrast_on="means"``, ours, contrasts what the batch
itself says of each prototype.

We deviate: prototypes begin anywhere on the sphere (there in its positive part); one assignment
serves update and loss (there a second one is made, with the first one's top-k); with K = 1 a
prototype has no positives, and L_proto is 0. It takes classes, so it is no objective of pairs by
name: a learner calls ``Palm``. Novelty scores are in ``evaluation/out_of_distribution.py``.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from multimodal.objectives import Loss
from multimodal.objectives.contrastive import supervised_contrastive
from multimodal.objectives.tools.gather import Rows, unit
from multimodal.objectives.tools.sinkhorn import sinkhorn
from multimodal.objectives.tools.tiled import own_precision

Form = Literal["code", "paper"]
ContrastOn = Literal["prototypes", "means"]


class Outcome(NamedTuple):
    """loss, and the prototypes (C, K, D) after the update, without gradient."""

    loss: Loss
    prototypes: Tensor


class Palm(nn.Module):
    """The prototypes of C classes, and their loss. In training mode every call moves them.

    They are the buffer ``prototypes`` (C, K, D), which travels with the model that holds this.
    seed: of where they begin. Other arguments as in ``palm``.
    """

    prototypes: Tensor

    def __init__(
        self,
        classes: int,
        width: int,
        *,
        per_class: int = 6,
        nearest: int = 5,
        seed: int = 0,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        momentum: float = 0.999,
        contrast: float = 1.0,
        contrast_on: ContrastOn = "prototypes",
        form: Form = "code",
    ) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(seed)
        start = torch.randn(classes, per_class, width, generator=random)
        self.register_buffer("prototypes", normalize(start, dim=2))
        self.nearest, self.temperature, self.epsilon = nearest, temperature, epsilon
        self.momentum, self.contrast = momentum, contrast
        self.contrast_on: ContrastOn = contrast_on
        self.form: Form = form

    def forward(
        self,
        z: Float[Tensor, "..."],
        labels: Int[Tensor, " batch"],
        *,
        known: Bool[Tensor, " classes"] | None = None,
        present: Shaped[Tensor, "..."] | None = None,
        gather: bool = False,
    ) -> Loss:
        """z: (N, D). labels: (N,) of 0 .. C - 1. known: classes that take part, those of the labels
        among them; prototypes of others neither attract, repel nor move. None: all.
        """
        places = torch.arange(len(self.prototypes), device=z.device)
        if known is not None:
            places = known.nonzero()[:, 0]
            if present is not None:  # what an absent row's label says is nothing
                labels = torch.where(present, labels, known.int().argmax())
            refuse_labels(labels, known)
            labels = (known.cumsum(0) - 1)[labels]
        found = palm(
            z,
            labels,
            self.prototypes[places],
            nearest=self.nearest,
            temperature=self.temperature,
            epsilon=self.epsilon,
            momentum=self.momentum,
            contrast=self.contrast,
            contrast_on=self.contrast_on,
            form=self.form,
            present=present,
            gather=gather,
        )
        if self.training:
            self.prototypes[places] = found.prototypes.to(self.prototypes.dtype)
        return found.loss


def refuse_labels(labels: Tensor, known: Tensor) -> None:
    outside = (labels < 0) | (labels >= len(known))
    unknown = outside | ~known[labels.masked_fill(outside, 0)]
    if unknown.any():
        listed = ", ".join(str(int(label)) for label in labels[unknown].unique()[:5])
        raise ValueError(f"labels: {listed}; no known class, so it has no prototypes yet.")


def palm(
    z: Float[Tensor, "..."],
    labels: Int[Tensor, " batch"],
    prototypes: Float[Tensor, "classes k dim"],
    *,
    nearest: int = 5,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    rounds: int = 3,
    momentum: float = 0.999,
    contrast: float = 1.0,
    contrast_temperature: float = 0.5,
    contrast_on: ContrastOn = "prototypes",
    form: Form = "code",
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
) -> Outcome:
    """Loss of rows z (N, D) and where the prototypes go (module docstring).

    labels: (N,) integers of 0 .. C - 1; two views of a sample are two rows. prototypes: (C, K, D),
    unit; those of classes that the batch lacks stay where they are. nearest: top-k, at most K are
    meant. present: (N,) bool, rows that take part. gather: the batch is that of all processes, of
    which each has the whole value and moves its prototypes alike. It compares (B, C K), not (B, B),
    so it has no tiles.

    terms: mle, contrast (without its weight), assignment_entropy (mean over rows of that of w_ik,
    nats), accuracy (the class of the nearest prototype, before they move).
    ValueError: an option out of range, a label without prototypes.
    """
    _check(nearest, temperature, epsilon, momentum, contrast_on, form)
    rows = Rows(z, present, gather=gather)
    z, classes = rows.everyone(unit(rows.clean(z), "z")), rows.everyone(labels, grad=False)
    start = prototypes.detach().to(z.dtype)
    count, each = start.shape[:2]
    refuse_labels(classes, torch.ones(count, dtype=torch.bool, device=z.device))
    if len(z) == 0:
        return Outcome(Loss(z.sum(), {}), start)
    with own_precision(z):
        logits = z.detach() @ start.flatten(0, 1).T
        weights = assign(logits.unflatten(1, (count, each)) / epsilon, nearest, rounds)
        own = weights[torch.arange(len(z), device=z.device), classes]
        sums, there = _batch_means(z, classes, own, count)
        moved = normalize(momentum * start + (1 - momentum) * sums, dim=2)
        moved = torch.where(there[..., None], moved, start)
        cosines = (z @ moved.detach().flatten(0, 1).T).unflatten(1, (count, each))
    mle = _mle(cosines / temperature, classes, weights, own, form).mean()
    value, terms = mle, {"mle": mle.detach()}
    if contrast:
        means = torch.where(there[..., None], normalize(sums, dim=2), start)
        apart = _contrast(moved if contrast_on == "prototypes" else means, contrast_temperature)
        value, terms["contrast"] = value + contrast * apart, apart.detach()
    terms["assignment_entropy"] = torch.special.entr(own).sum(1).mean()
    terms["accuracy"] = (logits.argmax(1) // each == classes).float().mean()
    return Outcome(Loss(value, terms), moved.detach())


@torch.no_grad()
def assign(
    logits: Float[Tensor, "batch classes k"], nearest: int, rounds: int = 3
) -> Float[Tensor, "batch classes k"]:
    """w^c_ik: balanced over all prototypes, of each class the top-k alone, with a sum of 1."""
    balanced = sinkhorn(logits.flatten(1), rounds=rounds).view_as(logits)
    # By logarithms: far classes have shares near the smallest number there is.
    logs = balanced.clamp_min(torch.finfo(logits.dtype).tiny).log()
    if nearest < logits.shape[2]:
        kept = logs.topk(nearest, dim=2).indices
        logs = torch.full_like(logs, -torch.inf).scatter(2, kept, logs.gather(2, kept))
    return logs.softmax(2)


def _batch_means(
    z: Tensor, labels: Tensor, own: Tensor, classes: int
) -> tuple[Float[Tensor, "classes k dim"], Bool[Tensor, "classes k"]]:
    """sum_i wh_ik z_i of each prototype, and which have any weight in the batch."""
    member = one_hot(labels, classes).to(z.dtype)
    mass = torch.einsum("nc,nk->ck", member, own)
    sums = torch.einsum("nc,nk,nd->ckd", member, own, z)
    return sums / mass.masked_fill(mass == 0, 1.0)[..., None], mass > 0


def _mle(
    logits: Tensor, labels: Tensor, weights: Tensor, own: Tensor, form: Form
) -> Float[Tensor, " batch"]:
    mine = logits[torch.arange(len(logits), device=logits.device), labels]
    if form == "code":
        return logits.flatten(1).logsumexp(1) - (own * mine).sum(1)
    return _weighted(logits.flatten(1), weights.flatten(1)) - _weighted(mine, own)


def _weighted(logits: Tensor, weights: Tensor) -> Tensor:
    """log sum w e^x; finite, since some weight of each row is above 0."""
    return (logits + weights.clamp_min(torch.finfo(logits.dtype).tiny).log()).logsumexp(1)


def _contrast(prototypes: Tensor, temperature: float) -> Tensor:
    classes, each, _ = prototypes.shape
    labels = torch.arange(classes, device=prototypes.device).repeat_interleave(each)
    scale = prototypes.new_tensor(1 / temperature)
    return supervised_contrastive(prototypes.flatten(0, 1), labels, scale).value


def _check(
    nearest: int,
    temperature: float,
    epsilon: float,
    momentum: float,
    contrast_on: str,
    form: str,
) -> None:
    if nearest < 1:
        raise ValueError(f"nearest: {nearest}; give at least 1 prototype.")
    for name, value in (("temperature", temperature), ("epsilon", epsilon)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}: {value}; give a number above 0.")
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum: {momentum}; give a number in [0, 1].")
    for name, value, valid in (
        ("contrast_on", contrast_on, ("prototypes", "means")),
        ("form", form, ("code", "paper")),
    ):
        if value not in valid:
            raise ValueError(f"{name}: {value!r}; choose one of {', '.join(valid)}.")
