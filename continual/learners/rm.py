"""RM, Rainbow Memory (Bang et al. 2021): a memory of sure and unsure examples, trained at leisure.

During a task: cross-entropy on stream and memory, whose classes are balanced. When a task ends:
(1) the memory is chosen anew: the uncertainty of a candidate is 1 - (votes of its most frequent
class) / 12 over 12 random augmentations, and of each class the memory takes equally spaced ones in
that order; (2) the memory alone is trained on for ``memory_epochs`` epochs, with learning rate 0.1,
then 1, then cosine restarts (periods 1, 2, 4 ..., at least 0.01) times that of the run. It uses
the borders of tasks.

Candidates are the memory's own recordings; keeping a whole task (``task``) breaks the budget of an
online memory. Without augmentation all votes agree, and the choice is evenly spaced in the order of
the rows. The published CutMix is left out: it mixes images only. In the released code the choice is
never called and the training at a task's end stops with an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from continual.classifier import Classifier
from continual.classifier_learner import RehearsalLearner
from continual.evaluation import evaluating
from continual.learner import LEARNERS, ExperienceInfo, LearnerContext
from continual.learners.er import RehearsalConfig

VIEWS = 12
LOWEST = 0.01
AT_ONCE = 256


@LEARNERS.register("rm")
class RmConfig(RehearsalConfig):
    """memory_epochs: over the memory at each task's end. candidates: what the memory is chosen
    from there.
    """

    memory_epochs: Annotated[int, Field(ge=0)] = 256
    candidates: Literal["memory", "task"] = "memory"

    def build(self, context: LearnerContext) -> RmLearner:
        self.refuse_small_memory(context.model.head.out_features)
        return RmLearner(
            context.model,
            self,
            memory=self.memory(context.seed, "class_balanced"),
            memory_batch_size=self.memory_batch_size,
            **self.softmax,
        )


class RmLearner(RehearsalLearner):
    uses_borders = True

    def __init__(self, model: Classifier, config: RmConfig, **options: Any) -> None:
        super().__init__(model, **options)
        self.config, self.memory_epochs = config, config.memory_epochs

    def review_rate(self, epoch: int) -> float:
        if epoch == 0:
            return 0.1
        cycle = int(math.log2(epoch))
        place = (epoch - 2**cycle) / 2**cycle
        return LOWEST + (1 - LOWEST) * (1 + math.cos(math.pi * place)) / 2

    def end_experience(self, info: ExperienceInfo) -> None:
        assert self.memory is not None
        rows, labels = self.memory.indices, self.memory.labels
        if self.config.candidates == "task":
            new = torch.as_tensor(info.labels)
            new = new.where(new >= 0, self.classifier.head.out_features)
            rows = torch.cat([rows, torch.as_tensor(info.rows)])
            labels = torch.cat([labels, new])
            _, first = unique_first(rows)
            rows, labels = rows[first], labels[first]
        any_order = self.memory.random_order if len(rows) > self.memory.capacity else torch.arange
        kept = choose(self._uncertainty(rows), labels, self.memory.capacity, any_order)
        state = self.memory.state_dict()
        chosen = {"indices": rows[kept], "labels": labels[kept], "slots": torch.arange(len(kept))}
        self.memory.load_state_dict({**state, **chosen})

    def _uncertainty(self, rows: Tensor) -> Tensor:
        """(N,) float in [0, 1): 1 - the share of the most frequent answer."""
        if self.augment is None:
            return torch.zeros(len(rows))
        with evaluating(self):
            return torch.cat([1 - _agreement(v) for v in self._votes(rows)])

    def _votes(self, rows: Tensor) -> Iterator[Tensor]:
        """(n, 12) answers to random views of each chunk of rows."""
        assert self.read is not None
        assert self.augment is not None
        for part in rows.split(AT_ONCE):
            batch = self.read(part)
            answers = [self.model(self.augment(batch)).argmax(1) for _ in range(VIEWS)]
            yield torch.stack(answers, 1).cpu()


def _agreement(votes: Tensor) -> Tensor:
    same = votes[:, :, None] == votes[:, None, :]
    return same.sum(2).amax(1) / votes.shape[1]


def unique_first(values: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct values, ascending, and where each of them stands first."""
    order = values.argsort(stable=True)
    ranked = values[order]
    new = torch.ones_like(ranked, dtype=torch.bool)
    new[1:] = ranked[1:] != ranked[:-1]
    return ranked[new], order[new]


def choose(
    uncertainty: Tensor,
    labels: Tensor,
    capacity: int,
    any_order: Callable[[int], Tensor] = torch.arange,
) -> Tensor:
    """Positions of at most ``capacity`` candidates: of each class capacity // classes, equally
    spaced in the order of their uncertainty (N,); places left over go to the rest, in any order:
    a random one, or the manifest's first speakers would have them.
    """
    classes = labels.unique()
    quota = capacity // max(len(classes), 1)
    chosen = []
    for label in classes:
        own = (labels == label).nonzero().squeeze(1)
        own = own[uncertainty[own].argsort(stable=True)]
        take = min(quota, len(own))
        chosen.append(own[torch.arange(take) * len(own) // max(take, 1)])
    kept = torch.cat(chosen) if chosen else torch.empty(0, dtype=torch.int64)
    left = torch.ones(len(labels), dtype=torch.bool)
    left[kept] = False
    rest = left.nonzero().squeeze(1)
    return torch.cat([kept, rest[any_order(len(rest))][: capacity - len(kept)]])
