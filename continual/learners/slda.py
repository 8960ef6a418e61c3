"""SLDA (Hayes & Kanan 2020): streaming linear discriminant analysis on a frozen encoder.

Each recording counts once, in any order; see ``continual.analytic``.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from continual.analytic import RecursiveLeastSquares, StreamingLda
from continual.classifier import Classifier
from continual.classifier_learner import freeze_encoder
from continual.learner import (
    LEARNERS,
    ExperienceInfo,
    FrozenTower,
    Learner,
    LearnerConfig,
    LearnerContext,
    Prediction,
)
from multimodal.batch import Batch
from multimodal.errors import UserError


@LEARNERS.register("slda")
class SldaConfig(LearnerConfig):
    """shrinkage: share of the identity in the covariance (published: 1e-4), or auto: of the mean
    variance times the identity, chosen from what was met. sigma: exact, or the published
    recurrence, which is distorted by the first recording of every class.
    """

    needs_all_labels: ClassVar[bool] = True

    shrinkage: Literal["auto"] | Annotated[float, Field(gt=0, lt=1)] = "auto"
    sigma: Literal["exact", "published"] = "exact"

    def build(self, context: LearnerContext) -> AnalyticLearner:
        model = context.model
        if model.multi_label:
            raise UserError(
                "slda models one class a recording, but recordings of this dataset have several "
                "labels or none: use rls."
            )
        lda = StreamingLda(
            model.head.in_features,
            model.head.out_features,
            shrinkage=self.shrinkage,
            sigma=self.sigma,
            device=model.exposed.device,
        )
        return AnalyticLearner(model, lda)


class AnalyticLearner(Learner):
    """Feeds the embeddings of a frozen encoder to a classifier in closed form."""

    trains = False

    def __init__(self, model: Classifier, analytic: StreamingLda | RecursiveLeastSquares) -> None:
        freeze_encoder(model)
        super().__init__(model)
        self.classifier, self.analytic = model, analytic

    @torch.no_grad()
    def observe(self, batch: Batch) -> None:
        self.analytic.update(self.classifier.embed(batch), batch.labels)

    def end_experience(self, info: ExperienceInfo) -> None:
        for batch in info.batches():
            self.observe(batch)

    def predict(self, batch: Batch) -> Prediction:
        scores = self.analytic.scores(self.classifier.embed(batch))
        return Prediction(scores > 0.5 if self.classifier.multi_label else scores.argmax(1), scores)

    def probabilities(self, batch: Batch, prediction: Prediction) -> Float[Tensor, "batch classes"]:
        """rls: its scores estimate them; they are cut to [0, 1] and, of one label each, made to
        sum to 1. slda: as of other learners.
        """
        if isinstance(self.analytic, StreamingLda):
            return super().probabilities(batch, prediction)
        assert prediction.scores is not None
        shares = prediction.scores.clamp(0, 1)
        if self.classifier.multi_label:
            return shares
        return shares / shares.sum(1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)

    def frozen_tower(self) -> FrozenTower | None:
        return FrozenTower(self.classifier.front_end, self.classifier.encoder)

    def weights(self) -> dict[str, Tensor]:
        return self.analytic.state_dict()

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        self.analytic.load_state_dict(weights)
