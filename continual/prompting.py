"""What prompt methods share: a frozen encoder, a pool of keys, prompts between its blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor, nn

from continual.classifier import Classifier
from continual.classifier_learner import ClassifierLearner, freeze_encoder
from continual.learner import FrozenTower
from multimodal.batch import Batch, Features
from multimodal.encoders.tokens import QueryEncoder, TokenAccess
from multimodal.loader import like_lengths
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
    def query_encoder(self) -> nn.Module:
        """What makes the queries. The last layer's are the encoder's own embeddings, and so those
        in the cache of any learner on this tower.
        """
        encoder: Any = self.classifier.encoder
        return encoder if self.use_last_layer else QueryEncoder(encoder, use_last_layer=False)

    def features(self, batch: Batch) -> Features:
        with torch.no_grad():
            return self.classifier.front_end(batch)

    def query(self, batch: Batch) -> Float[Tensor, "batch dim"]:
        """(N, D), without gradient."""
        if batch.embeddings is not None:
            return batch.embeddings
        return self.access.query(self.features(batch), use_last_layer=self.use_last_layer)

    def encode(self, batch: Batch, encode: Callable[[Features, Tensor], Tensor]) -> Tensor:
        """(N, ...) ``encode`` of the features of the batch and of its rows' numbers (n,) int64.

        It is called once, or, of sounds that a pretrained encoder reads on a CPU, for those of like
        length together: what it makes of a recording does not depend on padding, but costs it.
        """
        places = self._alike(batch)
        if len(places) == 1:
            return encode(self.features(batch), places[0].to(batch.lengths.device))
        made = [encode(self.features(_part(batch, rows)), rows) for rows in places]
        return torch.cat(made)[torch.cat(places).argsort()]

    def run(self, batch: Batch, plan: Mapping[int, Tensor]) -> Float[Tensor, "batch dim"]:
        """(N, D) embeddings with prompts (N, T, D) before the blocks of ``plan``."""

        def prompted(features: Features, rows: Tensor) -> Tensor:
            own = {block: prompt[rows] for block, prompt in plan.items()}
            return self.access.run(features, own).pooled

        return self.encode(batch, prompted)

    def _alike(self, batch: Batch) -> list[Tensor]:
        """Numbers of rows that are computed together. A compact encoder, or a graphics card, takes
        longer to begin a computation than padding costs.
        """
        if not self.access.kind or batch.inputs.dim() != 3 or batch.lengths.device.type != "cpu":
            return [torch.arange(len(batch))]
        return [torch.from_numpy(p) for p in like_lengths(batch.lengths.numpy(), len(batch))]

    def prompted(self, batch: Batch) -> tuple[Float[Tensor, "batch dim"], Any]:
        """(N, D) what the encoder makes of a batch with prompts; what else a loss is made of."""
        raise NotImplementedError

    def logits(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch classes"]:
        """(N, C) of embeddings with prompts, -inf for classes not exposed."""
        return self.classifier.mask(self.classifier.scored(features))

    def forward(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        return self.logits(self.prompted(batch)[0])


def _part(batch: Batch, rows: Tensor) -> Batch:
    """Some recordings of sound, (n,) numbers, without the padding that only the others need."""
    lengths = batch.lengths[rows]
    inputs = batch.inputs[rows, :, : int(lengths.max())]
    own = replace(batch, inputs=inputs, lengths=lengths, labels=batch.labels[rows])
    return replace(own, indices=batch.indices[rows], texts=None, embeddings=None)


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
