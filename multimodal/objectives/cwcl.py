"""CWCL: continuously weighted contrastive loss, a reconstruction.

Srinivasa et al., "CWCL: Cross-Modal Transfer with Continuously Weighted Contrastive Loss", NeurIPS
2023, arXiv 2309.14580. The paper's body and code were not available to us: which direction carries
the weights, the map from cosine to weight and the temperature come from secondary sources, and
what they leave open is an option here. Nothing below is claimed to reproduce the paper.

With unit rows p_i (trained) and q_i (frozen) of N pairs, s the scale and anchor "trained"::

    W_ij = (<q_i, q_j> + 1) / 2, W_ii = 1        without gradient
    T_ij = W_ij / sum_k W_ik
    weighted = -1/N sum_ij T_ij log softmax_j(s <p_i, q_j>)[j]
    plain    = -1/N sum_i       log softmax_j(s <q_i, p_j>)[i]
    value    = weighted + plain

With anchor "frozen" p and q change places in the logits; W stays. The minimum of ``weighted`` is
the entropy H of the targets, almost log N, not 0.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import ClassVar, Literal, Self

from jaxtyping import Float, Shaped
from pydantic import Field, model_validator
from torch import Tensor

from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.objectives.tools.gather import (
    Rows,
    same_ids,
    two_way,
    unit,
    unit_pair,
)
from multimodal.objectives.tools.tiled import Block, Choice, Targets, own_pairs


@OBJECTIVES.register("cwcl")
class CwclConfig(AlignmentConfig):
    """Continuously weighted contrastive loss, a reconstruction; see ``cwcl.py``.

    anchor: whose rows the weights belong to. kernel, sharpness, plain_weight: off by default.
    """

    masks: ClassVar[bool] = True
    needs_frozen_text: ClassVar[bool] = True

    anchor: Literal["trained", "frozen"] = "trained"
    kernel: Literal["linear", "power", "exp", "threshold"] = "linear"
    sharpness: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    plain_weight: float = Field(default=1.0, ge=0)

    @property
    def row_name(self) -> str:
        return (
            f"{self.registered_name}{KERNEL_WORDS[self.kernel](self.sharpness)}{self.scale_words}"
        )

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "kernel", "sharpness")

    @model_validator(mode="after")
    def _sharpness_fits(self) -> Self:
        if (self.kernel == "linear") != (self.sharpness is None):
            raise ValueError("the kernels power, exp and threshold need a sharpness; linear none")
        return self

    def loss(self, pairs: Pairs, *, gather: bool) -> Loss:
        return cwcl(
            pairs.signals,
            pairs.texts,
            pairs.scale,
            anchor=self.anchor,
            similarity_source=pairs.source,
            kernel=self.kernel,
            sharpness=self.sharpness,
            plain_weight=self.plain_weight,
            ids=pairs.ids if self.mask_duplicates else None,
            present=pairs.present,
            gather=gather,
            tile=self.tile,
        )


# Sharpness -> what the name of a row says.
KERNEL_WORDS: dict[str, Callable[[float | None], str]] = {
    "linear": lambda _: " (linear, reconstruction)",
    "power": lambda alpha: f", power kernel (ours, {alpha:g})",
    "exp": lambda tau: f", sharpened (ours, {tau:g})",
    "threshold": lambda cut: f", threshold kernel (ours, {cut:g})",
}
# (W in [0, 1], sharpness) -> weights in [0, 1].
KERNELS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "linear": lambda w, _: w,
    "power": lambda w, alpha: w**alpha,
    "exp": lambda w, tau: (2 * (w - 1) / tau).exp(),
    "threshold": lambda w, cut: w.masked_fill(w < cut, 0.0),
}


def cwcl(
    trained: Float[Tensor, "..."],
    frozen: Float[Tensor, "..."],
    scale: Float[Tensor, "..."],
    *,
    anchor: Literal["trained", "frozen"] = "trained",
    similarity_source: Float[Tensor, "..."] | None = None,
    kernel: Literal["linear", "power", "exp", "threshold"] = "linear",
    sharpness: float | None = None,
    centre: Float[Tensor, " source_dim"] | None = None,
    plain_weight: float = 1.0,
    ids: Shaped[Tensor, " batch"] | None = None,
    reduction: Literal["sum", "mean"] = "sum",
    present: Shaped[Tensor, "..."] | None = None,
    gather: bool = False,
    tile: int | None = None,
) -> Loss:
    """One direction with continuous targets plus the other as InfoNCE (module docstring).

    trained, frozen: (N, D), pairs by row; computed in float32 (float64 stays), also under autocast.
    ``frozen`` may have a gradient (of a head); the weights never do. scale: scalar tensor > 0.
    similarity_source: (N, D2) what W is made from if not ``frozen``: a frozen encoder's output
        before any trained head.
    kernel, sharpness: "power": W ** sharpness; "exp": exp((cosine - 1) / sharpness); "threshold":
        W, but 0 below sharpness; W_ii stays 1. "linear" is W and takes no sharpness.
    centre: (D2,) mean of the normalised source over the training captions, a fixed vector; it is
        taken off, and the rest normalised again, before W.
    plain_weight: factor of ``plain``. ids: (N,) integers; in ``plain``, pairs of equal id (text)
        are no candidates for each other. reduction: "mean" halves the value.
    present, gather, tile: as in ``contrastive.py``.

    terms, of this process's rows: weighted, plain, target_entropy H, kl (weighted - H: plot this),
    effective_positives exp(H), true_pair_mass (mean T_ii), mean_offdiag_cosine (of what W is made
    from), scale, accuracy_trained_to_frozen, accuracy_frozen_to_trained (own pair first; ties are
    wrong). ValueError if an option is out of range or a shape does not fit.
    """
    _check_options(anchor, reduction, kernel, sharpness)
    rows = Rows(trained, present, gather=gather)
    p, q = unit_pair(rows.clean(trained), rows.clean(frozen), names=("trained", "frozen"))
    source = _source(frozen if similarity_source is None else similarity_source, centre, rows, p)
    mine, everyone = rows.own(source), rows.everyone(source, grad=False)
    excluded = None if ids is None else same_ids(ids, p, rows, name="ids", own=False)
    targets = (
        Targets(rows.first, weights=_weights(mine, everyone, rows.first, kernel, sharpness)),
        Targets(rows.first, excluded=excluded),
    )
    a, b = (p, q) if anchor == "trained" else (q, p)
    forth, back = two_way(a, b, scale, targets, rows, tile=tile)
    value = rows.mean(forth.losses) + plain_weight * rows.mean(back.losses)
    terms = {
        **_diagnostics(forth, back, anchor, rows),
        "mean_offdiag_cosine": _mean_offdiag_cosine(mine, everyone),
        "scale": scale.detach(),
    }
    if plain_weight == 0 and len(mine):
        _warn_if_flat(terms["true_pair_mass"].item() * len(everyone))
    return Loss(value / 2 if reduction == "mean" else value, terms)


def _diagnostics(forth: Choice, back: Choice, anchor: str, rows: Rows) -> dict[str, Tensor]:
    weighted, entropy = rows.own_mean(forth.losses.detach()), rows.own_mean(forth.entropy)
    other = "frozen" if anchor == "trained" else "trained"
    return {
        "weighted": weighted,
        "plain": rows.own_mean(back.losses.detach()),
        "target_entropy": entropy,
        "kl": weighted - entropy,
        "effective_positives": entropy.exp(),
        "true_pair_mass": rows.own_mean(forth.mass.reciprocal()),  # W_ii is 1
        f"accuracy_{anchor}_to_{other}": rows.own_mean(forth.right.float()),
        f"accuracy_{other}_to_{anchor}": rows.own_mean(back.right.float()),
    }


def _warn_if_flat(times_uniform: float) -> None:
    if times_uniform < 1.5:
        warnings.warn(
            f"cwcl: with plain_weight=0 the targets alone must tell pairs apart, but a true pair "
            f"has only {times_uniform:.2f} times the uniform share; sharpen the kernel or give "
            "plain_weight a value above 0.",
            stacklevel=3,
        )


def _source(source: Tensor, centre: Tensor | None, rows: Rows, like: Tensor) -> Tensor:
    """Unit rows (N, D2) that W is made from, without gradient, in the dtype of ``like``."""
    if len(source) != len(like):
        raise ValueError(
            f"similarity_source: {len(source)} rows; give one for each of the {len(like)} pairs."
        )
    source = unit(rows.clean(source.detach()), "similarity_source").to(like.dtype)
    if centre is None:
        return source
    if centre.shape != source.shape[1:]:
        raise ValueError(
            f"centre: shape {tuple(centre.shape)}; give a vector of the source's width, "
            f"({source.shape[1]},)."
        )
    return unit(source - centre.detach().to(like.dtype), "similarity_source")


def _weights(
    source: Tensor, everyone: Tensor, first: int, kernel: str, sharpness: float | None
) -> Block:
    def block(r: slice, c: slice) -> Tensor:
        cosines = (source[r] @ everyone[c].T).clamp_(-1, 1)
        weights = KERNELS[kernel](cosines.add_(1).div_(2), sharpness or 0.0)
        own_pairs(weights, r, c, first)[1].fill_(1.0)
        return weights

    return block


def _mean_offdiag_cosine(source: Tensor, everyone: Tensor) -> Tensor:
    """Mean cosine of a row with another one, 0 if there is none; without the (N, N) matrix."""
    total = (source.sum(0) * everyone.sum(0)).sum() - (source * source).sum()
    return total / max(len(source) * (len(everyone) - 1), 1)


def _check_options(anchor: str, reduction: str, kernel: str, sharpness: float | None) -> None:
    for name, value, valid in (
        ("anchor", anchor, ("trained", "frozen")),
        ("reduction", reduction, ("sum", "mean")),
        ("kernel", kernel, tuple(KERNELS)),
    ):
        if value not in valid:
            raise ValueError(f"{name}: {value!r}; choose one of {', '.join(valid)}.")
    if kernel == "linear" and sharpness is not None:
        raise ValueError(f"sharpness: {sharpness}; the linear kernel takes none, leave it out.")
    if kernel != "linear" and (sharpness is None or not 0 < sharpness < float("inf")):
        raise ValueError(f"sharpness: {sharpness}; the {kernel} kernel needs a number above 0.")
