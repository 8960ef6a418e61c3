"""CompA in a stream: scenes of new classes composed with rehearsed ones (ours).

CompA (Ghosh et al., ICLR 2024, arXiv 2310.08753; its objectives by reconstruction, see
``multimodal/objectives/compa.py``) composes scenes of single events and contrasts captions that
say other things in the same words. Here every stream recording is, beside going with its class's
prompt as in ``cwcl``, an event of a scene whose other event is of the memory, of another class: old
classes are rehearsed inside new scenes. Nothing of this is a published protocol.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad

from continual.degla import Held, HeldConfig
from continual.learner import LEARNERS, FrozenTower, LearnerContext
from continual.merged import Merges, MergingConfig
from multimodal.batch import Batch
from multimodal.composition.pairs import BY_MODALITY, Composer, Pairs
from multimodal.errors import UserError
from multimodal.evaluation.prompts import load_prompts
from multimodal.models.refusals import refuse_objective, refuse_own
from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.views import TEXT, Extra, Views, ViewsConfig
from multimodal.registry import Config

EXTRAS = {"positives": 3, "negatives": 2}  # most captions of each kind, see ``Composer.told``
TEXTS = 1 + sum(EXTRAS.values())


@LEARNERS.register("compa")
class CompaLearnerConfig(HeldConfig, MergingConfig):
    """objective: compa_modular, or another one that reads captions beside the main one, or none.
    with_memory: scenes have an event of the memory, where it has one of another class; without,
    both are of the stream's batch. degla (recordings alone, no scenes), merge: see
    ``continual/degla.py`` and ``continual/merged.py``.
    """

    reads_signals: ClassVar[bool] = True

    objective: Annotated[Config, OBJECTIVES.choice] = Field(
        default_factory=lambda: OBJECTIVES.parse(
            {"name": "compa_modular", "positives": 3, "negatives": 2, "mask_duplicates": True}
        )
    )
    with_memory: bool = True

    def build(self, context: LearnerContext) -> CompaLearner:
        """UserError: several labels a recording, a modality that nothing composes, an objective
        that does not fit.
        """
        assert isinstance(self.objective, ViewsConfig)
        if context.model.multi_label:
            raise UserError(
                "learner 'compa' composes scenes of single events, and these recordings have "
                "several labels; use more or cwcl."
            )
        if context.modality not in BY_MODALITY:
            raise UserError(
                f"learner 'compa' composes {', '.join(BY_MODALITY)}, not {context.modality}."
            )
        if self.objective.extra_signals:
            raise UserError("learner 'compa' makes no negative signals; set negative_audio=0.")
        if self.objective.needs_labels or self.objective.tables() is not None:
            raise UserError(
                f"learner 'compa' has scenes beside its recordings, of which objective "
                f"{self.objective.registered_name!r} can know no labels and keep nothing; use cwcl."
            )
        prompts = load_prompts(self.templates or context.modality, self.phrases)
        parts = self.parts(context, **self.objective.start)
        refuse_objective(self.objective, parts["model"].aligned)
        refuse_own(self.objective, "learner 'compa'")
        learner = CompaLearner(
            self.objective,
            BY_MODALITY[context.modality],
            prompts.words(context.class_names),
            with_memory=self.with_memory,
            **parts,
        )
        return learner.be_held(self.degla).merge_at_borders(self.merge)


class CompaLearner(Merges, Held):
    """``steps``: losses so far, from which each step's scenes are drawn."""

    def __init__(
        self,
        objective: ViewsConfig,
        composer: Composer,
        words: list[str],
        *,
        with_memory: bool,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        self.objective, self.composer, self.words = objective, composer, words
        self.with_memory, self.steps = with_memory, 0
        self._told: dict[tuple[int, int, bool], int] = {}
        self._meant: dict[tuple[int, int, bool], int] = {}
        # Of each scene's captions, the main one first: encoded, which are there; what it means.
        width = self.model.aligned.text.encoder.width  # pyright: ignore[reportAttributeAccessIssue]
        self._encoded_RMW = torch.empty(0, TEXTS, width)
        self._there_RM = torch.empty(0, TEXTS, dtype=torch.bool)
        self._meaning_R = torch.empty(0, dtype=torch.int64)

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        plain = self.views(both)
        outputs = self.outputs(plain, len(batch))
        pairs = self._pairs(both, len(batch))
        views = self._with_scenes(plain, both, pairs)
        loss = self.objective.of_views(views, gather=False)
        scenes = torch.tensor(float(len(pairs.first)))
        loss = Loss(loss.value, {**loss.terms, "scenes": scenes}, outputs=outputs)
        return self.held(loss, both, plain)

    def _pairs(self, both: Batch, new: int) -> Pairs:
        """Of every stream recording with one of another class, if there is one, in any order."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.steps)
        self.steps += 1
        labels = both.labels.cpu()
        other = (labels[:new, None] != labels[None]).float()
        if self.with_memory:
            kept = other[:, new:].any(1, keepdim=True)
            other[:, :new] = other[:, :new].masked_fill(kept, 0)
        else:
            other[:, new:] = 0
        (own,) = other.any(1).nonzero(as_tuple=True)
        if not len(own):
            return Pairs(own, own, own.bool())
        partner = torch.multinomial(other[own], 1, generator=generator)[:, 0]
        turned, together = torch.rand(2, len(own), generator=generator) < 0.5
        first, second = torch.where(turned, partner, own), torch.where(turned, own, partner)
        return Pairs(first, second, together & self.composer.overlays)

    def _with_scenes(self, views: Views, both: Batch, pairs: Pairs) -> Views:
        """Scenes behind the recordings, which have no captions beside their prompts."""
        device, name, aligned = both.labels.device, self.model.modality, self.model.aligned
        rows, plain = self._captions(both.labels.cpu(), pairs), len(both)
        encoded, there = self._encoded_RMW[rows].to(device), self._there_RM[rows].to(device)
        texts = aligned.text.projection(encoded)
        signals = views.embeddings[name]
        if len(rows):
            moved = Pairs(*(part.to(device) for part in pairs))
            inputs, lengths = self.composer.compose(both, moved)
            scenes = Batch(inputs, lengths, both.labels[moved.first], both.indices[moved.first])
            signals = torch.cat([signals, aligned.embed_signals(scenes)])
        extras, at = {}, 1
        for extra, size in EXTRAS.items():
            embedded, known = texts[:, at : at + size], there[:, at : at + size]
            before = (0, 0, plain, 0)
            extras[extra] = Extra(pad(embedded, (0, 0, *before)), pad(known, before))
            at += size
        # Behind the numbers of what recordings go with: prompts of classes, or texts of their own.
        told = len(self.model.prompts) if self.captions is None else len(self.captions.unique)
        return Views(
            embeddings={name: signals, TEXT: torch.cat([views.embeddings[TEXT], texts[:, 0]])},
            source=torch.cat([views.source, encoded[:, 0]]),
            ids=torch.cat([views.ids, told + rows.to(device)]),
            scale=views.scale,
            bias=views.bias,
            extras=extras,
            keys=torch.cat([views.ids, told + self._meaning_R[rows].to(device)]),
        )

    def _captions(self, labels: Int[Tensor, " batch"], pairs: Pairs) -> Int[Tensor, " scenes"]:
        """Numbers of what is said of each scene; Python looks at the distinct ones only."""
        table = torch.stack([labels[pairs.first], labels[pairs.second], pairs.together.long()], 1)
        distinct, owner = table.unique(dim=0, return_inverse=True)
        found = [self._number(a, b, bool(together)) for a, b, together in distinct.tolist()]
        return torch.tensor(found, dtype=torch.int64)[owner]

    def _number(self, first: int, second: int, together: bool) -> int:
        """Each text is encoded by itself: in company its last bits depend on which are new, and a
        stream that goes on from a checkpoint meets them in another order.
        """
        key = (first, second, together)
        if key in self._told:
            return self._told[key]
        told = self.composer.told(self.words[first], self.words[second], together=together)
        kinds = (told.main,), told.positives, told.negatives
        sizes, places, texts = (1, *EXTRAS.values()), list[int](), list[str]()
        for kind, start in zip(kinds, (0, *torch.tensor(sizes).cumsum(0).tolist()), strict=False):
            places += range(start, start + len(kind))
            texts += kind
        encoded = torch.cat([self.model.aligned.encode_texts([text]) for text in texts]).cpu()
        row, there = encoded.new_zeros(1, TEXTS, encoded.shape[1]), torch.zeros(1, TEXTS).bool()
        row[0, places], there[0, places] = encoded, True
        alike = (min(first, second), max(first, second), True) if together else key
        meaning = self._meant.setdefault(alike, len(self._meant))
        self._encoded_RMW = torch.cat([self._encoded_RMW, row])
        self._there_RM = torch.cat([self._there_RM, there])
        self._meaning_R = torch.cat([self._meaning_R, torch.tensor([meaning])])
        self._told[key] = len(self._told)
        return self._told[key]

    def frozen_tower(self) -> FrozenTower | None:
        """None: scenes are made of signals."""
        return None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.steps = state["steps"]
