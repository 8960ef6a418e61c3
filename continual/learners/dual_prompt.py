"""DualPrompt (Wang et al. 2022): a prompt that all recordings share and one that each chooses.

    L = CE(h(f), y) + mean d(q, k_s),   d = 1 - cos,   s = argmin_i d(q, k_i)

The shared prompt goes into the first blocks, the chosen one into the next (see
``prompted_blocks``), by appending its tokens for the length of a block. q and f are the frozen
encoder's embeddings without and with prompts. The published method trains key t with task t; here
no task is known, as in Si-Blurry. Prefixes of keys and values instead are not offered.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from continual.classifier import Classifier
from continual.classifier_learner import SoftmaxConfig
from continual.learner import LEARNERS, LearnerContext
from continual.learners.l2p import prompt_loss
from continual.prompting import (
    PromptLearner,
    PromptModel,
    PromptPool,
    prompted_blocks,
    prompts_by_block,
)
from multimodal.batch import Batch
from multimodal.objectives import Loss
from multimodal.objectives.mvp import key_distances


@LEARNERS.register("dual_prompt")
class DualPromptConfig(SoftmaxConfig):
    """pool_size: entries. length: tokens of an entry; shared_length: of the shared prompt, a block.
    key_weight: of the distance between query and key.
    """

    pool_size: Annotated[int, Field(ge=1)] = 10
    length: Annotated[int, Field(ge=1)] = 20
    shared_length: Annotated[int, Field(ge=1)] = 5
    key_weight: Annotated[float, Field(ge=0)] = 1.0

    def build(self, context: LearnerContext) -> DualPromptLearner:
        model = DualPromptModel(context.model, self)
        return DualPromptLearner(model, **self.softmax)


class DualPromptModel(PromptModel):
    def __init__(self, classifier: Classifier, config: DualPromptConfig) -> None:
        super().__init__(classifier, use_last_layer=True)
        width, self.config = classifier.head.in_features, config
        self.pool = PromptPool(config.pool_size, width, uniform=True)
        self.blocks = prompted_blocks(self.access.depth)
        shared, chosen = map(len, self.blocks)
        self.shared = nn.Parameter(torch.empty(shared, config.shared_length, width).uniform_(-1, 1))
        self.prompts = nn.Parameter(
            torch.empty(config.pool_size, chosen, config.length, width).uniform_(-1, 1)
        )

    def prompted(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(N, D) embeddings with prompts, and the mean distance of queries and their keys."""
        queries = self.query(batch)
        chosen = self.pool.nearest(queries)
        plan = prompts_by_block(self.shared, self.prompts[chosen.squeeze(1)], self.blocks)
        pooled = self.run(batch, plan)
        distance = key_distances(queries, self.pool.keys).gather(1, chosen).mean()
        return pooled, distance


class DualPromptLearner(PromptLearner):
    model: DualPromptModel  # pyright: ignore[reportIncompatibleVariableOverride]

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        return prompt_loss(self, self.model.config.key_weight, batch, memory_batch)
