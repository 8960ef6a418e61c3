"""COCONUT (Cappellazzo et al., Findings of ACL 2024, arXiv 2310.02699), a reconstruction.

    L = L_ASR + mm MM(audio, text) + nspt (NSPT(audio) + NSPT(text)) + KD terms

L_ASR is the cross-entropy of what shall be written, over stream and memory. NSPT and MM are in
``multimodal/objectives/coconut.py``, the distillation terms, all on rehearsal samples, in
``distillation.py``. The teacher is the model as it was at the end of the last experience; in the
first one there is none. With both contrastive weights 0 this is experience replay with the
distillation that is switched on, as the authors' sister paper compares it (arXiv 2305.13899).

In an online stream the teacher is copied where it is told that a task ends, every N recordings, or
a running mean; none of that is the published method.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Self

import torch
from pydantic import model_validator
from torch import Tensor

from continual.learner import LEARNERS, LearnerContext
from continual.recall import Recollection
from continual.spoken import SpokenConfig, SpokenLearner, Step
from continual.taught import Taught
from continual.teacher import TaughtConfig, Weight
from multimodal.batch import Batch, Encoded
from multimodal.models.seq2seq import Seq2Seq, TextPool, framed
from multimodal.models.vocabulary import PAD
from multimodal.objectives import Loss
from multimodal.objectives.distillation import feature_distillation, token_distillation


@LEARNERS.register("coconut")
class CoconutLearnerConfig(SpokenConfig, TaughtConfig):
    """Settings of the contrast: see ``CoconutConfig``; 0 leaves a term out. text_pool: what a
    text's embedding is a mean of. audio_kd, token_kd, sequence_kd: weights of the distillation of
    the encoder's tokens, of what follows each token, and to what the teacher wrote of the memory at
    the end of its experience.
    """

    kd_terms: ClassVar[tuple[str, ...]] = ("audio_kd", "token_kd", "sequence_kd")
    kd_stored: ClassVar[str] = "sequence_kd"

    text_pool: TextPool = "intent_token"
    audio_kd: Weight = 0.0
    token_kd: Weight = 0.0
    sequence_kd: Weight = 0.0

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._refuse(not (self.nspt or self.mm), "nspt=0 and mm=0", "text_pool")
        return self

    @property
    def row_name(self) -> str:
        """COCONUT, or without its contrast what is left of it."""
        return self.row_of(self.registered_name, "seq2seq")

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, *self.kd_terms, "nspt", "mm")

    def build(self, context: LearnerContext) -> CoconutLearner:
        return CoconutLearner(**self.parts(context))


class Recalled(NamedTuple):
    """What the teacher makes of recordings: embeddings (N, P) of signals and texts; the rest only
    where it is asked for: tokens (N, L, D) and logits (N, T, V).
    """

    signal: Tensor
    text: Tensor
    encoded: Encoded | None = None
    logits: Tensor | None = None


class CoconutLearner(Taught, SpokenLearner):
    """``stored``: what the teacher wrote of the memory's recordings: ids (M, T) and lengths (M,).

    Where nothing is random, and memory and teacher stay what they are, the teacher embeds the
    memory once an experience.
    """

    config: CoconutLearnerConfig

    def __init__(self, model: Seq2Seq, config: CoconutLearnerConfig, **parts: Any) -> None:
        super().__init__(model, config, **parts)
        self.be_taught(model, config)

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        step, config = self.step(batch, memory_batch), self.config
        value = self.written(step.logits, step.targets)
        terms = {"text": value.detach()}
        signal = self.model.signal_embedding(step.encoded)
        text = self.model.text_embedding(step.targets, pool=config.text_pool)
        labels, rehearsal = step.both.labels, step.rehearsal
        if config.mm_in(self.task):
            found = config.mm_loss(signal, text, labels, rehearsal)
            value = value + config.mm * found.value
            terms |= {"mm": found.value.detach(), "mm_classes": found.terms["classes"]}
        if self.teacher.model is not None and memory_batch is not None:
            for name, (weight, term) in self._kept_terms(step, signal, text).items():
                value, terms[name] = value + weight * term, term.detach()
        return Loss(value, terms)

    def _kept_terms(
        self, step: Step, signal: Tensor, text: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        """Weight and value of every term that asks the teacher."""
        config, labels, rehearsal = self.config, step.both.labels, step.rehearsal
        found: dict[str, tuple[float, Tensor]] = {}
        if config.sequence_kd:
            found["sequence_kd"] = (config.sequence_kd, self._retelling(step))
        if not (config.nspt or config.audio_kd or config.token_kd):
            return found
        old = self._recall(step)
        for name, own, past in (("signal", signal, old.signal), ("text", text, old.text)):
            if config.nspt:
                every = torch.zeros_like(own)
                every[len(own) - len(past) :] = past
                term = config.nspt_loss(own, every, labels, rehearsal)
                found[f"nspt_{name}"] = (config.nspt, term)
        if config.audio_kd:
            assert old.encoded is not None
            mine, mask = step.encoded.tokens[step.new :], step.encoded.mask[step.new :]
            theirs = old.encoded.tokens[-len(mine) :]
            found["audio_kd"] = (config.audio_kd, feature_distillation(mine, theirs, mask))
        if config.token_kd:
            assert old.logits is not None
            mine, real = step.logits[step.new :], step.targets[step.new :] != PAD
            theirs = old.logits[-len(mine) :]
            found["token_kd"] = (config.token_kd, token_distillation(mine, theirs, real))
        return found

    def _retelling(self, step: Step) -> Tensor:
        """The cross-entropy of what the teacher wrote of the memory's recordings."""
        assert self.stored is not None
        told = self.stored.of(step.both.indices[step.new :])
        longest = int(told["lengths"].max())
        inputs, targets = framed(told["ids"][:, :longest], told["lengths"])
        encoded = Encoded(*(part[step.new :] for part in step.encoded))
        return self.written(self.model.teacher_forced(encoded, inputs), targets)

    # ---- the teacher --------------------------------------------------------------------

    @torch.no_grad()
    def _recall(self, step: Step) -> Recalled:
        """Of the memory's recordings, or of all where the losses ask for all."""
        config = self.config
        whole = bool(config.audio_kd or config.token_kd)
        start = 0 if config.nspt and config.teacher_reads_all else step.new
        if whole or start < step.new or not self._steady:
            rest = step.both.rows(start, len(step.both))
            return self._ask(rest, step.inputs[start:], step.targets[start:], whole=whole)
        assert self.memory is not None
        if self._kept is None:
            assert self.read is not None
            self._kept = Recollection.made(self.memory.indices, self.read, self._embed)
        found = self._kept.of(step.both.indices[step.new :])
        return Recalled(found["signal"], found["text"])

    @property
    def _steady(self) -> bool:
        """Whether the teacher would say the same again of the same memory."""
        random = self.augment is not None or self.said.dropout > 0
        return self.config.teacher == "task" and not self._online and not random

    def _ask(self, batch: Batch, inputs: Tensor, targets: Tensor, *, whole: bool) -> Recalled:
        model = self.teacher.model
        encoded = model.encode(batch)
        signal = model.signal_embedding(encoded)
        text = model.text_embedding(targets, pool=self.config.text_pool)
        if not whole:
            return Recalled(signal, text)
        return Recalled(signal, text, encoded, model.teacher_forced(encoded, inputs))

    def _embed(self, batch: Batch) -> dict[str, Tensor]:
        inputs, targets = framed(*self.said.gather(batch))
        found = self._ask(batch, inputs, targets, whole=False)
        return {"signal": found.signal, "text": found.text}

    def say(self, batch: Batch) -> dict[str, Tensor]:
        """What the teacher writes: ids (N, ``decoder.longest``), [PAD] beyond the lengths (N,)."""
        settings, model = self.config.decoder, self.teacher.model
        found = model.beam(
            model.encode(batch),
            width=settings.beam,
            longest=settings.longest,
            length_penalty=settings.length_penalty,
        ).ids
        padded = torch.full((len(found), settings.longest), PAD)
        for row, ids in zip(padded, found, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        lengths = torch.tensor([len(ids) for ids in found])
        return {"ids": padded.to(self.exposed.device), "lengths": lengths.to(self.exposed.device)}
