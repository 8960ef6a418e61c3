"""What learners with a classification head share: exposed classes, softmax, rehearsal."""

from __future__ import annotations

from typing import Annotated, Any, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from continual.classifier import Classifier
from continual.learner import ExperienceInfo, FrozenTower, Learner, LearnerConfig, Prediction
from continual.rehearsal import Memory
from multimodal.batch import Batch
from multimodal.encoders.lora import LoraEncoder
from multimodal.errors import UserError
from multimodal.objectives import Loss
from multimodal.objectives.classification import classification_loss
from multimodal.registry import Config


class HeadConfig(Config):
    """whiten: the head (of text-aligned learners, the projection of signals) reads embeddings
    whitened by the running mean and covariance of the stream (``multimodal.models.whitening``),
    which takes a frozen encoder. eps: floor of the variances, as a share of their mean.
    """

    whiten: bool = False
    eps: Annotated[float, Field(gt=0)] = 1e-2

    @model_validator(mode="after")
    def _refuse_idle(self) -> Self:
        if not self.whiten and self.eps != type(self).model_fields["eps"].default:
            raise ValueError(f"eps={self.eps} is of whitening; set whiten: true")
        return self


PLAIN = HeadConfig()


class WhitenedConfig(LearnerConfig):
    """Of learners that train a linear map of embeddings. head: what it reads; not in the record
    where that is nothing special, so that runs from before it could be chosen keep their identity.
    """

    head: HeadConfig = Field(default=PLAIN, exclude_if=lambda head: head == PLAIN)

    @property
    def row_name(self) -> str:
        return f"{self.registered_name}{', whitened' * self.head.whiten}"

    @property
    def named(self) -> tuple[str, ...]:
        return ("head",)


class HeadedConfig(WhitenedConfig):
    """Of learners with a softmax head."""

    @property
    def softmax(self) -> dict[str, Any]:
        """What ``ClassifierLearner`` takes of these settings."""
        return {"head": self.head}


class SoftmaxConfig(HeadedConfig):
    """Of learners with one softmax over all exposed classes.

    batch_class_mask: in training, only the classes that occur in the batch (stream and memory)
    take part in it. The largest single effect known in Si-Blurry, so a run record names it.
    """

    batch_class_mask: bool = False

    @property
    def softmax(self) -> dict[str, Any]:
        return {"head": self.head, "batch_class_mask": self.batch_class_mask}


class ClassifierLearner(Learner):
    """Classifier whose classes are exposed as experiences begin.

    Softmax and cross-entropy over the exposed classes; for multi-label data a sigmoid and binary
    cross-entropy a class, with unknown labels and classes not yet exposed masked. Rows of the head
    are class ids, in whatever order classes are exposed, so no label is ever mapped.

    batch_class_mask: see ``SoftmaxConfig``; UserError on multi-label data. head: see
    ``HeadConfig``; UserError for whitening where the encoder is trained.
    """

    def __init__(
        self,
        model: Classifier,
        *,
        memory: Memory | None = None,
        memory_batch_size: int = 0,
        batch_class_mask: bool = False,
        head: HeadConfig = PLAIN,
    ) -> None:
        super().__init__(model, memory=memory, memory_batch_size=memory_batch_size)
        if batch_class_mask and model.multi_label:
            raise UserError(
                "batch_class_mask: recordings of this dataset have several labels or none, and it "
                "is a mask of the softmax; leave it out."
            )
        self.classifier, self.batch_class_mask = model, batch_class_mask
        if head.whiten:
            model.whiten("head.whiten", head.eps)

    def begin_experience(self, info: ExperienceInfo) -> None:
        self.classifier.expose(info.exposed)

    def meet(
        self,
        rows: Int[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> None:
        self.classifier.meet(labels)

    @torch.no_grad()
    def arrive(self, batch: Batch) -> None:
        if self.classifier.whitening is not None and len(batch):  # encoders need a recording
            self.classifier.whitening.update(self.features(batch))

    def features(self, batch: Batch) -> Float[Tensor, "batch dim"]:
        """(N, D) what the head reads, before any whitening."""
        return self.classifier.embed(batch)

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        """``classification_loss``, the mean over stream and memory recordings alike."""
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        logits = self.model(both)
        value = classification_loss(
            self.training_logits(logits, both.labels), both.labels, self.classifier.exposed
        )
        return Loss(
            value,
            self.terms(both.labels),
            outputs=logits if memory_batch is None else logits[: len(batch)],
        )

    def training_logits(
        self,
        logits: Float[Tensor, "batch classes"],
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, "batch classes"]:
        """Logits (N, C) of the training softmax for labels (N,) of stream and memory together."""
        return mask_absent(logits, labels) if self.batch_class_mask else logits

    def terms(self, labels: Tensor) -> dict[str, Tensor]:
        """What is logged of a step: with the mask, a batch of one class has no loss at all."""
        return {"classes_in_batch": _present(labels)} if self.batch_class_mask else {}

    def predict(self, batch: Batch) -> Prediction:
        scores = self.model(batch)
        return Prediction(scores > 0 if self.classifier.multi_label else scores.argmax(1), scores)

    def frozen_tower(self) -> FrozenTower | None:
        model = self.classifier
        return FrozenTower(model.front_end, model.encoder) if model.frozen else None


class RehearsalLearner(ClassifierLearner):
    """Whose memory is fed online, once a recording: no border of an experience is used."""

    def observe(self, batch: Batch) -> None:
        assert self.memory is not None
        labels = batch.labels
        if self.classifier.multi_label:
            labels = main_labels(labels)
        self.memory.update(batch.indices, labels)


def train_encoder(model: Classifier) -> None:
    """All of it is trained, also what was left frozen; UserError where LoRA is what is trained."""
    if isinstance(model.encoder, LoraEncoder):
        raise UserError(
            "train_encoder=true: of encoder lora its adapter is trained, and nothing else; leave "
            "train_encoder out, or make encoder.base the encoder."
        )
    model.requires_grad_(True)


def freeze_encoder(model: Classifier) -> None:
    """Only the head is left to be trained."""
    model.front_end.requires_grad_(False)
    assert isinstance(model.encoder, nn.Module)
    model.encoder.requires_grad_(False)


def main_labels(targets: Float[Tensor, "batch classes"]) -> Int[Tensor, " batch"]:
    """(N, C) multi-label targets -> (N,) int64: the first positive class, C where there is none."""
    positive = targets == 1
    first = positive.int().argmax(1)
    return first.masked_fill(~positive.any(1), targets.shape[1])


def mask_absent(
    logits: Float[Tensor, "batch classes"], labels: Int[Tensor, " labelled"]
) -> Float[Tensor, "batch classes"]:
    """Logits (N, C) with -inf for classes that none of the labels (M,) names."""
    absent = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
    absent[labels] = False
    return logits.masked_fill(absent, float("-inf"))


def _present(labels: Tensor) -> Tensor:
    return labels.new_tensor(len(labels.unique()), dtype=torch.float32)


def told(settings: Config) -> str:
    """What differs from the defaults, for the name of a row."""
    fields = type(settings).model_fields
    return "".join(f" {k}={v}" for k, v in settings if v != fields[k].default)
