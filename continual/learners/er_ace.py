"""ER-ACE (Caccia et al. 2022): asymmetric cross-entropy on stream and memory.

The stream loss is a softmax over the classes present in the stream batch only, so that new
classes do not push old ones away; the memory loss is one over all exposed classes. Both are means
of weight 1, from the first step on; the reservoir is fed online (no experience border is used).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch.nn.functional import cross_entropy

from continual.classifier_learner import HeadedConfig, RehearsalLearner, mask_absent
from continual.learner import LEARNERS, LearnerContext
from continual.rehearsal import make_memory
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.objectives import Loss


@LEARNERS.register("er_ace")
class ErAceConfig(HeadedConfig):
    """memory_size: recordings, in a reservoir. memory_batch_size: drawn beside every batch."""

    memory_size: Annotated[int, Field(ge=1)] = 200
    memory_batch_size: Annotated[int, Field(ge=1)] = 32

    def build(self, context: LearnerContext) -> ErAceLearner:
        if context.model.multi_label:
            raise UserError(
                "er_ace chooses one class by softmax, but recordings of this dataset have several "
                "labels or none: use replay, or a single-label version of the dataset."
            )
        memory = make_memory("reservoir", self.memory_size, context.seed)
        size = self.memory_batch_size
        return ErAceLearner(context.model, memory=memory, memory_batch_size=size, **self.softmax)


class ErAceLearner(RehearsalLearner):
    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        logits = self.model(both)
        stream = logits[: len(batch)]
        value = cross_entropy(mask_absent(stream, batch.labels), batch.labels)
        if memory_batch is not None:
            value = value + cross_entropy(logits[len(batch) :], memory_batch.labels)
        return Loss(value, {}, outputs=stream)
