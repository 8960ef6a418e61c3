"""What text-aligned learners share: classes are named by their prompts, so unseen ones can be too.

A method of this family is its loss and its settings: see ``learners/cwcl.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import normalize

from continual.learner import (
    ExperienceInfo,
    FrozenTower,
    Kind,
    Learner,
    LearnerConfig,
    LearnerContext,
    Prediction,
    remember,
)
from continual.rehearsal import make_memory
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.evaluation.prompts import load_prompts
from multimodal.models.captions import Captions
from multimodal.models.towers import Aligned, TextTowerConfig, Tower, build_aligned
from multimodal.objectives.pairs import Pairs
from multimodal.weights import trained_weights


class TextAlignedConfig(LearnerConfig):
    """Of learners that align signals with a frozen text encoder.

    text: the frozen text encoder. width: of the joint space; None: the text encoder's own.
    captions: recordings go with prompts of their class ("labels", the templates in turn) or with
    their own texts, which may tell of classes still to come. templates, phrases: files of the
    prompts; None: those of the modality, class names. memory_size: recordings; 0: no rehearsal.
    """

    kind: ClassVar[Kind] = "offline"

    text: TextTowerConfig = TextTowerConfig()
    width: Annotated[int, Field(ge=2)] | None = None
    captions: Literal["labels", "text"] = "labels"
    templates: str | None = None
    phrases: str | None = None
    memory_size: Annotated[int, Field(ge=0)] = 0
    memory_batch_size: Annotated[int, Field(ge=1)] = 32
    policy: Literal["reservoir", "class_balanced", "herding"] = "class_balanced"

    def parts(self, context: LearnerContext, *, scale: float, bias: float) -> dict[str, Any]:
        """Arguments of a ``TextAlignedLearner``. scale, bias: of the objective, at the start.

        UserError: multi-label data, a text encoder that is trained, prompts that do not fit.
        """
        name = self.registered_name
        if context.model.multi_label:
            raise UserError(
                f"learner {name!r} chooses one class by its prompt; set dataset.single_label=true, "
                "or choose a learner for multi-label data, such as replay."
            )
        if self.text.train != "none":
            raise UserError(f"learner {name!r} needs a frozen text encoder; set text.train=none.")
        readers = {context.modality: context.model}
        aligned = build_aligned(readers, self.text, width=self.width, scale=scale, bias=bias)
        prompts = load_prompts(self.templates or context.modality, self.phrases)
        device = context.model.head.weight.device
        model = AlignedClassifier(aligned, prompts.texts(context.class_names)).to(device)
        return {
            "model": model,
            "captions": self._captions(context, aligned),
            "memory": (
                make_memory(self.policy, self.memory_size, context.seed)
                if self.memory_size
                else None
            ),
            "memory_batch_size": self.memory_batch_size,
            "seed": context.seed,
        }

    def _captions(self, context: LearnerContext, aligned: Aligned) -> Captions | None:
        if self.captions == "labels":
            return None
        texts, settings = context.texts or (), self.text.dump()
        return Captions(texts, aligned, settings=settings, folder=context.cache_folder)


class AlignedClassifier(nn.Module):
    """``forward(batch) -> cosines (N, C)`` with the class vectors, -inf for classes not exposed.

    A loss scales ``all_scores`` and masks afterwards: an infinity times a learned scale has no
    gradient but NaN.

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

    def embed(self, batch: Batch) -> Float[Tensor, "batch dim"]:
        """(N, D) of length 1, in the joint space."""
        return normalize(self.aligned.embed_signals(batch), dim=1)

    def prompts_of(
        self, labels: Int[Tensor, " batch"], rows: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch width"], Int[Tensor, " batch"]]:
        """Each recording's prompt, its class's in turn by row: encoded (N, W), and its number."""
        number = self.first_C[labels] + rows % self.number_C[labels]
        return self.prompts_PW[number], number

    def class_vectors(self) -> Float[Tensor, "classes dim"]:
        """(C, D) of length 1."""
        unit_PD = normalize(self.aligned.text.projection(self.prompts_PW), dim=1)
        owner = torch.repeat_interleave(self.number_C)
        sums = unit_PD.new_zeros(len(self.number_C), unit_PD.shape[1])
        return normalize(sums.index_add_(0, owner, unit_PD), dim=1)

    def all_scores(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        """(N, C) cosines with every class, exposed or not."""
        return self.embed(batch) @ self.class_vectors().T

    def forward(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        unseen = ~self.exposed & self.exposed.any()
        return self.all_scores(batch).masked_fill(unseen, float("-inf"))


class TextAlignedLearner(Learner):
    """Pairs of recordings and texts; a method adds its loss.

    The memory is filled when an experience ends, in a random order, as that of ``replay``.
    """

    kind = "offline"
    model: AlignedClassifier

    def __init__(
        self,
        model: AlignedClassifier,
        *,
        captions: Captions | None = None,
        seed: int = 0,
        **rehearsal: Any,
    ) -> None:
        super().__init__(model, **rehearsal)
        self.captions, self.seed = captions, seed

    def begin_experience(self, info: ExperienceInfo) -> None:
        self.model.expose(info.exposed)
        if self.captions is not None:
            self.captions.ensure(info.rows)

    def meet(
        self,
        rows: Int[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> None:
        self.model.expose(labels.tolist())
        if self.captions is not None:
            self.captions.ensure(rows.cpu().numpy())

    def pairs(self, batch: Batch) -> Pairs:
        """Embedded signals and texts of a batch, with gradients; the scale is clamped before."""
        aligned = self.model.aligned
        aligned.clamp_scale()
        source, ids = self._texts(batch)
        signals = aligned.embed_signals(batch)
        texts = aligned.text.projection(source)
        return Pairs(signals, texts, source, ids, aligned.scale, aligned.bias)

    @torch.no_grad()
    def outputs(self, pairs: Pairs, count: int) -> Float[Tensor, "{count} classes"]:
        """(count, C) cosines of the first ``count`` signals with all classes, for plugins."""
        return normalize(pairs.signals[:count], dim=1) @ self.model.class_vectors().T

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
        if self.memory is not None:
            remember(self.memory, self.model, info, self.seed)

    def predict(self, batch: Batch) -> Prediction:
        scores = self.model(batch)
        return Prediction(scores.argmax(1), scores)

    def score_all(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        return self.model.all_scores(batch)

    def frozen_tower(self) -> FrozenTower | None:
        tower = self.model.tower
        return FrozenTower(tower.front_end, tower.encoder) if tower.frozen else None

    def weights(self) -> dict[str, Tensor]:
        """Without the frozen text encoder, which the config names."""
        return trained_weights(self.model)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in self.weights().items():
                tensor.copy_(state["model"][name])
        if self.memory is not None:
            self.memory.load_state_dict(state["memory"])
