"""DEXML: objectives of retrieval with several right answers, decoupled softmax and soft top-k.

Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", arXiv 2310.10636. With scores
s (cosines / tau) of one signal, P its positives::

    decoupled  = -1/|P| sum_{l in P} log[ e^{s_l} / (e^{s_l} + sum_{n not in P} e^{s_n}) ]
    soft top-k = -1/|P| sum_{l in P} log p_l,  p_l = sigmoid(alpha (s_l + t)) with t such that
                 sum_l p_l = k

An ordinary softmax over several positives pushes the better ones down; the decoupled one lets
positives alone. With one positive it is InfoNCE. Soft top-k is done when all positives are among
the k highest, whatever their order.

t is found by bisection, from -max s - (10 + log(n / k)) / alpha to -min s + 10 / alpha (n
candidates; without the logarithm, as released, k cannot be reached once n / k > 22,000). Its
gradient is implicit: dt/ds_i = -v_i / sum v with v = p (1 - p). What is no candidate is minus
infinity (released: -100). The released configurations draw one positive a step; here all are used.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Bool, Float, Shaped
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.tools.blocks import exact_softplus
from multimodal.objectives.tools.several_right import RowLoss, of_labels, of_pairs
from multimodal.objectives.tools.top_k import soft_top_k_logits
from multimodal.objectives.views import Views


class DexmlConfig(AlignmentConfig):
    """Base of both. scale: 1 / tau, published 20, fixed. candidates: texts, those of the batch, of
    which equal ones are positives (mask_duplicates: false: the own one alone); or labels, the
    class prompts of learner cwcl, of which a recording's classes are positives, those of which
    nothing is known neither, and classes that were not met yet no candidates; a recording without
    any is skipped. both_ways: texts choose among signals too (ours; published: signals alone).
    """

    masks: ClassVar[bool] = True

    scale: float = Field(default=20.0, ge=1, le=1000)
    learn_scale: bool = False
    mask_duplicates: bool = True
    candidates: Literal["texts", "labels"] = "texts"
    both_ways: bool = False

    @property
    def row_name(self) -> str:
        labels = " of labels" if self.candidates == "labels" else ""
        ways = ", both ways" if self.both_ways else ""
        return f"{self.registered_name}{labels}{ways}{self.scale_words}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "candidates", "both_ways")

    @property
    def needs_labels(self) -> bool:
        return self.candidates == "labels"

    @model_validator(mode="after")
    def _labels_choose_nothing(self) -> Self:
        if self.needs_labels and self.both_ways:
            raise ValueError("both_ways: labels choose nothing; set candidates=texts, or leave out")
        return self

    @property
    def row_loss(self) -> RowLoss:
        """What a signal's scores cost."""
        raise NotImplementedError

    def of_views(self, views: Views, *, gather: bool) -> Loss:
        """ValueError: candidates=labels without labels, or with several modalities."""
        if not self.needs_labels:
            return super().of_views(views, gather=gather)
        if views.labels is None or len(views.signals) != 1:
            raise ValueError(
                f"objective {self.registered_name!r}: candidates=labels goes by the classes of one "
                "modality's recordings, in learner cwcl; set candidates=texts."
            )
        (name,) = views.signals
        texts, targets, shown = views.labels
        return of_labels(
            self.row_loss,
            views.embeddings[name],
            texts,
            views.scale,
            positives=(targets == 1) & shown,
            candidates=~targets.isnan() & shown,
            present=views.present.get(name),
            tile=self.tile,
        )

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        return of_pairs(
            self.row_loss,
            pairs.signals,
            pairs.texts,
            pairs.scale,
            ids=pairs.ids if self.mask_duplicates else None,
            both_ways=self.both_ways,
            present=pairs.present,
            gather=gather,
            tile=self.tile,
        )


@OBJECTIVES.register("decoupled_softmax")
class DecoupledSoftmaxConfig(DexmlConfig):
    """Softmax of each positive against the negatives alone; see ``dexml.py``.

    Settings: those of ``DexmlConfig``.
    """

    @property
    def row_loss(self) -> RowLoss:
        return decoupled_rows


@OBJECTIVES.register("soft_top_k")
class SoftTopKConfig(DexmlConfig):
    """All positives among the k highest scores; see ``dexml.py``. k: None: as many as a signal has
    positives. alpha: how hard the choice is. Other settings: those of ``DexmlConfig``.
    """

    k: int | None = Field(default=None, ge=1)
    alpha: float = Field(default=2.0, gt=0, allow_inf_nan=False)

    @property
    def row_name(self) -> str:
        k = "" if self.k is None else f", k {self.k}"
        alpha = "" if self.alpha == 2 else f", alpha {self.alpha:g}"
        return f"{super().row_name}{k}{alpha}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "k", "alpha")

    @property
    def row_loss(self) -> RowLoss:
        return lambda *scored: top_k_rows(*scored, k=self.k, alpha=self.alpha)


def decoupled_softmax(
    signals: Float[Tensor, "..."],
    texts: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    positives: Shaped[Tensor, "..."] | None = None,
    candidates: Shaped[Tensor, "..."] | None = None,
    ids: Shaped[Tensor, "..."] | None = None,
    both_ways: bool = False,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """Decoupled softmax of the module's docstring, the mean over the signals with a positive.

    With ``positives`` (N, M) bool: N signals (N, D) choose among M label texts (M, D), of which
    those in ``candidates`` (N, M) bool count (None: all); no gather, for all processes have the
    same labels. Without: texts (N, D) go with the signals row by row, and those of equal ``ids``
    (N,) are positives (None: the own one alone); both_ways: the mean with texts that choose among
    signals. scale, present: as in ``contrastive.py``; gather too. tile: signals that are compared
    with all texts at a time. In float32 (float64 stays), also under autocast.
    terms: a_to_b (and b_to_a), accuracy (a positive scores above all negatives; ties are wrong),
    positives and candidates (mean numbers), scale. ValueError: what does not fit.
    """
    if positives is None:
        return of_pairs(
            decoupled_rows,
            signals,
            texts,
            scale,
            ids=ids,
            both_ways=both_ways,
            present=present,
            gather=gather,
            tile=tile,
        )
    return of_labels(
        decoupled_rows,
        signals,
        texts,
        scale,
        positives=positives,
        candidates=candidates,
        present=present,
        tile=tile,
    )


def soft_top_k(
    signals: Float[Tensor, "..."],
    texts: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    k: int | None = None,
    alpha: float = 2.0,
    positives: Shaped[Tensor, "..."] | None = None,
    **options: Any,
) -> Loss:
    """Soft top-k of the module's docstring. k: None: as many as a signal has positives; where k is
    not below the number of candidates all are chosen, and the loss is 0. alpha > 0. All else as in
    ``decoupled_softmax``.
    """
    if k is not None and k < 1:
        raise ValueError(f"k: {k}; give at least 1, or None for each signal's own number.")

    def rows(scores: Tensor, own: Tensor, candidates: Tensor) -> Tensor:
        return top_k_rows(scores, own, candidates, k=k, alpha=alpha)

    if positives is None:
        return of_pairs(rows, signals, texts, scale, **options)
    return of_labels(rows, signals, texts, scale, positives=positives, **options)


def decoupled_rows(
    scores: Float[Tensor, "rows labels"],
    positives: Bool[Tensor, "rows labels"],
    candidates: Bool[Tensor, "rows labels"],
) -> Float[Tensor, " rows"]:
    """Of scores (R, M), already divided by tau, the loss of each row; 0 without a positive."""
    negatives = candidates & ~positives
    lowest = torch.finfo(scores.dtype).min
    rest = scores.masked_fill(~negatives, lowest).logsumexp(1)
    each = exact_softplus(rest[:, None] - scores).masked_fill(~positives, 0.0)
    return each.sum(1) / positives.sum(1).clamp(min=1)


def top_k_rows(
    scores: Float[Tensor, "rows labels"],
    positives: Bool[Tensor, "rows labels"],
    candidates: Bool[Tensor, "rows labels"],
    *,
    k: int | None = None,
    alpha: float = 2.0,
) -> Float[Tensor, " rows"]:
    """As ``decoupled_rows``."""
    number, most = positives.sum(1), candidates.sum(1)
    asked = number if k is None else torch.full_like(number, k)
    counts = (number > 0) & (asked < most)
    logits = soft_top_k_logits(scores, asked.clamp(min=1), candidates, alpha=alpha)
    each = -logsigmoid(logits).masked_fill(~(positives & counts[:, None]), 0.0)
    return each.sum(1) / number.clamp(min=1)
