"""The plugins of Avalanche 0.6.0 by name: what each does to a learner, or why it cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from continual.learner import Learner
from multimodal.errors import UserError

DATA = "it replaces the training data: use one of Medley's learners with a memory, such as replay"
TENSORS = "train Avalanche's own strategy on as_benchmark(..., tensors=True)"
OWN_MODEL = f"it needs a model of Avalanche's own kind: {TENSORS}"
GENERATOR = f"it needs a generator of signals: {TENSORS}"

WORKS = {
    "AGEMPlugin": "gradients that would raise the loss of remembered recordings are projected",
    "CWRStarPlugin": "the head keeps the rows of past classes; later experiences train only it",
    "EWCPlugin": "weights that the loss depended on are held back",
    "EarlyStoppingPlugin": "an experience ends when a metric stops improving; needs `eval_every`",
    "EvaluationPlugin": "metrics and loggers",
    "FromScratchTrainingPlugin": "each experience starts from the first weights",
    "LRSchedulerPlugin": "a schedule of the learning rate",
    "LwFPlugin": "the outputs of the model before the experience are distilled",
    "MASPlugin": "weights that the outputs depended on are held back",
    "RWalkPlugin": "weights that mattered along the way are held back; needs `delta_t` steps",
    "SupervisedPlugin": "the base of your own plugins",
}
REFUSED = {
    "BiCPlugin": DATA,
    "CoPEPlugin": f"it replaces the head and the loss: {TENSORS}",
    "CurrentDataFeCAMUpdate": OWN_MODEL,
    "CurrentDataNCMUpdate": OWN_MODEL,
    "FeCAMOracle": OWN_MODEL,
    "FeatureDistillationPlugin": OWN_MODEL,
    "GDumbPlugin": DATA,
    "GEMPlugin": "it stores its memory as one tensor: use AGEMPlugin",
    "GSS_greedyPlugin": DATA,
    "GenerativeReplayPlugin": GENERATOR,
    "LFLPlugin": OWN_MODEL,
    "MIRPlugin": DATA,
    "MemoryFeCAMUpdate": OWN_MODEL,
    "MemoryNCMUpdate": OWN_MODEL,
    "NCMOracle": OWN_MODEL,
    "RARPlugin": DATA,
    "ReplayPlugin": DATA,
    "SynapticIntelligencePlugin": (
        "on the CPU its copies of the weights are the weights themselves, so it does nothing: use "
        "EWCPlugin, MASPlugin or RWalkPlugin"
    ),
    "TrainGeneratorAfterExpPlugin": GENERATOR,
}
# They only watch, whoever made them.
WATCHERS = {"EvaluationPlugin", "BaseLogger", "PeriodicEval", "Clock"}
# They act on training, so they are nothing for a learner that takes no step.
TRAINERS = set(WORKS) - WATCHERS - {"SupervisedPlugin"}


def check_plugins(
    plugins: Sequence[Any], learner: Learner, *, online: bool, eval_every: int
) -> None:
    """UserError names a plugin that cannot work on this learner or strategy, and says why."""
    for plugin in plugins:
        name = type(plugin).__name__
        for kind in _kinds(plugin):
            why = REFUSED.get(kind)
            if kind in TRAINERS and not learner.trains:
                why = f"{type(learner).__name__} takes no step of training: leave it out"
            elif kind == "EarlyStoppingPlugin" and online:
                why = "an online stream is met once and to its end: leave it out"
            elif kind == "EarlyStoppingPlugin" and eval_every < 1:
                why = "its metric is never evaluated: give the strategy eval_every=1"
            if why is not None:
                raise UserError(f"Avalanche's {name} cannot work here: {why}.")


def acting(plugins: Sequence[Any]) -> list[str]:
    """Names of those that may change how a model is trained."""
    return [type(p).__name__ for p in plugins if not WATCHERS & set(_kinds(p))]


def _kinds(plugin: Any) -> list[str]:
    return [kind.__name__ for kind in type(plugin).__mro__]
