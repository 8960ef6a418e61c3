"""Text-aligned continual learning: a contrastive objective pulls signals towards texts.

CWCL (Srinivasa et al., NeurIPS 2023, arXiv:2309.14580; ours is a reconstruction, see
``multimodal/objectives/cwcl.py``) or another objective aligns the signal encoder with a frozen text
encoder, experience by experience, with or without rehearsal. Classes are told apart by their
prompts, so classes that no experience has shown yet can be named too: zero-shot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field
from torch.nn.functional import one_hot

from continual.degla import Held, HeldConfig
from continual.learner import LEARNERS, LearnerContext
from continual.merged import Merges, MergingConfig
from multimodal.batch import Batch
from multimodal.models.case_batch import Beside
from multimodal.models.refusals import refuse_lacking, refuse_objective, refuse_own
from multimodal.objectives import OBJECTIVES, Loss
from multimodal.objectives.views import Labels, ViewsConfig
from multimodal.registry import Config


@LEARNERS.register("cwcl")
class CwclLearnerConfig(HeldConfig, MergingConfig):
    """objective: cwcl, or another of signals and texts to compare with, such as clip or siglip.
    degla, merge: see ``continual/degla.py`` and ``continual/merged.py``.
    """

    objective: Annotated[Config, OBJECTIVES.choice] = Field(
        default_factory=lambda: OBJECTIVES.parse("cwcl")
    )

    @property
    def row_name(self) -> str:
        """With what its objective's name says more, or another objective's whole name."""
        base, own = super().row_name, self.objective.row_name
        if self.objective.registered_name == self.registered_name:
            return f"{base}{own.removeprefix(self.registered_name)}"
        return f"{base} with {own}"

    @property
    def named(self) -> tuple[str, ...]:
        return (*super().named, *(f"objective.{key}" for key in ("name", *self.objective.named)))

    def build(self, context: LearnerContext) -> CwclLearner:
        """UserError: an objective that needs more views than two, or more of each recording than
        its text.
        """
        assert isinstance(self.objective, ViewsConfig)
        parts = self.parts(context, **self.objective.start)
        refuse_objective(self.objective, parts["model"].aligned)
        refuse_lacking(self.objective, Beside())
        refuse_own(self.objective, "learner 'cwcl'")
        learner = CwclLearner(self.objective, **parts)
        return learner.be_held(self.degla).merge_at_borders(self.merge)


class CwclLearner(Merges, Held):
    """Pairs of the stream batch and the memory batch go into one contrastive batch.

    tables: what the objective keeps of each recording, also of those that come back from the
    memory, by manifest row; None: nothing.
    """

    def __init__(self, objective: ViewsConfig, **parts: Any) -> None:
        super().__init__(**parts)
        self.objective, self.tables = objective, objective.tables()

    def loss(self, batch: Batch, memory_batch: Batch | None) -> Loss:
        both = batch if memory_batch is None else Batch.join(batch, memory_batch)
        views = replace(self.views(both), numbers=both.indices, tables=self.tables)
        if self.objective.needs_labels:
            views = replace(views, labels=self.labels_of(both))
        loss = self.objective.of_views(views, gather=False)
        loss = Loss(loss.value, loss.terms, outputs=self.outputs(views, len(batch)))
        return self.held(loss, both, views)

    def labels_of(self, batch: Batch) -> Labels:
        """Class vectors of the prompts, what is known of each recording, and who was met so far."""
        targets, exposed = batch.labels, self.model.exposed
        if targets.dim() == 1:
            targets = one_hot(targets, len(exposed)).float()
        return Labels(self.model.class_vectors(learn=True), targets, exposed)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return state if self.tables is None else {**state, "tables": self.tables.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.tables is not None:
            self.tables.load_state_dict(state["tables"])
