"""What plugins and metrics read of a learner: outputs that are numbers, and a loss of them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from continual.learner import Learner
from multimodal.batch import Batch
from multimodal.objectives.classification import masked_binary_loss

FLOOR = -1e4


def finite(outputs: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
    """(N, C) outputs with ``FLOOR`` in place of -inf, the score of classes not exposed.

    A softmax gives it the share 0 and the gradient 0, as it does -inf, at temperatures below 50
    too; but norms, differences and products with it are numbers, and nothing is learned from them.
    """
    return outputs.clamp(min=FLOOR)


def answers(learner: Learner, batch: Batch, classes: int) -> Float[Tensor, "batch classes"]:
    """(N, C) for Avalanche's metrics: the learner's own scores, whatever it predicts with.

    Of a learner without scores: 1 for the class that it answers, 0 for the others.
    """
    prediction = learner.predict(batch)
    if prediction.scores is not None:
        return finite(prediction.scores)
    return one_hot(prediction.labels, classes).float()


class PluginModel(nn.Module):
    """A learner's model as plugins know it: ``forward(batch) -> (N, C)``, all of it ``finite``."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Float[Tensor, "batch classes"]:
        return finite(self.model(batch))


class PluginLoss(nn.Module):
    """The loss that plugins and evaluations compute from outputs (N, C).

    Cross-entropy for labels (N,); for targets (N, C) the binary one over the known targets of
    exposed classes.
    """

    def forward(
        self,
        outputs: Float[Tensor, "batch classes"],
        labels: Int[Tensor, " batch"] | Float[Tensor, "batch classes"],
    ) -> Float[Tensor, ""]:
        if labels.dim() == 1:
            return cross_entropy(outputs, labels)
        exposed: Tensor = (outputs > FLOOR).any(0)
        assert exposed.dtype == torch.bool
        return masked_binary_loss(outputs, labels, exposed)
