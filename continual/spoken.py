"""What learners share that write what was said: sequence to sequence, with or without rehearsal.

End-to-end spoken language understanding as COCONUT's authors set it up (Cappellazzo et al., arXiv
2310.02699; they published no code, so all of it is a reconstruction): a decoder writes intent,
slots and transcript as one string (``multimodal/models/targets.py``), and a recording is understood
where the string's intent is the class, exactly. A method adds terms to the loss: see
``learners/coconut.py``. Signals of any modality are read; where a dataset has no texts at all, the
string is the intent alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn.functional import log_softmax

from continual.learner import (
    ExperienceInfo,
    Kind,
    Learner,
    LearnerConfig,
    LearnerContext,
    Prediction,
)
from continual.recall import remember
from continual.rehearsal import make_memory
from multimodal.batch import Batch, Encoded
from multimodal.errors import UserError
from multimodal.models.said import Said
from multimodal.models.seq2seq import DecoderConfig, Seq2Seq, framed
from multimodal.models.targets import read_target
from multimodal.models.vocabulary import INTENTS, PAD, SOS
from multimodal.objectives import Loss
from multimodal.objectives.distillation import Reduction, sequence_cross_entropy
from multimodal.weights import trained_weights


class SpokenConfig(LearnerConfig):
    """Of learners with a decoder. decoder: its size and how it writes. reduction: of its
    cross-entropy. truncate: cut targets that are longer than ``decoder.longest`` instead of
    refusing them. memory_size: recordings; 0: no rehearsal. memory_batch_size: drawn beside every
    stream batch. policy: which are kept; herding goes by the mean over the encoder's tokens.
    """

    kind: ClassVar[Kind] = "online"

    decoder: DecoderConfig = DecoderConfig()
    reduction: Reduction = "token_mean"
    truncate: bool = False
    memory_size: Annotated[int, Field(ge=0)] = 0
    memory_batch_size: Annotated[int, Field(ge=1)] = 32
    policy: Literal["reservoir", "class_balanced", "herding"] = "class_balanced"

    @property
    def uses_texts(self) -> bool:
        return True

    def parts(self, context: LearnerContext) -> dict[str, Any]:
        """Arguments of a ``SpokenLearner``. UserError: several labels a recording, class names that
        no target can begin with.
        """
        base = context.model
        if base.multi_label:
            raise UserError(
                f"learner {self.registered_name!r} writes one intent a recording, and these have "
                "several labels; use coconut_aligned."
            )
        vocabulary = self.decoder.vocabulary(context.class_names)
        model = self.decoder.build(base.front_end, base.encoder, vocabulary)
        model.register_buffer("exposed", torch.zeros(len(context.class_names), dtype=torch.bool))
        model.register_buffer("pieces", vocabulary.state())
        memory = (
            make_memory(self.policy, self.memory_size, context.seed) if self.memory_size else None
        )
        return {
            "model": model.to(base.head.weight.device),
            "config": self,
            "said": Said(
                vocabulary,
                context.class_names,
                context.texts,
                context.slots,
                longest=self.decoder.longest,
                truncate=self.truncate,
                dropout=self.decoder.bpe_dropout,
            ),
            "memory": memory,
            "memory_batch_size": self.memory_batch_size,
            "seed": context.seed,
        }


@dataclass(frozen=True)
class Step:
    """What a step has computed: of the stream batch's ``new`` recordings, then the memory's.

    both: their batch. encoded: their tokens. inputs, targets: (N, T) ids that the decoder reads and
    shall write. logits: (N, T, V).
    """

    both: Batch
    new: int
    encoded: Encoded
    inputs: Int[Tensor, "batch length"]
    targets: Int[Tensor, "batch length"]
    logits: Float[Tensor, "batch length vocabulary"]

    @property
    def rehearsal(self) -> Bool[Tensor, " batch"]:
        """(N,) of the memory; the loader says so, never a label."""
        return torch.arange(len(self.both), device=self.both.labels.device) >= self.new


class SpokenLearner(Learner):
    """Cross-entropy of the strings of stream and memory together; a method adds its terms.

    The pieces of the vocabulary are learned from the texts of the first experience (of an online
    stream: of its first batch); what comes later falls into bytes where it must. The names of all
    classes are known from the start, as the rows of a head are. The memory is filled as that of
    ``replay``, in an online stream as that of ``er``.
    """

    kind = "online"
    model: Seq2Seq

    def __init__(
        self,
        model: Seq2Seq,
        config: SpokenConfig,
        said: Said,
        *,
        seed: int = 0,
        **rehearsal: Any,
    ) -> None:
        super().__init__(model, **rehearsal)
        self.config, self.said, self.seed, self._online = config, said, seed, False
        self.numbers = {name: i for i, name in enumerate(said.class_names)}
        self.planned = np.empty(0, dtype=np.int64)

    @property
    def exposed(self) -> Bool[Tensor, " classes"]:
        exposed = self.model.exposed
        assert isinstance(exposed, Tensor)
        return exposed

    def plan(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.planned = np.concatenate(rows)
        return super().plan(rows)

    def begin_experience(self, info: ExperienceInfo) -> None:
        self._learn_once(info.rows, info.labels)
        self.exposed[list(info.exposed)] = True

    def meet(
        self,
        rows: Int[Tensor, " batch"],
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> None:
        self._online = True
        self._learn_once(rows.cpu().numpy(), labels.cpu().numpy())
        self.exposed[labels] = True

    def _learn_once(self, rows: np.ndarray, labels: np.ndarray) -> None:
        """UserError: texts that cannot be learned, of any training recording."""
        if self.exposed.any():
            return
        vocabulary = self.said.vocabulary
        vocabulary.learn(self.said.targets(rows, labels))
        self.said.check(self.planned if len(self.planned) else rows)
        self.said.forget()
        pieces = self.model.pieces
        assert isinstance(pieces, Tensor)
        pieces.copy_(vocabulary.state())

    def observe(self, batch: Batch) -> None:
        if self._online and self.memory is not None:
            self.memory.update(batch.indices, batch.labels)

    def end_experience(self, info: ExperienceInfo) -> None:
        if self.memory is not None and not self._online:
            remember(self.memory, self.model, info, self.seed)

    def step(self, batch: Batch, memory_batch: Batch | None) -> Step:
        """Stream and memory read in one forward pass."""
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        encoded = self.model.encode(both)
        inputs, targets = framed(*self.said.gather(both))
        logits = self.model.teacher_forced(encoded, inputs)
        return Step(both, len(batch), encoded, inputs, targets, logits)

    def written(self, logits: Tensor, targets: Tensor) -> Float[Tensor, ""]:
        """The cross-entropy of what shall be written."""
        return sequence_cross_entropy(
            logits,
            targets,
            targets != PAD,
            reduction=self.config.reduction,
            label_smoothing=self.config.decoder.label_smoothing,
        )

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        step = self.step(batch, memory_batch)
        value = self.written(step.logits, step.targets)
        return Loss(value, {"text": value.detach()})

    def predict(self, batch: Batch) -> Prediction:
        """labels: the class whose name is the decoded intent, -1 where it is none's. scores: log p
        of each exposed intent as the first token. texts: what was decoded.
        """
        settings, encoded = self.config.decoder, self.model.encode(batch)
        found = self.model.beam(
            encoded,
            width=settings.beam,
            longest=settings.longest,
            length_penalty=settings.length_penalty,
        )
        texts = tuple(map(self.said.vocabulary.decode, found.ids))
        named = [self.numbers.get(read_target(text).intent, -1) for text in texts]
        first = torch.full((len(batch), 1), SOS, device=batch.labels.device)
        logits = self.model.teacher_forced(encoded, first)[:, 0]
        count, shown = len(self.numbers), self.exposed
        scores = log_softmax(logits.float(), 1)[:, INTENTS : INTENTS + count]
        scores = scores.masked_fill(~shown & shown.any(), float("-inf"))
        return Prediction(torch.tensor(named, device=batch.labels.device), scores, texts)

    def tower(self) -> None:
        """None: the decoder reads every token, so no embedding takes the place of signals."""
        return None

    def weights(self) -> dict[str, Tensor]:
        return trained_weights(self.model)

    @torch.no_grad()
    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """UserError: the vocabulary is of other intents, or of another size; so is the model."""
        own = trained_weights(self.model)
        self.said.vocabulary.load(weights["pieces"])
        shapes = [{name: tuple(t.shape) for name, t in of.items()} for of in (weights, own)]
        differ = sorted(name for name, _ in shapes[0].items() ^ shapes[1].items())
        if differ:
            there = [of.get(differ[0], "absent") for of in shapes]
            raise UserError(
                f"{differ[0]} was saved as {there[0]}, this model has it as {there[1]}: a "
                "checkpoint that the config names has changed; restore it, or train the model "
                "again with --fresh."
            )
        self.said.forget()
        for name, tensor in own.items():
            tensor.copy_(weights[name])
