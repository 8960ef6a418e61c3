"""The analytic head of GACL (Zhuang et al. 2024): recursive least squares on random features.

After any stream it is exactly the ridge regression on all recordings so far, so it has no recency
bias and forgets nothing; see ``continual.analytic``. Multi-label data: the same, on 0 and 1.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from continual.analytic import RecursiveLeastSquares
from continual.learner import LEARNERS, LearnerConfig, LearnerContext
from continual.learners.slda import AnalyticLearner


@LEARNERS.register("rls")
class RlsConfig(LearnerConfig):
    """hidden: random features (published: 5000), or null for the embeddings themselves. ridge: of
    the regression (published: 100, for 50,000 images), or auto: chosen from what was met whenever
    scores are asked for, which at 1000 features takes half a second on one core and grows with
    their cube. repeat: how often each recording counts (released code: 3); no matter to auto.
    """

    needs_all_labels: ClassVar[bool] = True

    hidden: Annotated[int, Field(ge=1, le=20_000)] | None = 1000
    ridge: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"
    repeat: Annotated[int, Field(ge=1)] = 1

    def build(self, context: LearnerContext) -> AnalyticLearner:
        head = context.model.head
        rls = RecursiveLeastSquares(
            head.in_features,
            head.out_features,
            hidden=self.hidden,
            ridge=self.ridge,
            repeat=self.repeat,
            seed=context.seed,
            device=context.model.exposed.device,
        )
        return AnalyticLearner(context.model, rls)
