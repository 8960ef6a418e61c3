"""Merging at the borders of experiences: weights become the mean of those that each left behind.

After experience K the trained weights become the delta-guided merge (a proposal after CoDiEmb,
arXiv:2508.11442, see ``multimodal/training/merging.py``) of those at the ends of experiences
1 .. K, relative to those before the stream; experience K + 1 goes on from there. What is merged:

* a trained tensor as it is; counts and flags are the last ones;
* of LoRA the product B A of each layer, whose start is 0, not A and B: the mean of K products of
  rank r has a rank of up to K r, and what of it rank r can say best (by its singular values) is
  what the adapter becomes;
* of a head with a row for each class, the rows that were first shown in the same experience j, as a
  tensor of their own, over the ends of j .. K: before, they were nothing that was learned. Rows
  of the newest classes stay as they are, as do those not shown yet.

K = 1 changes nothing. All ends are kept, so memory and checkpoint grow by what is trained with each
experience. A moving optimiser (online) keeps its state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from continual.classifier_learner import WhitenedConfig, told
from continual.learner import ExperienceInfo, Learner
from multimodal.encoders.adapters import lora_layers
from multimodal.registry import Config
from multimodal.training.merging import Deviation, delta_guided_merge
from multimodal.weights import trained_weights

Weights = dict[str, Tensor]
HEAD = ("head.weight", "head.bias")
A, B = ".lora_A.default.weight", ".lora_B.default.weight"


class MergeConfig(Config):
    """power: 1 favours the ends that moved far from the start, -1 those that stayed near, 0 is
    their plain mean. by: how far is meant, of ``delta_guided_merge``.
    """

    power: float = Field(default=1.0, allow_inf_nan=False)
    by: Deviation = "norm"


class MergingConfig(WhitenedConfig):
    """Of learners that can merge. merge: None: they do not."""

    merge: MergeConfig | None = Field(default=None, exclude_if=lambda merge: merge is None)

    @model_validator(mode="after")
    def _refuse_whitened_merge(self) -> Self:
        if self.merge is not None and self.head.whiten:
            raise ValueError(
                "merge: weights that read differently whitened embeddings have no mean; leave it "
                "or head.whiten out"
            )
        return self

    @property
    def row_name(self) -> str:
        if self.merge is None:
            return super().row_name
        return f"{super().row_name}, merged at borders{told(self.merge)}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "merge")


class Merges(Learner):
    """Stands before a learner's own base: ``class Mine(Merges, ClassifierLearner)``.

    start: trained weights before the stream, None before it began; ends: those at each experience's
    end, before they were merged. In an online stream it is told of its tasks' ends.
    """

    merge: MergeConfig | None = None
    start: Weights | None = None
    _online: bool = False  # of text-aligned ones, which are told by their first batch

    def merge_at_borders(self, merge: MergeConfig | None) -> Self:
        """After ``__init__``. UserError: adapters that are more than A and B (DoRA)."""
        if merge is not None:
            self.merge, self.uses_borders = merge, True
            self.ends: list[Weights] = []
            if any(name.endswith(A) for name in trained_weights(self.model)):
                lora_layers(self.model)
        return self

    def _remember_start(self) -> None:
        if self.merge is not None and self.start is None:
            self.start = copied(self.model)

    def begin_experience(self, info: ExperienceInfo) -> None:
        self._remember_start()
        super().begin_experience(info)

    def meet(
        self,
        rows: Int[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> None:
        self._remember_start()
        super().meet(rows, labels)

    @torch.no_grad()
    def end_experience(self, info: ExperienceInfo) -> None:
        """Merged first: a memory that looks at embeddings sees those that will be used."""
        if self.merge is not None:
            assert self.start is not None
            self.ends.append(copied(self.model))
            merged = merge_ends(self.ends, self.start, self.merge)
            for name, tensor in trained_weights(self.model).items():
                tensor.copy_(merged[name])
        super().end_experience(info)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        if self.merge is None:
            return state
        kept = {"start": self.start, "ends": list(self.ends), "online": self._online}
        return {**state, "merge": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.merge is None:
            return
        device, kept = next(self.model.parameters()).device, state["merge"]
        start, self._online = kept["start"], kept["online"]
        self.start = None if start is None else {n: t.to(device) for n, t in start.items()}
        self.ends = [{n: t.to(device) for n, t in end.items()} for end in kept["ends"]]


def copied(model: nn.Module) -> Weights:
    return {name: tensor.clone() for name, tensor in trained_weights(model).items()}


@torch.no_grad()
def merge_ends(ends: Sequence[Weights], start: Weights, merge: MergeConfig) -> Weights:
    """Weights at K >= 1 ends of experiences, and before the first -> merged ones (see above).

    ``exposed`` (C,) bool among them tells which rows of a head were shown by then.
    """
    if len(ends) == 1:
        return dict(ends[0])
    layers = [name.removesuffix(A) for name in ends[0] if name.endswith(A)]
    apart = {*HEAD, *(layer + half for layer in layers for half in (A, B))}
    whole = [name for name in ends[0] if name not in apart]
    merged = _guided(ends, start, whole, merge)
    for layer in layers:
        merged |= _merged_adapter(ends, layer, merge)
    if HEAD[0] in ends[0]:
        merged |= _merged_head(ends, start, merge)
    return merged


def _guided(
    ends: Sequence[Weights], start: Weights, names: Sequence[str], merge: MergeConfig
) -> Weights:
    chosen = [{name: end[name] for name in names} for end in ends]
    first = {name: start[name] for name in names}
    return delta_guided_merge(chosen, first, power=merge.power, by=merge.by)


def _merged_adapter(ends: Sequence[Weights], layer: str, merge: MergeConfig) -> Weights:
    """A (r, in) and B (out, r) whose product is nearest to the merged product of all ends."""
    products = [{layer: end[layer + B].double() @ end[layer + A].double()} for end in ends]
    mean = delta_guided_merge(products, power=merge.power, by=merge.by)[layer]
    like = ends[-1][layer + A]
    left, sizes, right = torch.linalg.svd(mean, full_matrices=False)
    rank = min(len(like), len(sizes))
    roots = sizes[:rank].sqrt()
    new_a, new_b = torch.zeros_like(like), torch.zeros_like(ends[-1][layer + B])
    new_a[:rank] = (roots[:, None] * right[:rank]).to(like.dtype)
    new_b[:, :rank] = (left[:, :rank] * roots).to(like.dtype)
    return {layer + A: new_a, layer + B: new_b}


def _merged_head(ends: Sequence[Weights], start: Weights, merge: MergeConfig) -> Weights:
    """Rows of classes that were first shown in experience j, over the ends from j on."""
    merged = {name: ends[-1][name].clone() for name in HEAD if name in ends[-1]}
    known = torch.zeros_like(ends[0]["exposed"])
    for j, end in enumerate(ends):
        new = end["exposed"] & ~known
        known = known | end["exposed"]
        if new.any():
            rows = [_rows(e, merged, new) for e in ends[j:]]
            found = _guided(rows, _rows(start, merged, new), list(merged), merge)
            for name, tensor in found.items():
                merged[name][new] = tensor
    return merged


def _rows(weights: Mapping[str, Tensor], names: Mapping[str, Tensor], rows: Tensor) -> Weights:
    return {name: weights[name][rows] for name in names}
