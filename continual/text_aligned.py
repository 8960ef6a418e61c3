"""What text-aligned learners share: classes are named by their prompts, so unseen ones can be too.

A method of this family is its loss and its settings: see ``learners/cwcl.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from continual.aligned_classifier import AlignedClassifier, LabelSets
from continual.classifier_learner import WhitenedConfig, main_labels
from continual.learner import (
    ExperienceInfo,
    FrozenTower,
    Kind,
    Learner,
    LearnerContext,
    Prediction,
)
from continual.recall import remember
from continual.rehearsal import make_memory
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.evaluation.findings import heading_of
from multimodal.evaluation.prompts import load_prompts, prompts_of
from multimodal.models.captions import Captions
from multimodal.models.towers import Aligned, TextTowerConfig, Tower, build_aligned
from multimodal.objectives.views import TEXT, Views
from multimodal.weights import trained_weights


class TextAlignedConfig(WhitenedConfig):
    """Of learners that align signals with a text encoder.

    text: the text encoder, frozen but for methods with ``trains_text``. width: of the joint space;
    None: the text encoder's own. captions: recordings go with prompts of their class ("labels", the
    templates in turn; of multi-label data all classes that are positive, "findings: A, B") or with
    their own texts, which may tell of classes still to come. templates, phrases: files of the
    prompts; None: those of the modality, class names. memory_size: recordings; 0: no rehearsal.
    head: of the projection of signals, see ``HeadConfig``; there is no other.
    """

    kind: ClassVar[Kind] = "online"
    trains_text: ClassVar[bool] = False

    text: TextTowerConfig = TextTowerConfig()
    width: Annotated[int, Field(ge=2)] | None = None
    captions: Literal["labels", "text"] = "labels"
    templates: str | None = None
    phrases: str | None = None
    memory_size: Annotated[int, Field(ge=0)] = 0
    memory_batch_size: Annotated[int, Field(ge=1)] = 32
    policy: Literal["reservoir", "class_balanced", "herding"] = "class_balanced"

    @property
    def needs_texts(self) -> bool:
        return self.captions == "text"

    def parts(self, context: LearnerContext, **scale: Any) -> dict[str, Any]:
        """Arguments of a ``TextAlignedLearner``. scale: ``ViewsConfig.start``.

        UserError: a text encoder that is trained, prompts that do not fit, whitening where the
        encoder is trained.
        """
        if not (self.text.frozen or self.trains_text):
            raise UserError(
                f"learner {self.registered_name!r} needs a frozen text encoder; set "
                "text.train=none, without text.lora."
            )
        readers = {context.modality: context.model}
        aligned = build_aligned(readers, self.text, width=self.width, **scale)
        if self.head.whiten:
            (tower,) = aligned.signals.values()
            assert isinstance(tower, Tower)
            tower.whiten("head.whiten", self.head.eps)
        names = context.class_names
        texts = prompts_of(context.modality, names, self.templates, self.phrases)
        device = context.model.head.weight.device
        sets = None
        if context.model.multi_label:
            prompts = load_prompts(self.templates or context.modality, self.phrases)
            words = prompts.words(names)
            sets = LabelSets(aligned, words, heading_of(context.modality))
        model = AlignedClassifier(aligned, texts, sets).to(device)
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
        if self.captions == "labels" or not context.trains:
            return None
        texts, settings = context.texts or (), self.text.dump()
        return Captions(texts, aligned, settings=settings, folder=context.cache_folder)


class TextAlignedLearner(Learner):
    """Pairs of recordings and texts; a method adds its loss.

    The memory is filled when an experience ends, in a random order, as that of ``replay``; in an
    online stream it is fed recording by recording, as that of ``er``.
    """

    kind = "online"
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
        self.captions, self.seed, self._online = captions, seed, False

    def begin_experience(self, info: ExperienceInfo) -> None:
        self.model.expose(info.exposed)
        if self.captions is not None:
            self.captions.ensure(info.rows)

    def meet(
        self,
        rows: Int[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> None:
        self._online = True
        self.model.meet(labels)
        if self.captions is not None:
            self.captions.ensure(rows.cpu().numpy())

    @torch.no_grad()
    def arrive(self, batch: Batch) -> None:
        tower = self.model.tower
        if tower.whitening is not None and len(batch):  # encoders need a recording
            tower.whitening.update(tower.encode(batch))

    def observe(self, batch: Batch) -> None:
        if self._online and self.memory is not None:
            labels = batch.labels
            if self.model.label_sets is not None:
                labels = main_labels(labels)
            self.memory.update(batch.indices, labels)

    def views(self, batch: Batch) -> Views:
        """Embedded signals and texts of a batch, with gradients; the scale is clamped before."""
        aligned = self.model.aligned
        aligned.clamp_scale()
        source, ids = self._texts(batch)
        signals = aligned.embed_signals(batch)
        return Views(
            embeddings={self.model.modality: signals, TEXT: aligned.text.projection(source)},
            source=source,
            ids=ids,
            scale=aligned.scale,
            bias=aligned.bias,
            groups=self.groups_of(batch),
        )

    def groups_of(self, batch: Batch) -> Int[Tensor, " batch"] | None:
        """(N,) equal where patients, speakers or sources are, for methods that look at that."""
        return None

    @torch.no_grad()
    def outputs(self, views: Views, count: int) -> Float[Tensor, "{count} classes"]:
        """(count, C) cosines of the first ``count`` signals with all classes, for plugins."""
        signals = views.embeddings[self.model.modality]
        return normalize(signals[:count], dim=1) @ self.model.class_vectors().T

    def _texts(self, batch: Batch, model: AlignedClassifier | None = None) -> tuple[Tensor, Tensor]:
        """Encoded texts (N, W) and their numbers (N,). model: a copy that reads the same texts."""
        model = model or self.model
        if self.captions is None:
            return model.texts_of(batch.labels, batch.indices, self.model.exposed)
        rows, device = batch.indices.cpu().numpy(), batch.labels.device
        found = model.aligned.text.encode(self.captions.gather(rows).to(device))
        return found, torch.from_numpy(self.captions.of_row[rows]).to(device)

    def end_experience(self, info: ExperienceInfo) -> None:
        if self.memory is not None and not self._online:
            remember(self.memory, self.model, info, self.seed)

    def predict(self, batch: Batch) -> Prediction:
        """Multi-label: a class is named where its prompts are nearer than "no findings" is."""
        signals, model = self.model.embed(batch), self.model
        scores = model.mask(signals @ model.class_vectors().T)
        if model.label_sets is None:
            return Prediction(scores.argmax(1), scores)
        return Prediction(scores > (signals @ model.no_label())[:, None], scores)

    def probabilities(self, batch: Batch, prediction: Prediction) -> Float[Tensor, "batch classes"]:
        """Of the scaled cosines; multi-label, of how much nearer than "no findings" each is."""
        scores, model = prediction.scores, self.model
        assert scores is not None
        if model.label_sets is not None:
            scores = scores - (model.embed(batch) @ model.no_label())[:, None]
        scaled = Prediction(prediction.labels, model.aligned.scale * scores)
        return super().probabilities(batch, scaled)

    def score_all(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        return self.model.all_scores(batch)

    def frozen_tower(self) -> FrozenTower | None:
        tower = self.model.tower
        return FrozenTower(tower.front_end, tower.encoder) if tower.frozen else None

    def weights(self) -> dict[str, Tensor]:
        """Without the frozen text encoder, which the config names."""
        return trained_weights(self.model)

    @torch.no_grad()
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        for name, tensor in trained_weights(self.model).items():
            tensor.copy_(weights[name])
