"""Text-aligned continual learning: a contrastive objective pulls signals towards texts.

CWCL (Srinivasa et al., NeurIPS 2023, arXiv:2309.14580; ours is a reconstruction, see
``multimodal/objectives/cwcl.py``) or another objective aligns the signal encoder with a frozen text
encoder, experience by experience, with or without rehearsal. Classes are told apart by their
prompts, so classes that no experience has shown yet can be named too: zero-shot.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from continual.learner import (
    LEARNERS,
    ExperienceInfo,
    Learner,
    LearnerConfig,
    LearnerContext,
    Prediction,
    embed,
)
from continual.rehearsal import Memory, make_memory
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.evaluation.prompts import load_prompts
from multimodal.models.captions import Captions
from multimodal.models.towers import Aligned, TextTowerConfig, Tower
from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.pairs import AlignmentConfig, Pairs
from multimodal.registry import Config
from multimodal.weights import trained_weights


@LEARNERS.register("cwcl")
class CwclLearnerConfig(LearnerConfig):
    """objective: cwcl, or clip, siglip to compare with. text: the frozen text encoder. width: of
    the joint space; None: the text encoder's own. captions: recordings go with prompts of their
    class ("labels", the templates in turn) or with their own texts, which may tell of classes still
    to come. templates, phrases: files of the prompts; None: those of the modality, class names.
    memory_size: recordings; 0: no rehearsal.
    """

    objective: Annotated[Config, OBJECTIVES.choice] = Field(
        default_factory=lambda: OBJECTIVES.parse("cwcl")
    )
    text: TextTowerConfig = TextTowerConfig()
    width: Annotated[int, Field(ge=2)] | None = None
    captions: Literal["labels", "text"] = "labels"
    templates: str | None = None
    phrases: str | None = None
    memory_size: Annotated[int, Field(ge=0)] = 0
    memory_batch_size: Annotated[int, Field(ge=1)] = 32
    policy: Literal["reservoir", "class_balanced", "herding"] = "class_balanced"

    def build(self, context: LearnerContext) -> CwclLearner:
        """UserError: multi-label data, a text encoder that is trained, prompts that do not fit."""
        if context.model.multi_label:
            raise UserError(
                "learner 'cwcl' chooses one class by its prompt; set dataset.single_label=true, "
                "or choose a learner for multi-label data, such as replay."
            )
        if self.text.train != "none":
            raise UserError("learner 'cwcl' needs a frozen text encoder; set text.train=none.")
        assert isinstance(self.objective, AlignmentConfig)
        model = self._model(context)
        captions = None
        if self.captions == "text":
            captions = Captions(
                context.texts or (),
                model.aligned,
                settings=self.text.dump(),
                folder=context.cache_folder,
            )
        memory = None
        if self.memory_size:
            memory = make_memory(self.policy, self.memory_size, context.seed)
        return CwclLearner(
            model,
            self.objective,
            captions=captions,
            memory=memory,
            memory_batch_size=self.memory_batch_size,
            seed=context.seed,
        )

    def _model(self, context: LearnerContext) -> AlignedClassifier:
        tokenizer = self.text.adapter()
        words, reader = self.text.encoder.build(tokenizer), context.model.encoder
        joint = self.width or words.width
        head = nn.Identity() if self.width is None else nn.Linear(words.width, joint, bias=False)
        signal_head = nn.Linear(context.model.head.in_features, joint, bias=False)
        assert isinstance(self.objective, AlignmentConfig)
        aligned = Aligned(
            {context.modality: Tower(context.model.front_end, reader, signal_head, width=joint)},  # pyright: ignore
            Tower(self.text.encoder.front_end(tokenizer), words, head, width=joint),
            tokenizer,
            scale=self.objective.scale,
            bias=self.objective.bias,
        )
        prompts = load_prompts(self.templates or context.modality, self.phrases)
        device = context.model.head.weight.device
        return AlignedClassifier(aligned, prompts.texts(context.class_names)).to(device)


class AlignedClassifier(nn.Module):
    """``forward(batch) -> cosines (N, C)`` with the class vectors, -inf for classes not exposed.

    prompts: of each class, as many as templates, or one's own; a class vector is the normalised
    mean of its normalised prompts. ``exposed`` (C,) bool is part of the state.
    """

    exposed: Tensor
    prompts_PW: Tensor
    first_C: Tensor
    number_C: Tensor

    def __init__(self, aligned: Aligned, prompts: list[tuple[str, ...]]) -> None:
        super().__init__()
        self.aligned = aligned
        numbers = torch.tensor([len(texts) for texts in prompts])
        encoded = aligned.encode_texts([text for texts in prompts for text in texts])
        self.register_buffer("exposed", torch.zeros(len(prompts), dtype=torch.bool))
        self.register_buffer("prompts_PW", encoded, persistent=False)
        self.register_buffer("first_C", numbers.cumsum(0) - numbers, persistent=False)
        self.register_buffer("number_C", numbers, persistent=False)

    @property
    def tower(self) -> Tower:
        (tower,) = self.aligned.signals.values()
        assert isinstance(tower, Tower)
        return tower

    @property
    def front_end(self) -> nn.Module:
        return self.tower.front_end

    @property
    def encoder(self) -> nn.Module:
        return self.tower.encoder

    @property
    def frozen(self) -> bool:
        return self.tower.frozen

    def expose(self, classes: Iterable[int]) -> None:
        """From now on these classes are candidates too."""
        self.exposed[list(classes)] = True

    def embed(self, batch: Batch) -> Tensor:
        """(N, D) of length 1, in the joint space."""
        return normalize(self.aligned.embed_signals(batch), dim=1)

    def prompts_of(self, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Each recording's prompt, its class's in turn by row: encoded (N, W), and its number."""
        number = self.first_C[labels] + rows % self.number_C[labels]
        return self.prompts_PW[number], number

    def class_vectors(self) -> Tensor:
        """(C, D) of length 1."""
        unit_PD = normalize(self.aligned.text.projection(self.prompts_PW), dim=1)
        owner = torch.repeat_interleave(self.number_C)
        sums = unit_PD.new_zeros(len(self.number_C), unit_PD.shape[1])
        return normalize(sums.index_add_(0, owner, unit_PD), dim=1)

    def all_scores(self, batch: Batch) -> Tensor:
        """(N, C) cosines with every class, exposed or not."""
        return self.embed(batch) @ self.class_vectors().T

    def forward(self, batch: Batch) -> Tensor:
        unseen = ~self.exposed & self.exposed.any()
        return self.all_scores(batch).masked_fill(unseen, float("-inf"))


class CwclLearner(Learner):
    """Pairs of the stream batch and the memory batch go into one contrastive batch.

    The memory is filled when an experience ends, in a random order, as that of ``replay``.
    """

    online = "no"
    model: AlignedClassifier

    def __init__(
        self,
        model: AlignedClassifier,
        objective: AlignmentConfig,
        *,
        captions: Captions | None = None,
        memory: Memory | None = None,
        memory_batch_size: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(model, memory=memory, memory_batch_size=memory_batch_size)
        self.objective, self.captions, self.seed = objective, captions, seed

    def begin_experience(self, info: ExperienceInfo) -> None:
        self.model.expose(info.exposed)
        if self.captions is not None:
            self.captions.ensure(info.rows)

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        aligned = self.model.aligned
        aligned.clamp_scale()
        source, ids = self._texts(both)
        signals = aligned.embed_signals(both)
        texts = aligned.text.projection(source)
        pairs = Pairs(signals, texts, source, ids, aligned.scale, aligned.bias)
        loss = self.objective.loss(pairs, gather=False)
        with torch.no_grad():
            unit = normalize(signals[: len(batch)], dim=1)
            outputs = unit @ self.model.class_vectors().T
        return Loss(loss.value, loss.terms, outputs=outputs)

    def _texts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Encoded texts (N, W) and their numbers (N,)."""
        if self.captions is None:
            return self.model.prompts_of(batch.labels, batch.indices)
        rows = batch.indices.cpu().numpy()
        found = self.captions.gather(rows).embeddings
        assert found is not None
        ids = torch.from_numpy(self.captions.of_row[rows])
        return found.to(batch.labels.device), ids.to(batch.labels.device)

    def end_experience(self, info: ExperienceInfo) -> None:
        if self.memory is None:
            return
        order = np.random.default_rng([self.seed, info.index]).permutation(len(info.rows))
        features = None
        if self.memory.needs_features:
            features = embed(self.model, info)[torch.as_tensor(order)]
        self.memory.update(info.rows[order], info.labels[order], features)

    def predict(self, batch: Batch) -> Prediction:
        scores = self.model(batch)
        return Prediction(scores.argmax(1), scores)

    def score_all(self, batch: Batch) -> Tensor:
        return self.model.all_scores(batch)

    def weights(self) -> dict[str, Tensor]:
        """Without the frozen text encoder, which the config names."""
        return trained_weights(self.model)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in self.weights().items():
                tensor.copy_(state["model"][name])
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])
