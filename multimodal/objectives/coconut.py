"""COCONUT: contrast with an earlier self and with texts, a reconstruction.

Cappellazzo, Fini, Yang, Falavigna, Brutti, Raj, "Continual Contrastive Spoken Language
Understanding", Findings of ACL 2024, arXiv 2310.02699. The paper's body was not available to us and
its authors released no code; the losses below are rebuilt from their figure, an abstract and public
reviews, and what these leave open is an option. Nothing here is claimed to be the paper's equation.

With unit rows s_k of the student, t_k of its frozen teacher, tau the temperature, I the batch, I_r
its rehearsal samples, P(k) the samples of I_r that share a label with k, k itself included::

    term(k) = sum_p w_kp [ log sum_{z in Z(k)} exp(z) - s_k t_p / tau ] / sum_p w_kp,   p in P(k)
    NSPT    = mean of term(k) over k in I_r

Z(k), each entry divided by tau, is what the variants differ in; w is 1 (see ``overlap``). Between
signals a and texts x of the student, in a scope of samples::

    MM = mean_k term(k) with s = a, t = x, Z(k) = {a_k x_i}   and the same with a and x exchanged

Several labels a sample are an extension of ours. One process: negatives are not gathered from
others, so under data parallelism they are those of each process's own batch.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from multimodal.objectives import Loss
from multimodal.objectives.tools.kin import classes, firsts, kin
from multimodal.registry import Config

EPSILON = 1e-12
NsptVariant = Literal["literal", "ntpt", "exclude_self", "bounded", "new_only"]
Anchors = Literal["rehearsal", "all"]
Overlap = Literal["any", "jaccard"]
Scope = Literal["new", "all"]
Positives = Literal["same_class", "paired"]
Reduction = Literal["mean", "sum", "none"]


class CoconutConfig(Config):
    """Settings of COCONUT's contrast, a reconstruction; no objective of its own, because it takes
    a teacher and a memory. All values are defaults of ours: none could be read in the paper.

    temperature: by which cosines are divided. mm_temperature: of MM; None: the same. nspt, mm:
    weights of the two losses, 0 leaves one out. nspt_variant, overlap: as in ``nspt``.
    anchor_scope: ``anchors`` of ``nspt``. mm_scope, mm_positive: ``scope`` and ``positives`` of
    ``multimodal_contrast``. mm_tasks: whether MM is part of every task's loss or the first's alone.
    """

    temperature: float = Field(default=0.1, gt=0, le=100)
    mm_temperature: float | None = Field(default=None, gt=0, le=100)
    nspt: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    mm: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    nspt_variant: NsptVariant = "literal"
    anchor_scope: Anchors = "rehearsal"
    overlap: Overlap = "any"
    mm_scope: Scope = "new"
    mm_positive: Positives = "same_class"
    mm_tasks: Literal["every", "first"] = "every"

    @property
    def teacher_reads_all(self) -> bool:
        """Whether the teacher has to embed new samples too, not the rehearsal samples alone."""
        return self.nspt_variant == "ntpt" or self.anchor_scope == "all"

    def mm_in(self, task: int) -> bool:
        """Whether MM is part of the loss of a task, counted from 0."""
        return self.mm > 0 and (self.mm_tasks == "every" or task == 0)

    def nspt_loss(
        self, student: Tensor, teacher: Tensor, labels: Tensor, rehearsal: Tensor
    ) -> Float[Tensor, ""]:
        """``nspt`` with these settings, before its weight."""
        return nspt(
            student,
            teacher,
            labels,
            rehearsal,
            temperature=self.temperature,
            variant=self.nspt_variant,
            anchors=self.anchor_scope,
            overlap=self.overlap,
        )

    def mm_loss(
        self, signal: Tensor, text: Tensor, labels: Tensor, rehearsal: Tensor, **options: Any
    ) -> Loss:
        """``multimodal_contrast`` with these settings, before its weight. options: others of it."""
        return multimodal_contrast(
            signal,
            text,
            labels,
            rehearsal,
            temperature=self.temperature if self.mm_temperature is None else self.mm_temperature,
            scope=self.mm_scope,
            positives=self.mm_positive,
            overlap=self.overlap,
            **options,
        )


def nspt(
    student: Float[Tensor, "batch dim"],
    teacher: Float[Tensor, "batch dim"],
    labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    rehearsal: Bool[Tensor, " batch"],
    *,
    temperature: float = 0.1,
    variant: NsptVariant = "literal",
    anchors: Anchors = "rehearsal",
    overlap: Overlap = "any",
    reduction: Reduction = "mean",
) -> Float[Tensor, "..."]:
    """Negative-student positive-teacher loss of one modality (module docstring).

    student, teacher: (N, D), rows of any length, in pairs; computed in float32 (float64 stays),
    also under autocast. The teacher gets no gradient, student negatives do. labels: (N,) integers,
    or (N, C) targets, of which 1 is a label that the sample has and everything else, NaN too, one
    that it has not; a sample without labels is never an anchor. rehearsal: (N,) bool, from the
    memory; labels do not say so where classes come back.

    variant, the entries of Z(k), i in I:
        literal: s_k s_i, i = k too, so the loss is at least 0 and never 0 at its best;
        ntpt: s_k t_i, a loss that new samples get no gradient from;
        exclude_self: s_k s_i, i != k, unbounded below;
        bounded: s_k t_p, p in P(k), and s_k s_i of samples that share no label with k;
        new_only: s_k s_i of new samples, unbounded below.
    anchors: "all": every sample is an anchor, and P(k) is of the whole batch too (ours: new classes
        have no samples in the memory, so without this nothing would change). The teacher's rows of
        new samples are read by this and by ntpt alone; else anything may stand there, even NaN.
    overlap: the weight w of a positive: any: 1; jaccard: labels in common / labels of either.
    reduction: mean over the anchors, sum over them, or none: (N,), 0 where there is no anchor.

    Anchors without entries are left out; without any the loss is 0, with a gradient of 0.
    ValueError if an option is out of range.
    """
    _check(temperature, variant=variant, anchors=anchors, overlap=overlap, reduction=reduction)
    scope = rehearsal if anchors == "rehearsal" else torch.ones_like(rehearsal)
    teacher = teacher.detach()
    if variant != "ntpt":
        teacher = teacher.masked_fill(~scope[:, None], 0.0)
    with torch.autocast(student.device.type, enabled=False):
        s, t = _units(student, teacher)
        near = kin(labels, s.dtype)
        logits = (s / temperature) @ torch.cat([s, t]).T
        found = _terms(
            logits,
            _entries(variant, near.share, scope, rehearsal),
            logits[:, len(s) :],
            (near.overlap if overlap == "jaccard" else near.share.to(s.dtype)) * scope,
            scope,
        )
    return found.values if reduction == "none" else found.total(reduction)


def multimodal_contrast(
    signal: Float[Tensor, "batch dim"],
    text: Float[Tensor, "batch dim"],
    labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    rehearsal: Bool[Tensor, " batch"],
    *,
    temperature: float = 0.1,
    scope: Scope = "new",
    positives: Positives = "same_class",
    one_text_a_class: bool = False,
    overlap: Overlap = "any",
) -> Loss:
    """MM, the sum of both directions, each a mean over its anchors (module docstring).

    signal, text: (N, D), in pairs; labels, rehearsal, overlap and precision: as in ``nspt``.
    scope: which samples are anchors, positives and candidates: new ones, or all. positives: samples
        that share a label with the anchor, or its own pair alone. A sample without labels is a
        candidate, never an anchor.
    one_text_a_class: for texts that are made of classes, so rows of equal labels are equal: each
        set of labels then has one text, that of its first sample. Signals choose among these, as a
        classifier does, not among as many copies as there are samples; each is one anchor in the
        other direction. With fewer than two such texts the loss is 0: nothing is told apart.

    terms: signal_to_text, text_to_signal, classes (how many the samples in scope have; a scope of
    one class says nothing of classes). Without anchors the loss is 0, with a gradient of 0.
    ValueError if an option is out of range, or for pairs with one text a class.
    """
    _check(temperature, scope=scope, positives=positives, overlap=overlap)
    if one_text_a_class and positives == "paired":
        raise ValueError(
            "positives: 'paired' with one_text_a_class, where a text has several samples; choose "
            "same_class."
        )
    with torch.autocast(signal.device.type, enabled=False):
        a, x = _units(signal, text)
        near = kin(labels, a.dtype)
        weights = near.overlap if overlap == "jaccard" else near.share.to(a.dtype)
        if positives == "paired":
            weights = torch.eye(len(a), dtype=a.dtype, device=a.device)
        signals = ~rehearsal if scope == "new" else torch.ones_like(rehearsal)
        texts, anchors = signals, signals & near.labelled
        if one_text_a_class:
            texts = firsts(near.equal, signals)
            anchors = anchors & (texts.sum() > 1)
        logits = (a / temperature) @ x.T
        forth = _terms(logits, texts.expand_as(logits), logits, weights * texts, anchors)
        back = _terms(
            logits.T, signals.expand_as(logits), logits.T, weights * signals, anchors & texts
        )
    one, other = forth.total("mean"), back.total("mean")
    terms = {
        "signal_to_text": one.detach(),
        "text_to_signal": other.detach(),
        "classes": classes(labels, near.equal, signals).to(a.dtype),
    }
    return Loss(one + other, terms)


class _Terms(NamedTuple):
    """values: (N,), 0 where a row is no anchor. live: (N,) bool, the anchors."""

    values: Tensor
    live: Tensor

    def total(self, reduction: str) -> Tensor:
        found = self.values.sum()
        return found if reduction == "sum" else found / self.live.sum().clamp(min=1)


def _terms(
    logits: Tensor, entries: Tensor, targets: Tensor, weights: Tensor, anchors: Tensor
) -> _Terms:
    """term(k) of every anchor k that has positives and entries.

    logits (N, M), of which entries (N, M) bool are Z(k). targets (N, K): s_k t_p / tau, with
    weights (N, K) at least 0. anchors (N,) bool.
    """
    mass = weights.sum(1)
    live = anchors & (mass > 0) & entries.any(1)
    out = logits.masked_fill(~entries, float("-inf")).logsumexp(1)
    own = (weights * targets).sum(1) / mass.masked_fill(mass == 0, 1.0)
    return _Terms(torch.where(live, out - own, 0.0), live)


def _entries(variant: str, share: Tensor, scope: Tensor, rehearsal: Tensor) -> Tensor:
    """(N, 2 N) bool: Z(k) among the logits with N students, then N teachers."""
    every, none = torch.ones_like(share), torch.zeros_like(share)
    students, teachers = {
        "literal": (every, none),
        "ntpt": (none, every),
        "exclude_self": (every.clone().fill_diagonal_(False), none),
        "bounded": (~share, share & scope),
        "new_only": ((~rehearsal).expand_as(share), none),
    }[variant]
    return torch.cat([students, teachers], dim=1)


def _units(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of length 1, of one float type. Rows shorter than 1e-12 stay as they are: divided by
    the smallest allowed length they would send back gradients of 1e12.
    """
    dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
    a, b = a.to(dtype), b.to(dtype)
    lengths = [torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (a, b)]
    one, other = (n.masked_fill(n < EPSILON, 1.0) for n in lengths)
    return a / one, b / other


def _check(temperature: float, **options: str) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature: {temperature}; give a number above 0.")
    for name, value in options.items():
        if value not in get_args(VALID[name]):
            valid = ", ".join(get_args(VALID[name]))
            raise ValueError(f"{name}: {value!r}; choose one of {valid}.")


VALID: dict[str, Any] = {
    "variant": NsptVariant,
    "anchors": Anchors,
    "overlap": Overlap,
    "scope": Scope,
    "positives": Positives,
    "reduction": Reduction,
}
