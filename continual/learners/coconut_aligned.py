"""COCONUT for every modality: its contrast beside class prompts, without a decoder.

An extension of this project and nobody's published method: COCONUT (Cappellazzo et al., Findings of
ACL 2024, arXiv 2310.02699; ours is a reconstruction, see ``multimodal/objectives/coconut.py``)
writes what was said, and has nothing to say of X-rays. Here class prompts replace the decoder::

    L = L_CE + mm MM(signal, text) + nspt NSPT(signal) + feature_kd MSE + answer_kd KL + label_kd CE

L_CE is the cross-entropy of the scaled cosines with the vectors of the exposed classes, over stream
and memory; of multi-label data the binary one of how much nearer each class is than "no findings".
MM is on the current classes, all else on rehearsal samples. The last three stand where COCONUT's
companions have the encoder's tokens, the next token and the written sequence. The teacher is the
model at the end of the last experience, or as ``continual/teacher.py`` says. With both contrastive
weights 0 this is experience replay.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import normalize

from continual.aligned_classifier import AlignedClassifier
from continual.learner import LEARNERS, LearnerContext
from continual.recall import Recollection
from continual.taught import Taught
from continual.teacher import TaughtConfig, Weight
from continual.text_aligned import TextAlignedConfig, TextAlignedLearner
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.objectives import Loss
from multimodal.objectives.classification import classification_loss
from multimodal.objectives.distillation import answer_distillation, feature_distillation


@LEARNERS.register("coconut_aligned")
class CoconutAlignedConfig(TextAlignedConfig, TaughtConfig):
    """Settings of the contrast: see ``CoconutConfig``; 0 leaves a term out. text_nspt: NSPT of the
    texts too, with the same weight, where their side is trained (width, text.lora, text.train).
    feature_kd, answer_kd, label_kd: weights of the distillation of embeddings before the
    projection, of answers on the classes that the teacher knows, and to what it named each
    recording of the memory at the end of its experience.
    """

    trains_text: ClassVar[bool] = True
    kd_terms: ClassVar[tuple[str, ...]] = ("feature_kd", "answer_kd", "label_kd")
    kd_stored: ClassVar[str] = "label_kd"

    text_nspt: bool = False
    feature_kd: Weight = 0.0
    answer_kd: Weight = 0.0
    label_kd: Weight = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._refuse(not self.nspt, "nspt=0", "text_nspt")
        self._refuse(self.width is None and self.text.frozen, "a frozen text side", "text_nspt")
        if self.mm_positive == "paired" and self.captions == "labels":
            raise ValueError(
                "mm_positive=paired: with captions=labels recordings of a class share their text; "
                "set captions: text, or leave it out"
            )
        return self

    @property
    def row_name(self) -> str:
        bare = "aligned ER" if self.memory_size else "aligned fine-tuning"
        base = self.row_of(self.registered_name, bare)
        return f"{base}{', whitened' * self.head.whiten}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, *self.kd_terms, "nspt", "mm")

    def build(self, context: LearnerContext) -> CoconutAlignedLearner:
        """UserError: settings that the data or the encoder leave without effect."""
        if self.feature_kd and context.model.frozen:
            raise UserError(
                f"feature_kd={self.feature_kd}: the embeddings of a frozen encoder stay what they "
                "are; leave it out, or train the encoder."
            )
        if self.overlap != "any" and not context.model.multi_label:
            raise UserError(
                f"overlap={self.overlap}: recordings of this dataset have one label each; leave it "
                "out."
            )
        return CoconutAlignedLearner(self, **self.parts(context))


class CoconutAlignedLearner(Taught, TextAlignedLearner):
    """``stored``: what the teacher named the memory's recordings: labels (M,), or targets (M, C),
    NaN where it did not know the class.

    Where nothing is random, and memory and teacher stay what they are, the teacher reads the memory
    once an experience.
    """

    def __init__(self, config: CoconutAlignedConfig, model: AlignedClassifier, **parts: Any):
        super().__init__(model, **parts)
        self.config = config
        self.be_taught(model, config)

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        config, model, new = self.config, self.model, len(batch)
        model.aligned.clamp_scale()
        aligns = config.mm_in(self.task)
        seen = self.see(model, both, text=aligns or config.text_nspt, logits=True)
        logits = model.mask(seen["logits"])
        value = classification_loss(logits, both.labels, model.exposed)
        terms = {"classification": value.detach(), "scale": model.aligned.scale.detach()}
        labels = self._shown(both.labels)
        rehearsal = torch.arange(len(both), device=labels.device) >= new
        if aligns:
            one_text = self.captions is None
            found = config.mm_loss(
                seen["signal"], seen["text"], labels, rehearsal, one_text_a_class=one_text
            )
            value = value + config.mm * found.value
            terms |= {"mm": found.value.detach(), "mm_classes": found.terms["classes"]}
        if self.teacher.model is not None and memory_batch is not None:
            for name, (weight, term) in self._taught(both, seen, labels, rehearsal).items():
                value, terms[name] = value + weight * term, term.detach()
        return Loss(value, terms, outputs=logits[:new])

    def see(
        self, model: AlignedClassifier, batch: Batch, *, text: bool, logits: bool
    ) -> dict[str, Tensor]:
        """What student or teacher make of recordings: pooled (N, W), before the projection; signal
        (N, D); and where asked for text (N, D) and logits (N, C), see ``answers``.
        """
        pooled = model.tower.encode(batch)
        found = {
            "pooled": pooled,
            "signal": model.aligned.embed_signals(replace(batch, embeddings=pooled)),
        }
        if text:
            found["text"] = model.aligned.text.projection(self._texts(batch, model)[0])
        if logits:
            found["logits"] = self.answers(model, found["signal"])
        return found

    def answers(
        self, model: AlignedClassifier, signals: Float[Tensor, "batch dim"]
    ) -> Float[Tensor, "batch classes"]:
        """(N, C) scaled cosines with all classes, exposed or not; multi-label, less that with "no
        findings", so that what ``predict`` names is above 0.
        """
        near, learn = normalize(signals, dim=1), torch.is_grad_enabled()
        cosines = near @ model.class_vectors(learn=learn).T
        if model.label_sets is not None:
            cosines = cosines - (near @ model.no_label(learn=learn))[:, None]
        return model.aligned.scale * cosines

    def _shown(self, labels: Tensor) -> Tensor:
        """Of targets those of classes that are not exposed are unknown yet."""
        if labels.dim() == 1:
            return labels
        return labels.masked_fill(~self.model.exposed, float("nan"))

    def _taught(
        self, both: Batch, seen: dict[str, Tensor], labels: Tensor, rehearsal: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of every term that asks the teacher."""
        config, model = self.config, self.model
        new = len(both) - int(rehearsal.sum())
        old, found = self._recall(both, new), {}
        for name in ("signal", "text")[: 1 + config.text_nspt] if config.nspt else ():
            past = torch.zeros_like(seen[name])
            past[len(past) - len(old[name]) :] = old[name]
            term = config.nspt_loss(seen[name], past, labels, rehearsal)
            found[f"nspt_{name}"] = (config.nspt, term)
        mine = {name: tensor[new:] for name, tensor in seen.items()}
        theirs = {name: tensor[-len(mine["signal"]) :] for name, tensor in old.items()}
        if config.feature_kd:
            own, past = mine["pooled"][:, None], theirs["pooled"][:, None]
            every = torch.ones_like(own[..., 0], dtype=torch.bool)
            found["feature_kd"] = (config.feature_kd, feature_distillation(own, past, every))
        if config.answer_kd:
            several, known = model.label_sets is not None, self.teacher.model.exposed
            term = answer_distillation(mine["logits"], theirs["logits"], known, multi_label=several)
            found["answer_kd"] = (config.answer_kd, term)
        if config.label_kd:
            assert self.stored is not None
            told = self.stored.of(both.indices[new:])["labels"]
            term = classification_loss(model.mask(mine["logits"]), told, model.exposed)
            found["label_kd"] = (config.label_kd, term)
        return found

    # ---- the teacher --------------------------------------------------------------------

    @torch.no_grad()
    def _recall(self, both: Batch, new: int) -> dict[str, Tensor]:
        """What the teacher sees in the memory's recordings, or in all where NSPT asks for all."""
        config, memory = self.config, self.memory
        if not (config.nspt or config.feature_kd or config.answer_kd):
            return {}
        start = 0 if config.nspt and config.teacher_reads_all else new
        steady = config.teacher == "task" and not self._online and self.augment is None
        if start < new or not steady:
            return self._ask(both.rows(start, len(both)))
        assert memory is not None
        if self._kept is None:
            assert self.read is not None
            self._kept = Recollection.made(memory.indices, self.read, self._ask)
        return self._kept.of(both.indices[new:])

    def _ask(self, batch: Batch) -> dict[str, Tensor]:
        config = self.config
        return self.see(
            self.teacher.model, batch, text=config.text_nspt, logits=config.answer_kd > 0
        )

    def say(self, batch: Batch) -> dict[str, Tensor]:
        model = self.teacher.model
        logits = self.see(model, batch, text=False, logits=True)["logits"]
        if model.label_sets is None:
            return {"labels": model.mask(logits).argmax(1)}
        return {"labels": (logits > 0).float().masked_fill(~model.exposed, float("nan"))}

    def after_step(self) -> None:
        super().after_step()
        white = self.model.tower.whitening
        if white is not None and self.config.teacher == "ema":
            # Of two whitenings there is no mean; the mean projection reads what the student's does.
            self.teacher.model.tower.whitening.load_state_dict(white.state_dict())
