"""MoRE in a stream: anchor contrast with class prompts, tuned by low-rank adapters (LoRA).

The objective is that of MoRE (Thapa et al., arXiv 2410.16239; ours is a reconstruction, see
``multimodal/objectives/more.py``). MoRE is no continual method: what it does in a stream is our
choice throughout. Signals are pulled towards the prompts of their classes, with or without
rehearsal, and classes are told apart by what their prompts mean, so also those still to come.

What is trained: of the signal encoder what the config leaves trainable (of ``lora`` the adapter, of
a compact one from scratch everything), the projections, the temperature if it is learned, and of
the text encoder nothing unless ``text.lora`` or ``text.train`` says so.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from continual.degla import Held, HeldConfig
from continual.learner import LEARNERS, ExperienceInfo, LearnerContext
from continual.merged import Merges, MergingConfig
from multimodal.batch import Batch
from multimodal.encoders.adapters import adapter_of, fold, lora_layers, start_anew
from multimodal.errors import UserError
from multimodal.models.align_task import numbered
from multimodal.objectives import Loss
from multimodal.objectives.more import FalseNegatives, MoreConfig
from multimodal.objectives.temperature import check_temperature

MERGED = "merged"


@LEARNERS.register("more")
class MoreLearnerConfig(HeldConfig, MergingConfig):
    """temperature, learn_temperature, symmetric, false_negatives: as of objective ``more``, but
    multi_positive is the default here, because recordings of a class share their prompts;
    mask_group goes by speaker, patient or source. adapter: shared, one for the whole stream; or
    merged, each experience has its own, which is added to the encoder's weights at its end (this
    takes encoder ``lora`` and a stream with experiences). degla, merge: see ``continual/degla.py``
    and ``continual/merged.py``.
    """

    trains_text: ClassVar[bool] = True

    temperature: float = Field(default=0.02, gt=0, le=100)
    learn_temperature: bool = False
    symmetric: bool = True
    false_negatives: FalseNegatives = "multi_positive"
    adapter: Literal["shared", "merged"] = "shared"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_temperature(self.temperature, learned=self.learn_temperature)
        if self.adapter == MERGED and self.merge is not None:
            raise ValueError("merge: adapter=merged adds adapters up at the same borders; drop one")
        if self.adapter == MERGED and self.degla is not None and self.degla.start == "stream":
            raise ValueError(
                "degla.start=stream: with adapter=merged each experience has an adapter of its "
                "own; set it to experience"
            )
        return self

    @property
    def objective(self) -> MoreConfig:
        return MoreConfig(
            temperature=self.temperature,
            learn_temperature=self.learn_temperature,
            symmetric=self.symmetric,
            false_negatives=self.false_negatives,
        )

    @property
    def row_name(self) -> str:
        told = {key: getattr(self, key) for key in ("temperature", "learn_temperature")}
        own = MoreConfig(**told).row_name
        return f"{super().row_name}{own.removeprefix(self.registered_name)}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, "temperature", "learn_temperature")

    def build(self, context: LearnerContext) -> MoreLearner:
        """UserError: adapter=merged where no encoder has LoRA."""
        parts = self.parts(context, **self.objective.start)
        groups = None if context.groups is None else torch.from_numpy(numbered(context.groups))
        learner = MoreLearner(self.objective, groups=groups, **parts)
        if self.adapter == MERGED:
            learner.merge_adapters()
        return learner.be_held(self.degla).merge_at_borders(self.merge)


class MoreLearner(Merges, Held):
    """Pairs of the stream batch and the memory batch go into one contrastive batch.

    groups: (manifest rows,) int64. ``past``: the adapters that are merged into the weights, in the
    order of their experiences. They are kept instead of the weights: a model that is opened again
    adds them to its checkpoint's weights in the same order, so has the same ones, bit for bit.
    """

    def __init__(
        self, objective: MoreConfig, *, groups: Tensor | None = None, **parts: Any
    ) -> None:
        super().__init__(**parts)
        self.objective, self.groups = objective, groups
        self.layers: dict[str, Any] = {}
        self.past: list[dict[str, Tensor]] = []

    def merge_adapters(self) -> None:
        """From now on each experience has an adapter of its own."""
        self.layers = lora_layers(self.model)
        if not self.layers:
            raise UserError(
                "adapter=merged: no encoder has an adapter; set encoder={name: lora, base: ...}, "
                "or adapter=shared."
            )
        self.needs_borders = "adapter=merged merges at an experience's end; use adapter=shared"

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        views = self.views(both)
        loss = self.objective.of_views(views, gather=False)
        loss = Loss(loss.value, loss.terms, outputs=self.outputs(views, len(batch)))
        return self.held(loss, both, views)

    def groups_of(self, batch: Batch) -> Tensor | None:
        if self.groups is None:
            return None
        return self.groups[batch.indices.cpu()].to(batch.labels.device)

    def end_experience(self, info: ExperienceInfo) -> None:
        super().end_experience(info)
        if self.layers:
            self.past.append(adapter_of(self.layers))
            fold(self.layers, self.past[-1])
            start_anew(self.layers, seed=self.seed + len(self.past))

    def weights(self) -> dict[str, Tensor]:
        """With the adapters of past experiences, as ``merged.NUMBER.LAYER.A`` and ``.B``."""
        merged = {
            f"{MERGED}.{number}.{name}": tensor
            for number, adapter in enumerate(self.past)
            for name, tensor in adapter.items()
        }
        return {**super().weights(), **merged}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        assert not self.past, "only a model as it was built can take adapters up"
        for number in range(len({n.split(".")[1] for n in weights if n.startswith(f"{MERGED}.")})):
            place = f"{MERGED}.{number}."
            device = self.model.exposed.device
            found = {n.removeprefix(place): t for n, t in weights.items() if n.startswith(place)}
            self.past.append({name: tensor.to(device) for name, tensor in found.items()})
            fold(self.layers, self.past[-1])
        super().load_weights(weights)
