"""Avalanche's SupervisedTemplate around a learner that its plugins read and cannot mislead."""

# Avalanche passes these hooks keywords only; their long signatures are not repeated here.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from continual.learner import Learner
from continual.plugins.known import acting, check_plugins
from continual.plugins.outputs import PluginLoss, PluginModel, answers
from multimodal.batch import Batch
from multimodal.errors import UserError

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="no QP solver found")
    from avalanche.training.templates import SupervisedTemplate


class LearnerTemplate(SupervisedTemplate):
    """No optimiser surgery between experiences; evaluations score what the learner predicts.

    num_classes: C. eval_every: epochs between evaluations of the ``eval_streams`` of ``train``
    (Avalanche's; -1: none). ``position`` counts the steps.

    UserError: a plugin that cannot work on the learner, by name; one that replaces what the
    learner brings, and one with which losses or weights are no numbers any more, as soon as it
    happens. Plugins are not part of a checkpoint.
    """

    online: ClassVar[bool] = False
    position: Any

    def __init__(
        self,
        *,
        learner: Learner,
        num_classes: int,
        plugins: Sequence[Any],
        evaluator: Any,
        eval_every: int = -1,
        **parts: Any,
    ) -> None:
        self.learner, self.num_classes, self._eval_every = learner, num_classes, eval_every
        check_plugins(plugins, learner, online=self.online, eval_every=eval_every)
        self._own = (PluginModel(learner.model), PluginLoss())
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No loggers specified")
            super().__init__(
                model=self._own[0],
                criterion=self._own[1],
                plugins=list(plugins),
                evaluator=evaluator,
                eval_every=eval_every,
                **parts,
            )
        self._bare = evaluator is None and not plugins
        if self._bare:
            # Avalanche's own plugins copy the experience at every hook, even with nothing to do.
            self.plugins = []
        self._acting: list[str] = []

    # ---- what Avalanche calls (it passes keywords only) ---------------------------------

    def _before_training(self, **kwargs: Any) -> None:
        if self._bare and self.plugins:
            raise UserError("give a strategy its Avalanche plugins when it is made: plugins=[...].")
        check_plugins(self.plugins, self.learner, online=self.online, eval_every=self._eval_every)
        self._acting = acting(self.plugins)
        super()._before_training(**kwargs)

    def make_optimizer(self, **kwargs: Any) -> None:
        """The optimiser stays as it was given: frozen parameters stay out of it."""

    def check_model_and_optimizer(self, **kwargs: Any) -> None:
        self.model = self.model.to(self.device)

    def model_adaptation(self, model: torch.nn.Module | None = None) -> torch.nn.Module:
        return self.model if model is None else model

    def _unpack_minibatch(self) -> None:
        """Batches come unpacked and on the device."""

    def forward(self) -> Tensor:
        """(N, C) in evaluations."""
        return answers(self.learner, self.mb_x, self.num_classes)

    def _after_training_exp(self, **kwargs: Any) -> None:
        super()._after_training_exp(**kwargs)
        self._refuse_no_number("a weight", self.learner.model.parameters())

    # ---- what plugins may not do --------------------------------------------------------

    def _refuse_replaced(self, batch: Batch) -> None:
        """UserError if a plugin has put something in the place of what the learner trains with."""
        mbatch: Any = self.mbatch
        own = {"the batch": batch, "the model": self._own[0], "the loss": self._own[1]}
        found = (mbatch[0], self.model, self._criterion)
        for (what, mine), there in zip(own.items(), found, strict=True):
            if there is not mine:
                raise UserError(
                    f"an Avalanche plugin ({', '.join(self._acting)}) replaced {what}, which a "
                    "learner brings itself: train one of Avalanche's own strategies with it, on "
                    "as_benchmark(..., tensors=True)."
                )

    def _refuse_no_number(self, what: str, tensors: Iterable[Tensor]) -> None:
        """UserError if a plugin that acts on training has made any of the tensors NaN or inf."""
        if self._acting and not all(bool(tensor.isfinite().all()) for tensor in tensors):
            raise UserError(
                f"{what} is no number any more at step {self.position.total_steps}, with the "
                f"Avalanche plugin {', '.join(self._acting)}: lower its penalty; RWalkPlugin needs "
                "a delta_t below the steps of an experience, and more than one class in the first."
            )
