"""MVP and MVP-R (Moon et al., ICCV 2023): mask and visual prompt tuning. A reconstruction from a
description of the authors' code; the paper's text was not available.

    z = (W f + b) * 2 sigmoid(m_s) + mu        instance-wise logit mask; mu: -inf if not exposed
    L = mean_i [(1 - alpha) CE_i + alpha S_i^gamma CE_i] + L_CVPT

s is the pool entry whose key is nearest to the recording's query; it brings prompts for the frozen
encoder and the mask m_s. S (gradient similarity), L_CVPT (contrastive keys) and the scale of the
features in CE (adaptive feature scaling, training only) are in ``objectives.mvp``. MVP-R adds a
reservoir whose recordings stand in the same batch and the same loss. Every part is a switch; the
``released_*`` modes give the scalar rescaling and the broadcast of the released code. With a
whitened head f is the whitened embedding in all of these.

Counts of chosen entries grow with every training forward, hence ``online_iter`` times a recording,
and are used (not changed) in tests, as published. Multi-label data: binary cross-entropies over
exposed classes, summed over them.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from continual.classifier import Classifier
from continual.classifier_learner import SoftmaxConfig, main_labels
from continual.learner import LEARNERS, LearnerContext
from continual.prompting import (
    PromptLearner,
    PromptModel,
    PromptPool,
    default_std,
    prompted_blocks,
    prompts_by_block,
)
from continual.rehearsal import make_memory
from multimodal.batch import Batch
from multimodal.objectives import Loss
from multimodal.objectives.classification import recording_losses
from multimodal.objectives.mvp import (
    cvpt_loss,
    feature_scale,
    gradient_similarity,
    gsf_loss,
    key_distances,
)

Size = Annotated[int, Field(ge=1)]


@LEARNERS.register("mvp")
class MvpConfig(SoftmaxConfig):
    """pool_size: entries. length: tokens of an entry in each of its blocks; shared_length: of the
    prompt that all share. use_mask, use_contrastive, use_gsf, use_afs: the four parts. alpha,
    gamma: of the focal loss; margin: of feature scaling. init_std: of
    prompts; None: 1, or 0.02 for wav2vec 2.0, HuBERT and Whisper. use_last_layer: query after the
    last block instead of before it.
    """

    pool_size: Size = 10
    length: Size = 20
    shared_length: Size = 5
    use_mask: bool = True
    use_contrastive: bool = True
    use_gsf: bool = True
    use_afs: bool = True
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.5
    gamma: Annotated[float, Field(ge=0)] = 2.0
    margin: Annotated[float, Field(gt=0)] = 0.5
    contrastive_weight: Annotated[float, Field(ge=0)] = 1.0
    gsf_mode: Literal["per_sample", "released_scalar"] = "per_sample"
    cvpt_mode: Literal["per_sample", "released_broadcast"] = "per_sample"
    init_std: Annotated[float, Field(gt=0)] | None = None
    use_last_layer: bool = False

    def build(self, context: LearnerContext) -> MvpLearner:
        model = MvpModel(context.model, self)
        return MvpLearner(model, **self.softmax)


@LEARNERS.register("mvp_r")
class MvpRConfig(MvpConfig):
    """memory_size: recordings, in a reservoir; memory_batch_size: drawn beside a stream batch."""

    memory_size: Size = 500
    memory_batch_size: Size = 32

    def build(self, context: LearnerContext) -> MvpLearner:
        return MvpLearner(
            MvpModel(context.model, self),
            memory=make_memory("reservoir", self.memory_size, context.seed),
            memory_batch_size=self.memory_batch_size,
            **self.softmax,
        )


class Seen(NamedTuple):
    """Of a batch: queries (N, D), chosen entries (N,), mask factors (N, C), and what the head reads
    (N, D).
    """

    queries: Tensor
    chosen: Tensor
    factor: Tensor
    features: Tensor


class MvpModel(PromptModel):
    def __init__(self, classifier: Classifier, config: MvpConfig) -> None:
        super().__init__(classifier, use_last_layer=config.use_last_layer)
        self.config, head = config, classifier.head
        width, classes = head.in_features, head.out_features
        std = config.init_std or default_std(self.access)
        self.pool = PromptPool(config.pool_size, width, uniform=False)
        self.masks = nn.Parameter(torch.full((config.pool_size, classes), -1.0))
        self.masks.requires_grad_(config.use_mask)
        self.blocks = prompted_blocks(self.access.depth)
        shared, chosen = map(len, self.blocks)
        self.shared = nn.Parameter(std * torch.randn(shared, config.shared_length, width))
        self.prompts = nn.Parameter(
            std * torch.randn(config.pool_size, chosen, config.length, width)
        )

    def prompted(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Choose by the counts so far, and encode with what was chosen: embeddings, and the rest
        of ``Seen``.
        """
        queries = self.query(batch)
        chosen = self.pool.nearest(queries, by_use=self.config.use_contrastive).squeeze(1)
        plan = prompts_by_block(self.shared, self.prompts[chosen], self.blocks)
        features = self.run(batch, plan)
        factor = 2 * self.masks[chosen].sigmoid()
        if not self.config.use_mask:
            factor = torch.ones_like(factor)
        return features, (queries, chosen, factor)

    def see(self, batch: Batch) -> Seen:
        features, rest = self.prompted(batch)
        return Seen(*rest, self.classifier.white(features))

    def masked(self, features: Tensor, factor: Tensor) -> Tensor:
        """z: (N, C)."""
        return self.classifier.mask(self.classifier.head(features) * factor)

    def forward(self, batch: Batch) -> Tensor:
        seen = self.see(batch)
        return self.masked(seen.features, seen.factor)


class MvpLearner(PromptLearner):
    model: MvpModel  # pyright: ignore[reportIncompatibleVariableOverride]

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        model, labels = self.model, both.labels
        seen = model.see(both)
        plain = model.masked(seen.features, seen.factor)
        value, terms = self._classification(seen, plain, labels)
        keys = self._keys(seen)
        if model.training:
            model.pool.count(seen.chosen)
        terms = {**self.terms(labels), **terms, "keys": keys}
        value = value + model.config.contrastive_weight * keys
        return Loss(value, terms, outputs=plain[: len(batch)])

    def _classification(
        self, seen: Seen, plain: Tensor, labels: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        model, config = self.model, self.model.config
        exposed, weight = self.classifier.exposed, self.classifier.head.weight
        scaled = plain
        if config.use_afs:
            size = feature_scale(
                seen.features, weight, labels, margin=config.margin, exposed=exposed
            )
            scaled = model.masked(seen.features / size[:, None], seen.factor)
        each = recording_losses(self.training_logits(scaled, labels), labels, exposed)
        if not config.use_gsf:
            return each.mean(), {}
        similarity = gradient_similarity(
            seen.features, self.training_logits(plain, labels), labels, seen.factor, exposed=exposed
        )
        value = gsf_loss(
            each, similarity, alpha=config.alpha, gamma=config.gamma, mode=config.gsf_mode
        )
        return value, {"gradient_similarity": similarity.mean()}

    def _keys(self, seen: Seen) -> Tensor:
        pool, config = self.model.pool, self.model.config
        if not config.use_contrastive:
            return key_distances(seen.queries, pool.keys).gather(1, seen.chosen[:, None]).mean()
        return cvpt_loss(seen.queries, pool.keys, seen.chosen, pool.counts, mode=config.cvpt_mode)

    def observe(self, batch: Batch) -> None:
        if self.memory is not None:
            several = self.classifier.multi_label
            self.memory.update(
                batch.indices, main_labels(batch.labels) if several else batch.labels
            )
