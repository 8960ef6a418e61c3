"""Objectives: pure functions of embeddings, one paper a file."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from multimodal.registry import Registry

OBJECTIVES = Registry("objective", "multimodal.objectives")


class Loss(NamedTuple):
    """What a training step minimises.

    value: scalar. terms: named parts of it, detached scalars, for the log. outputs: (N, C) what
    the model said of the N stream recordings (learners only; Avalanche's plugins read it).
    """

    value: Tensor
    terms: dict[str, Tensor]
    outputs: Tensor | None = None
