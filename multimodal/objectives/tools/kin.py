"""Which samples of a batch share labels: one label each, or any number."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Kin(NamedTuple):
    """Of N samples. share: (N, N) bool, they have a label in common; equal: (N, N) bool, they have
    the same labels; overlap: (N, N) labels in common / labels of either, in [0, 1]; labelled: (N,)
    bool, has any. All matrices are symmetric.
    """

    share: Tensor
    equal: Tensor
    overlap: Tensor
    labelled: Tensor


def kin(labels: Tensor, dtype: torch.dtype) -> Kin:
    """labels: (N,) integers, or (N, C) targets, of which 1 is a label that the sample has and all
    else, NaN too, one that it has not. dtype: of ``overlap``. Not under autocast: it counts.
    """
    if labels.dim() == 1:
        same = labels[:, None] == labels
        return Kin(same, same, same.to(dtype), torch.ones_like(labels, dtype=torch.bool))
    has = (labels == 1).to(dtype)
    common, size = has @ has.T, has.sum(1)
    either = size[:, None] + size - common
    return Kin(common > 0, common == either, common / either.clamp(min=1), size > 0)


def firsts(equal: Tensor, among: Tensor) -> Tensor:
    """(N,) bool: of the samples ``among`` (N,) bool that are equal (N, N), the first one."""
    return among & ~(equal & among).tril(-1).any(1)


def classes(labels: Tensor, equal: Tensor, among: Tensor) -> Tensor:
    """How many classes the samples ``among`` (N,) bool have; labels and equal: as in ``kin``."""
    if labels.dim() == 1:
        return firsts(equal, among).sum()
    return ((labels == 1) & among[:, None]).any(0).sum()
