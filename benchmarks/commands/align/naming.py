"""How an aligned model names recordings: one class of several, or each class by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.commands.align.reopen import Reopened
from benchmarks.results.result import Result
from multimodal.evaluation.class_vectors import class_vectors
from multimodal.evaluation.findings import PRESENT, findings, heading_of, none_text


class Naming(NamedTuple):
    """class_names: C. shares: (N, D) float64 unit rows -> (N, C) in [0, 1], with gradient. labels:
    shares -> (N,) class ids, or (N, C) bool where ``multi_label``. scores: (N, D) -> (N, C), ranked
    as shares are, whose gradient does not fade where a share nears 0 or 1.
    """

    class_names: tuple[str, ...]
    multi_label: bool
    shares: Callable[[Tensor], Tensor]
    scores: Callable[[Tensor], Tensor]

    def labels(self, shares: Tensor) -> Tensor:
        return shares > PRESENT if self.multi_label else shares.argmax(1)


def naming(
    run: Reopened, result: Result, view: str, asked: Sequence[str] | None, device: torch.device
) -> Naming:
    """Of a run over cases, or over recordings of several labels, each class is a question of its
    own, as its zero-shot AUROC asks it; elsewhere, and among classes that are ``asked`` for, one is
    chosen: a softmax over the scaled cosines.

    UserError: classes without words, names that cannot be chosen.
    """
    if asked is None and names_each(run, result):
        return _each(run, _scored(run, result, view), view, device)
    names = tuple(asked or run.config.classes or result.class_names)
    prompts = run.config.prompts.load(view)
    prompts = prompts if asked is None else prompts.mechanical()  # their words are the user's
    prompts = prompts.headline(ensemble=run.config.prompts.ensemble)
    vectors = class_vectors(names, prompts, run.model.embed_texts).vectors.to(device)
    return Naming(
        names,
        False,
        lambda signals: (run.model.scale.double() * (signals @ vectors.T)).softmax(1),
        lambda signals: signals @ vectors.T,
    )


def names_each(run: Reopened, result: Result) -> bool:
    """Whether classes do not exclude each other."""
    known = result.evaluation.get("multi_label")
    if known is None:  # of an earlier version, which measured this of several labels alone
        return bool(run.config.views) or "num_scored_classes" in result.metrics
    return bool(known)


def _scored(run: Reopened, result: Result, view: str) -> tuple[str, ...]:
    """The candidates that the modality knows, in the order in which they were scored."""
    known = result.evaluation.get("per_class", {}).get(view)
    names = run.config.classes or result.class_names
    return tuple(name for name in names if not known or name in known)


def _each(run: Reopened, names: tuple[str, ...], view: str, device: torch.device) -> Naming:
    found = findings(
        names,
        run.config.prompts.sets_for(view, names),
        run.model.embed_texts,
        none=none_text(heading_of(view)),
        temperature=1 / run.model.scale.item(),
        device=device,
    )
    return Naming(
        names, True, found.shares, lambda signals: torch.logit(found.shares(signals), eps=1e-12)
    )
