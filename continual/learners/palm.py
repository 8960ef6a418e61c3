"""PALM in a stream (ours): every class is a mixture of prototypes that follow the stream.

Encoder and projection are trained with L_MLE + contrast L_proto of PALM (Lu et al., ICLR 2024,
arXiv:2402.02653; equations and forms in ``multimodal/objectives/palm.py``) on the classes exposed
so far; those still to come neither repel nor move. A recording is of the class of the largest

    log sum_k exp(p_k . z / tau)

so that its softmax is what the mixture says of each class. Prototypes move with batches that have
their class: old ones stay where they are unless the memory, fed online, brings their recordings.

What we chose for streams. ``momentum``: 0.9. At the published 0.999, meant for 500 epochs, a
prototype still has 0.82 of its random start after 200 steps, and L_proto, which reaches the encoder
by the share 1 - m, is in effect switched off. ``contrast_on``: means, that is L_proto on what the
batch itself says of each prototype, which no m switches off; prototypes is as published. One view
of a recording, where the paper has two; AdamW, where it has SGD.
"""

from __future__ import annotations

from typing import Annotated, Any, Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import normalize

from continual.classifier import Classifier
from continual.classifier_learner import ClassifierLearner, SoftmaxConfig
from continual.learner import LEARNERS, LearnerContext
from continual.rehearsal import make_memory
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.objectives import Loss
from multimodal.objectives.palm import ContrastOn, Form, Palm


@LEARNERS.register("palm")
class PalmLearnerConfig(SoftmaxConfig):
    """memory_size: recordings, in a reservoir; 0: no rehearsal. memory_batch_size: drawn beside
    every stream batch. projection: its width. per_class: prototypes of a class; nearest: of these,
    how many a recording counts for. momentum: what a prototype keeps of itself in a step.
    contrast: weight of L_proto. form: code, or paper (a reconstruction). batch_class_mask: classes
    that the batch lacks take no part.
    """

    memory_size: Annotated[int, Field(ge=0)] = 500
    memory_batch_size: Annotated[int, Field(ge=1)] = 32
    projection: Annotated[int, Field(ge=2)] = 128
    per_class: Annotated[int, Field(ge=1)] = 6
    nearest: Annotated[int, Field(ge=1)] = 5
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    epsilon: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.9
    contrast: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    contrast_on: ContrastOn = "means"
    form: Form = "code"

    @model_validator(mode="after")
    def _fewer_than_there_are(self) -> Self:
        if self.nearest > self.per_class:
            raise ValueError(
                f"nearest={self.nearest} of per_class={self.per_class} prototypes; set at most "
                f"nearest={self.per_class}"
            )
        return self

    def build(self, context: LearnerContext) -> PalmLearner:
        if context.model.multi_label:
            raise UserError(
                "palm takes each recording for one of its classes, but recordings of this dataset "
                "have several labels or none: use er, or a single-label version of the dataset."
            )
        memory = (
            make_memory("reservoir", self.memory_size, context.seed) if self.memory_size else None
        )
        settings = self.model_dump(
            include={"per_class", "nearest", "temperature", "epsilon", "momentum", "contrast"}
            | {"contrast_on", "form"}
        )
        linear = context.model.head
        palm = Palm(linear.out_features, self.projection, seed=context.seed, **settings)
        return PalmLearner(
            context.model,
            MixtureHead(linear.in_features, palm),
            memory=memory,
            memory_batch_size=self.memory_batch_size,
            **self.softmax,
        )


class MixtureHead(nn.Module):
    """``forward((N, D) embeddings) -> (N, C)`` log-sum-exp over each class's prototypes."""

    def __init__(self, width: int, palm: Palm) -> None:
        super().__init__()
        self.projection = nn.Sequential(
            nn.Linear(width, width), nn.ReLU(), nn.Linear(width, palm.prototypes.shape[2])
        )
        self.palm = palm

    def forward(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        return self.scores(self.projection(features))

    def scores(self, z: Float[Tensor, "batch projected"]) -> Float[Tensor, "batch classes"]:
        cosines = torch.einsum("nd,ckd->nck", normalize(z.float(), dim=1), self.palm.prototypes)
        return (cosines / self.palm.temperature).logsumexp(2)


class PalmLearner(ClassifierLearner):
    """A ClassifierLearner with ``mixture`` for its head; prototypes are buffers of the model."""

    def __init__(self, model: Classifier, mixture: MixtureHead, **options: Any) -> None:
        super().__init__(model, **options)
        self.mixture = mixture
        model.head = mixture  # pyright: ignore[reportAttributeAccessIssue]

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        model, head = self.classifier, self.mixture
        z = head.projection(model.white(model.embed(both)))
        with torch.no_grad():  # before the prototypes move
            outputs = model.mask(head.scores(z[: len(batch)]))
        found = head.palm(z, both.labels, known=self.taking_part(both.labels))
        return Loss(found.value, {**found.terms, **self.terms(both.labels)}, outputs=outputs)

    def taking_part(self, labels: Tensor) -> Bool[Tensor, " classes"]:
        if not self.batch_class_mask:
            return self.classifier.exposed
        here = torch.zeros_like(self.classifier.exposed)
        here[labels] = True
        return here

    def observe(self, batch: Batch) -> None:
        if self.memory is not None:
            self.memory.update(batch.indices, batch.labels)
