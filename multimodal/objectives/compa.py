"""CompA: contrast with composed captions, hard negatives and modular, a reconstruction.

Ghosh et al., "CompA: Addressing the Gap in Compositional Reasoning in Audio-Language Models", ICLR
2024, arXiv 2310.08753. The paper's body was not available to us: the losses are those that reviews
quote from it and the authors' code. With unit signals a_i and main texts t_i of N cases, s the
scale, texts p_ik that are true of signal i (p_i1 = t_i) and texts n_ik that are false of it::

    R_i        = sum_{j != i} exp s <a_i, t_j> + sum_k exp s <a_i, n_ik>
    l_ik(a->t) = -log  exp s <a_i, p_ik> / (exp s <a_i, p_ik> + R_i)              "own"
    l_ik(a->t) = -log  exp s <a_i, p_ik> / (sum_k' exp s <a_i, p_ik'> + R_i)      "all"
    l_ik(t->a) = -log  exp s <p_ik, a_i> / sum_j exp s <p_ik, a_j>
    value      = 1/2N sum_i mean_k [l_ik(a->t) + l_ik(t->a)]

Only the case itself sees its p_ik, k > 1, and n_ik. Without them it is InfoNCE; with n_ik alone the
stage of hard negatives. "all" is the authors' code: positives compete with each other, so its
minimum is the logarithm of their number; "own", ours, has the minimum 0. Where we deviate: the
authors multiply what a row may not see with -100,000, which at a negative cosine becomes the
largest logit of all, and we leave it out of the sum; their modular stage contrasts a process's own
batch, ours that of all. Ours: texts that weigh differently, signals n^a_im that the main text is
false of (exp s <t_i, n^a_im> joins the sum of l_i1(t->a); a part of the text may be true of them,
so no other text sees them), and keys, equal where texts mean the same: no candidates of each other.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal, Self, get_args

import torch
from jaxtyping import Float, Shaped
from pydantic import Field, model_validator
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.composed import ComposedConfig
from multimodal.objectives.pairs import Pairs
from multimodal.objectives.tools.beside import Beside
from multimodal.objectives.tools.blocks import exact_softplus
from multimodal.objectives.tools.gather import Rows, same_ids, scalar, scaled, two_way, unit_pair
from multimodal.objectives.tools.tiled import Block, Targets, choose

Denominator = Literal["own", "all"]


@OBJECTIVES.register("compa_hard_negatives")
class HardNegativesConfig(ComposedConfig):
    """CompA's stage of hard negatives, a reconstruction; see ``compa.py``."""

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        negatives, allowed = self.asked(pairs, "negatives")
        signals, allowed_signals = self.asked(pairs, "negative_signals")
        return hard_negatives(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            negatives=negatives,
            allowed=allowed,
            negative_signals=signals,
            allowed_signals=allowed_signals,
            gather=gather,
            **self.options(pairs),
        )


@OBJECTIVES.register("compa_modular")
class ModularConfig(ComposedConfig):
    """CompA's modular contrast, a reconstruction; see ``compa.py``.

    positives: texts a case besides the main one that are true of its signal, as ``negatives``.
    denominator: own (positives do not compete), all (they do, the released code). positive_weights:
    of the main text and each positive, positives + 1 numbers; None: equal.
    """

    positives: int = Field(default=5, ge=0, le=64)
    negatives: int = Field(default=5, ge=0, le=64)
    denominator: Denominator = "own"
    positive_weights: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] | None = None

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "positives", "denominator", "positive_weights")

    @property
    def extra_texts(self) -> dict[str, int]:
        positives = {"positives": self.positives} if self.positives else {}
        return {**positives, **super().extra_texts}

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        weights = self.positive_weights
        if weights is not None and len(weights) != self.positives + 1:
            raise ValueError(
                f"positive_weights has {len(weights)} numbers; give {self.positives + 1}, for the "
                "main text and each of the positives"
            )
        return self

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        positives, allowed_positives = self.asked(pairs, "positives")
        negatives, allowed_negatives = self.asked(pairs, "negatives")
        signals, allowed_signals = self.asked(pairs, "negative_signals")
        weights, count = self.positive_weights, 0 if positives is None else positives.shape[1]
        return modular(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            positives=positives,
            allowed_positives=allowed_positives,
            negatives=negatives,
            allowed_negatives=allowed_negatives,
            denominator=self.denominator,
            positive_weights=None if weights is None else torch.tensor(weights[: count + 1]),
            negative_signals=signals,
            allowed_signals=allowed_signals,
            gather=gather,
            **self.options(pairs),
        )


def hard_negatives(
    signals: Float[Tensor, "..."],
    texts: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    negatives: Float[Tensor, "..."] | None = None,
    allowed: Shaped[Tensor, "..."] | None = None,
    negative_signals: Float[Tensor, "..."] | None = None,
    allowed_signals: Shaped[Tensor, "..."] | None = None,
    ids: Shaped[Tensor, "..."] | None = None,
    keys: Shaped[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """Stage HN: ``modular`` whose only positive is the main text; ``allowed`` is of ``negatives``.

    The mean over the cases of ``-1/2 [log softmax of a_i over all t_j and its own n_ik, at t_i]``
    and of ``-1/2 [log softmax of t_i over all a_j and its own n^a_im, at a_i]``.
    """
    return modular(
        signals,
        texts,
        scale,
        negatives=negatives,
        allowed_negatives=allowed,
        negative_signals=negative_signals,
        allowed_signals=allowed_signals,
        ids=ids,
        keys=keys,
        present=present,
        gather=gather,
        tile=tile,
    )


def modular(
    signals: Float[Tensor, "..."],
    texts: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    positives: Float[Tensor, "..."] | None = None,
    allowed_positives: Shaped[Tensor, "..."] | None = None,
    negatives: Float[Tensor, "..."] | None = None,
    allowed_negatives: Shaped[Tensor, "..."] | None = None,
    denominator: Denominator = "own",
    positive_weights: Float[Tensor, "..."] | None = None,
    negative_signals: Float[Tensor, "..."] | None = None,
    allowed_signals: Shaped[Tensor, "..."] | None = None,
    ids: Shaped[Tensor, "..."] | None = None,
    keys: Shaped[Tensor, "..."] | None = None,
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """Stage MC, the value of the module's docstring, in nats.

    signals, texts: (N, D), pairs by row, of any length (normalised inside, as all others); computed
        in float32 (float64 stays), also under autocast. scale: scalar tensor > 0, 1 / temperature.
    positives: (N, P, D) texts that are true of the signal besides the main one. negatives: (N, K,
        D) that are false. negative_signals: (N, M, D) that the main text is false of. allowed_...:
        (N, P), (N, K), (N, M) bool, which of them are there; None: all. The others are not read.
    positive_weights: (P + 1,) > 0, of the main text and the positives, normalised over those that a
        row has; None: equal. ids, keys: (N,) integers; cases of equal id (text) or key (meaning)
        are no candidates for each other.
    present, gather, tile: as in ``contrastive.py``. Only signals and main texts are gathered; all
        processes give positives or none does, P may differ.

    terms, of this process's rows: a_to_b, b_to_a (signal to text, text to signal),
    accuracy_a_to_b, accuracy_b_to_a (the own main one before those of other cases; ties are wrong),
    scale; with negatives accuracy_negatives (main text before all negatives of the row) and margin
    (its cosine minus the highest of theirs), both over rows that have some; positives, negatives:
    mean numbers that a row has. ValueError if a shape does not fit or an option is out of range.
    """
    if denominator not in get_args(Denominator):
        valid = ", ".join(get_args(Denominator))
        raise ValueError(f"denominator: {denominator!r}; choose one of {valid}.")
    rows = Rows(signals, present, gather=gather)
    a, b = unit_pair(rows.clean(signals), rows.clean(texts), names=("signals", "texts"))
    scale = scalar(scale, "scale", a.dtype)
    beside = partial(Beside, like=a, rows=rows)
    true = beside(positives, allowed_positives, name="positives")
    false = beside(negatives, allowed_negatives, name="negatives")
    unlike = beside(negative_signals, allowed_signals, name="negative_signals")
    weights = _weights(positive_weights, true, a.dtype)
    excluded = _excluded(ids, keys, a, rows)
    targets = Targets(rows.first, excluded=excluded, decoupled=True)
    forth, back = two_way(a, b, scale, (targets, targets), rows, tile=tile)

    # Logits, and sums of them, are less that of the own pair: exact also for confident rows.
    mine, main = rows.own(a), rows.own(b)
    own = (mine * main).sum(1, keepdim=True)
    units, of_true = true.cosines(mine)
    of_false, of_unlike = false.cosines(mine)[1], unlike.cosines(main)[1]
    rivals = false.joined(forth.losses, scale * (of_false - own))
    a_to_b = _each_text(rivals, scale * (of_true - own), true, denominator)
    of_main = exact_softplus(unlike.joined(back.losses, scale * (of_unlike - own)))
    b_to_a = [of_main]
    if positives is not None:
        columns, units = scaled(rows.everyone(a), units, scale)
        single = (Targets(rows.first, excluded=excluded),)
        b_to_a += [choose(x, columns, single, tile=tile)[0].losses for x in units.unbind(1)]
    forth_losses = (weights * a_to_b).sum(1)
    back_losses = (weights * torch.stack(b_to_a, 1)).sum(1)
    terms = {
        "a_to_b": rows.own_mean(forth_losses.detach()),
        "b_to_a": rows.own_mean(back_losses.detach()),
        "accuracy_a_to_b": rows.own_mean(forth.right.float()),
        "accuracy_b_to_a": rows.own_mean(back.right.float()),
        "scale": scale.detach(),
        **_of_extras(own[:, 0], of_false, true, false, rows),
    }
    return Loss((rows.mean(forth_losses) + rows.mean(back_losses)) / 2, terms)


def _each_text(rivals: Tensor, others: Tensor, true: Beside, denominator: str) -> Tensor:
    """(n, P + 1) losses of the main text, whose logit is 0, and of the others (n, P); a finite
    number where one is not there. rivals: (n,) log R_i.
    """
    wanted = torch.cat([torch.zeros_like(rivals)[:, None], others], 1)
    if denominator == "own":
        return exact_softplus(rivals[:, None] - wanted)
    return true.joined(exact_softplus(rivals), others)[:, None] - wanted


def _weights(weights: Tensor | None, true: Beside, dtype: torch.dtype) -> Tensor:
    """(n, P + 1), of sum 1, of the main text and the others that are there."""
    shares = torch.cat([true.there.new_ones(len(true.there), 1), true.there], 1).to(dtype)
    if weights is not None:
        if weights.shape != shares.shape[1:] or not (weights > 0).all():
            raise ValueError(
                f"positive_weights: {weights.tolist()}; give {shares.shape[1]} numbers above 0, "
                "for the main text and each positive."
            )
        shares = shares * weights.detach().to(shares.device, dtype)
    return shares / shares.sum(1, keepdim=True)


def _excluded(ids: Tensor | None, keys: Tensor | None, a: Tensor, rows: Rows) -> Block | None:
    """Blocks that are True where two cases have the same text or meaning; None: no two have."""
    of_ids, of_keys = (
        None if x is None else same_ids(x, a, rows, name=name, own=False)
        for name, x in (("ids", ids), ("keys", keys))
    )
    if of_ids is None or of_keys is None:
        return of_ids or of_keys
    return lambda r, c: of_ids(r, c) | of_keys(r, c)


@torch.no_grad()
def _of_extras(
    own: Tensor, of_false: Tensor, true: Beside, false: Beside, rows: Rows
) -> dict[str, Tensor]:
    """Terms about the texts beside the main ones. own: (n,), of_false: (n, K) cosines."""
    terms = {}
    for name, texts in (("positives", true), ("negatives", false)):
        if texts.there.shape[1]:
            terms[name] = rows.own_mean(texts.there.sum(1).to(own.dtype))
    if false.there.shape[1]:
        some = false.there.any(1)
        margins = own - of_false.masked_fill(~false.there, -torch.inf).amax(1)
        count = some.sum().clamp(min=1)
        tie = 10 * torch.finfo(own.dtype).eps  # equal texts differ by rounding
        terms["accuracy_negatives"] = (some & (margins > tie)).sum() / count
        terms["margin"] = margins.masked_fill(~some, 0.0).sum() / count
    return terms
