"""What a student keeps of a frozen teacher: its features, its tokens, its answers.

Common to all: computed in float32 (float64 stays); the teacher gets no gradient; what a mask leaves
out is not read, not even if it is NaN, and has a gradient of 0; without anything that counts the
loss is 0, with a valid graph. Values in nats, but for features. L frames, T tokens, D channels, V
tokens of the vocabulary, C classes.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    log_softmax,
    softmax,
)

Reduction = Literal["token_mean", "sequence_mean", "sum"]


def feature_distillation(
    student: Float[Tensor, "batch frames dim"],
    teacher: Float[Tensor, "batch frames dim"],
    mask: Bool[Tensor, "batch frames"],
) -> Float[Tensor, ""]:
    """Mean squared error over the channels of the frames that ``mask`` says are real.

    student, teacher: (N, L, D). mask: (N, L) bool. Every frame weighs the same, so a longer
    recording weighs more.
    """
    error = torch.where(mask[..., None], _wide(student) - _wide(teacher.detach()), 0.0)
    return error.square().sum() / (mask.sum() * error.shape[-1]).clamp(min=1)


def token_distillation(
    student_logits: Float[Tensor, "batch tokens vocabulary"],
    teacher_logits: Float[Tensor, "batch tokens vocabulary"],
    mask: Bool[Tensor, "batch tokens"],
) -> Float[Tensor, ""]:
    """Cross-entropy of the teacher's distribution of each next token, the mean over real tokens:

    ``-1/M sum_{x, j} sum_v p(v | x, y_<j; teacher) log p(v | x, y_<j; student)``, both of them told
    the same y_<j. Its minimum is the teacher's entropy, not 0.

    logits: (N, T, V); -inf where the teacher has -inf counts nothing. mask: (N, T) bool.
    """
    now = _real(student_logits, mask)
    past = _real(teacher_logits.detach(), mask).softmax(-1)
    # 0 log 0 is 0.
    cells = (past * now.log_softmax(-1).masked_fill(past == 0, 0.0)).sum(-1)
    return -torch.where(mask, cells, 0.0).sum() / mask.sum().clamp(min=1)


def sequence_cross_entropy(
    logits: Float[Tensor, "batch tokens vocabulary"],
    targets: Int[Tensor, "batch tokens"],
    mask: Bool[Tensor, "batch tokens"],
    *,
    reduction: Reduction = "token_mean",
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Teacher-forced cross-entropy of texts, ``-log p(y | x) = -sum_j log p(y_j | x, y_<j)``.

    logits: (N, T, V). targets: (N, T) int64 token ids, that of the end included; any number where
    mask (N, T) bool is False. With stored answers of a teacher as targets it is sequence-level
    distillation.
    reduction: token_mean: over real tokens; sequence_mean: of -log p(y | x) over the texts that
        have tokens; sum: of it over the texts. label_smoothing: this share of each target, in
        [0, 1), goes to all V tokens alike.
    ValueError if an option is out of range.
    """
    if reduction not in get_args(Reduction):
        raise ValueError(
            f"reduction: {reduction!r}; choose one of {', '.join(get_args(Reduction))}."
        )
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            f"label_smoothing: {label_smoothing}; give a share of at least 0 and below 1."
        )
    cells = cross_entropy(
        _real(logits, mask).flatten(0, 1),
        targets.masked_fill(~mask, 0).flatten(),
        reduction="none",
        label_smoothing=label_smoothing,
    )
    total = torch.where(mask.flatten(), cells, 0.0).sum()
    if reduction == "sum":
        return total
    count = mask.sum() if reduction == "token_mean" else mask.any(1).sum()
    return total / count.clamp(min=1)


def answer_distillation(
    logits: Float[Tensor, "batch classes"],
    teacher_logits: Float[Tensor, "batch classes"],
    known: Bool[Tensor, " classes"],
    *,
    multi_label: bool = False,
    temperature: float = 1.0,
) -> Float[Tensor, ""]:
    """Cross-entropy of the teacher's answers, the mean over recordings (Li & Hoiem 2016, LwF):

    ``-mean_i sum_c softmax(past_i / T)_c log softmax(now_i / T)_c``, c over the known classes only,
    without the factor T^2. It is the Kullback-Leibler divergence plus the teacher's entropy, which
    has no gradient. multi_label: the Bernoulli cross-entropy of each class, the mean over them too.

    logits, teacher_logits: (N, C), anything where a class is not known. known: (C,) bool, what the
    teacher can name. temperature: T > 0.
    """
    now = _wide(logits)[:, known] / temperature
    past = _wide(teacher_logits.detach())[:, known] / temperature
    if not now.numel():
        return now.sum()
    if multi_label:
        return binary_cross_entropy_with_logits(now, past.sigmoid())
    return -(softmax(past, 1) * log_softmax(now, 1)).sum(1).mean()


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _real(logits: Tensor, mask: Tensor) -> Tensor:
    """Zeros where there is no token: masked afterwards, NaN there would give NaN gradients."""
    return _wide(logits).masked_fill(~mask[..., None], 0.0)
