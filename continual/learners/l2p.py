"""L2P (Wang et al. 2022, "Learning to Prompt"): the nearest prompts of a pool go before a frozen
encoder, and what becomes of them is classified.

    L = CE(h(mean of the prompts' outputs), y) + lambda mean_j d(q, k_j),    d = 1 - cos

q: the encoder's own embedding. The top ``selection`` of ``pool_size`` keys choose ``length`` tokens
each, put into the sequence before the first block. No task is known. The positions that the
published prompts are given are a constant that learned ones absorb, and left out. In the released
Si-Blurry code the second term is 0, so its keys stay random.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from continual.classifier import Classifier
from continual.classifier_learner import SoftmaxConfig
from continual.learner import LEARNERS, LearnerContext
from continual.prompting import PromptLearner, PromptModel, PromptPool
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.objectives import Loss
from multimodal.objectives.classification import classification_loss
from multimodal.objectives.mvp import key_distances


@LEARNERS.register("l2p")
class L2pConfig(SoftmaxConfig):
    """pool_size: entries. selection: of them used for a recording. length: tokens an entry.
    key_weight: lambda.
    """

    pool_size: Annotated[int, Field(ge=1)] = 10
    selection: Annotated[int, Field(ge=1)] = 5
    length: Annotated[int, Field(ge=1)] = 5
    key_weight: Annotated[float, Field(ge=0)] = 0.5

    def build(self, context: LearnerContext) -> L2pLearner:
        if self.selection > self.pool_size:
            raise UserError(
                f"learner l2p: selection={self.selection} of a pool of {self.pool_size}; set at "
                f"most selection={self.pool_size}."
            )
        return L2pLearner(L2pModel(context.model, self), **self.softmax)


class L2pModel(PromptModel):
    def __init__(self, classifier: Classifier, config: L2pConfig) -> None:
        super().__init__(classifier, use_last_layer=True)
        width = classifier.head.in_features
        self.config, self.pool = config, PromptPool(config.pool_size, width, uniform=True)
        start = torch.empty(config.pool_size, config.length, width).uniform_(-1, 1)
        self.prompts = nn.Parameter(start)

    def prompted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(N, D) outputs at the prompts' places, and the mean distance of queries and keys."""
        queries = self.query(batch)
        chosen = self.pool.nearest(queries, count=self.config.selection)
        prompt = self.prompts[chosen].flatten(1, 2)
        outputs = self.encode(batch, lambda f, rows: self.access.run_through(f, prompt[rows]))
        distance = key_distances(queries, self.pool.keys).gather(1, chosen).mean()
        return outputs.mean(1), distance


class L2pLearner(PromptLearner):
    model: L2pModel  # pyright: ignore[reportIncompatibleVariableOverride]

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        return prompt_loss(self, self.model.config.key_weight, batch, memory_batch)


def prompt_loss(
    learner: PromptLearner, key_weight: float, batch: Batch, memory_batch: Batch | None
) -> Loss:
    """Classification on stream and memory, and the distance of queries and keys."""
    both = batch if memory_batch is None else Batch.join(batch, memory_batch)
    features, distance = learner.model.prompted(both)
    logits = learner.model.logits(features)
    masked = learner.training_logits(logits, both.labels)
    value = classification_loss(masked, both.labels, learner.classifier.exposed)
    terms = {**learner.terms(both.labels), "key_distance": distance}
    return Loss(value + key_weight * distance, terms, outputs=logits[: len(batch)])
