"""What prompt methods share: a frozen encoder, a pool of keys, prompts between its blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from continual.classifier import Classifier
from continual.classifier_learner import ClassifierLearner, freeze_encoder
from continual.learner import FrozenTower
from multimodal.batch import Batch, Features
from multimodal.encoders.tokens import QueryEncoder, TokenAccess
from multimodal.objectives.mvp import key_distances

FROZEN = ("classifier.front_end.", "classifier.encoder.")


def prompted_blocks(depth: int) -> tuple[list[int], list[int]]:
    """Blocks of the shared prompt and of the chosen ones: of 12, the first 2 and the next 3.

    Other depths have the same shares, at least one block each (one block serves as both).
    """
    shared = max(1, round(2 * depth / 12))
    chosen = max(1, round(3 * depth / 12))
    first = min(shared, depth - 1)
    return list(range(shared)), list(range(first, min(first + chosen, depth)))


def default_std(access: TokenAccess) -> float:
    """Of prompts' initial values: 1, as published for ViT, where blocks begin with a norm.

    Such a norm undoes any other scale but leaves small prompts with huge steps. 0.02 for encoders
    whose blocks end with their norm (wav2vec 2.0, HuBERT), or have much smaller tokens (Whisper).
    """
    return 0.02 if access.kind in ("wav2vec2", "hubert", "whisper") else 1.0


class PromptModel(nn.Module):
    """A Classifier whose encoder is frozen, with a query of each recording.

    use_last_layer: see ``TokenAccess.query``. A batch may bring its queries as ``embeddings``
    beside the signals (``PromptLearner.frozen_tower``).
    """

    def __init__(self, classifier: Classifier, *, use_last_layer: bool) -> None:
        super().__init__()
        freeze_encoder(classifier)
        classifier.train(classifier.training)  # a frozen encoder is in evaluation mode
        self.classifier, self.use_last_layer = classifier, use_last_layer
        self.access = TokenAccess(classifier.encoder)

    @property
    def query_encoder(self) -> QueryEncoder:
        return QueryEncoder(self.classifier.encoder, use_last_layer=self.use_last_layer)

    def features(self, batch: Batch) -> Features:
        with torch.no_grad():
            return self.classifier.front_end(batch)

    def query(self, batch: Batch, features: Features) -> Float[Tensor, "batch dim"]:
        """(N, D), without gradient."""
        if batch.embeddings is not None:
            return batch.embeddings
        return self.access.query(features, use_last_layer=self.use_last_layer)

    def prompted(self, batch: Batch) -> tuple[Float[Tensor, "batch dim"], Any]:
        """(N, D) what the encoder makes of a batch with prompts; what else a loss is made of."""
        raise NotImplementedError

    def logits(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        """(N, C) of embeddings with prompts, -inf for classes not exposed."""
        return self.classifier.mask(self.classifier.scored(features))

    def forward(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        return self.logits(self.prompted(batch)[0])


class PromptPool(nn.Module):
    """``keys`` (P, D) that queries choose among; ``counts`` (P,) of how often each was chosen."""

    counts: Tensor

    def __init__(self, size: int, width: int, *, uniform: bool) -> None:
        super().__init__()
        start = torch.empty(size, width)
        self.keys = nn.Parameter(start.uniform_(-1, 1) if uniform else start.normal_())
        self.register_buffer("counts", torch.zeros(size))

    def nearest(
        self, queries: Float[Tensor, "batch dim"], *, count: int = 1, by_use: bool = False
    ) -> Int64[Tensor, "batch {count}"]:
        """(N, count) int64 entries of least d = 1 - cos(q, k); by_use: of d * (counts + 1)."""
        with torch.no_grad():
            distance = key_distances(queries, self.keys)
            if by_use:
                distance = distance * (self.counts + 1)
            return distance.topk(count, largest=False).indices

    def count(self, chosen: Int[Tensor, "..."]) -> None:
        """Note which entries (any shape) a training batch has chosen."""
        self.counts += torch.bincount(chosen.flatten(), minlength=len(self.counts))


def prompts_by_block(
    shared: Float[Tensor, "shared_blocks shared_tokens dim"],
    chosen: Float[Tensor, "batch chosen_blocks chosen_tokens dim"],
    blocks: tuple[list[int], list[int]],
) -> Mapping[int, Float[Tensor, "batch _tokens dim"]]:
    """Block -> (N, T, D) prompts.

    shared: (blocks, T, D), the same for every recording; chosen: (N, blocks, T, D).
    """
    plan: dict[int, Tensor] = {}
    for place, block in enumerate(blocks[0]):
        plan[block] = shared[place].expand(len(chosen), -1, -1)
    for place, block in enumerate(blocks[1]):
        own = chosen[:, place]
        plan[block] = own if block not in plan else torch.cat([plan[block], own], dim=1)
    return plan


class PromptLearner(ClassifierLearner):
    """A ClassifierLearner whose model is a PromptModel; the frozen part is in no checkpoint.

    A whitened head counts a recording as it is with the prompts of the time when it arrives.
    """

    model: PromptModel  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, model: PromptModel, **options: Any) -> None:
        super().__init__(model.classifier, **options)
        self.model = model

    def features(self, batch: Batch) -> Float[Tensor, "batch dim"]:
        return self.model.prompted(batch)[0]

    def tower(self) -> FrozenTower | None:
        """None: prompts enter the encoder, so its embeddings alone do not make the scores."""
        return None

    def frozen_tower(self) -> FrozenTower | None:
        """The queries: prompts change what the encoder makes of a signal, not what chooses them."""
        return FrozenTower(self.classifier.front_end, self.model.query_encoder, beside=True)

    def weights(self) -> dict[str, Tensor]:
        state = self.model.state_dict()
        return {name: value for name, value in state.items() if not name.startswith(FROZEN)}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        super().load_weights({**self.model.state_dict(), **weights})
