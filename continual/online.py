"""Online training: one pass over a stream, several optimiser steps a stream batch.

The loop of Si-Blurry (Moon et al., ICCV 2023), as an Avalanche strategy: batches are cut from
each task in the drawn order and never cross a border; each is met once, trained on
``iterations`` times beside fresh draws from the memory, and gone. Learners are not told of tasks,
unless they declare ``uses_borders``; no object is made for a batch but the Batch itself. The
optimiser's state lives through the whole stream.
"""

# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from continual.learner import Learner
from continual.strategy import Position, StreamStrategy
from multimodal.errors import UserError


def refuse_unfit(learner: Learner, name: str | None = None) -> None:
    """UserError for a learner that cannot train on an online stream. name: in a config."""
    who = type(learner).__name__ if name is None else f"learner {name!r}"
    if learner.kind != "online":
        raise UserError(
            f"{who} trains several times on the same recordings; an online stream shows each of "
            "them once."
        )
    if learner.needs_borders:
        raise UserError(f"{who}: {learner.needs_borders}; an online stream has no experiences.")
    if learner.memory is not None and learner.memory.needs_features:
        raise UserError(
            f"{who}: policy=herding orders recordings by features at an experience's end, which "
            "an online stream has not; use reservoir or class_balanced."
        )


class OnlineStrategy(StreamStrategy):
    """Trains ``learner`` on an online Stream, one ``train`` call a task; resumable at any batch.

    Arguments as ``StreamStrategy``; ``iterations`` replaces ``train_epochs``. ``after_step`` is
    called once a stream batch, after all of its optimiser steps, and after every step of a review;
    ``before_batch`` with the rows of a stream batch, before anything of it is met.
    ``position``: epoch 0 is the stream itself, epochs 1 to ``learner.memory_epochs`` are reviews
    of the memory at a task's end, whose batches are drawn from (seed, task, epoch) and the memory.
    ``inner_step``: 0 .. iterations - 1 of the batch in hand, for plugins.

    UserError: a learner that must come back to recordings, or whose memory must.
    """

    online = True

    def __init__(
        self,
        *,
        iterations: int = 1,
        before_batch: Callable[[Tensor], None] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(train_epochs=1, **parts)
        self.before_batch = before_batch
        refuse_unfit(self.learner)
        self.iterations, self.inner_step = iterations, 0

    @property
    def samples_seen(self) -> int:
        """Stream recordings met so far."""
        at = self.position
        before = sum(map(len, self.rows[: at.experience]))
        if at.experience == len(self.rows):
            return before
        here = len(self.rows[at.experience])
        return before + (here if at.epoch else min(at.step * self.train_mb_size, here))

    @property
    def recordings(self) -> int:
        return self.samples_seen

    @property
    def steps_per_epoch(self) -> int:
        """Batches of the task in hand, or of its memory in a review."""
        if self.position.epoch == 0:
            return super().steps_per_epoch
        assert self.learner.memory is not None
        return -(-len(self.learner.memory) // self.train_mb_size)

    @property
    def total_steps(self) -> int:
        """Stream batches and, at most, steps of reviews in the whole run."""
        batches = sum(-(-len(rows) // self.train_mb_size) for rows in self.rows)
        memory, reviews = self.learner.memory, self.learner.memory_epochs * len(self.rows)
        return batches + (
            0 if memory is None else reviews * -(-memory.capacity // self.train_mb_size)
        )

    # ---- what Avalanche calls -----------------------------------------------------------

    def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
        if self.position.epoch == 0:
            self._epoch(**kwargs)
        if self.learner.uses_borders and self.position == self._at(1):
            self.learner.end_experience(self.info())
        while self.position.epoch <= self.learner.memory_epochs and not self._stop_training:
            self._epoch(**kwargs)

    def _epoch(self, **kwargs: Any) -> None:
        self._before_training_epoch(**kwargs)
        self.training_epoch(**kwargs)
        self._after_training_epoch(**kwargs)

    def training_epoch(self, **kwargs: Any) -> None:
        """What is left of the stream pass, or of one epoch of a review."""
        self._refuse_other_loader()
        for rows in self.order().split(self.train_mb_size)[self.position.step :]:
            if self._stop_training:
                return
            if self.position.epoch == 0:
                self._stream_batch(rows, **kwargs)
            else:
                self._review(rows, **kwargs)
            self._advance()
            if self.after_step is not None:
                self.after_step(self)

    def _stream_batch(self, rows: Tensor, **kwargs: Any) -> None:
        learner = self.learner
        if self.before_batch is not None:
            self.before_batch(rows)
        if not learner.trains:
            batch = self.loader.load(rows)
            learner.meet(rows, batch.labels)
            learner.observe(batch)
            return
        labels = self.labels(rows)
        learner.meet(rows, labels)
        learner.take_in(rows, labels)
        batch = None
        for step in range(self.iterations):
            self.inner_step = step
            batch, memory_batch = self.load(rows)
            if step == 0:
                learner.arrive(batch)
            self.rates.set(learner.rate)
            self._take_step(batch, memory_batch, **kwargs)
            self._after_training_iteration(**kwargs)
        assert batch is not None
        learner.observe(batch)

    def _review(self, rows: Tensor, **kwargs: Any) -> None:
        self.rates.set(self.learner.review_rate(self.position.epoch - 1))
        self._take_step(self.loader.training(rows), None, **kwargs)
        self._after_training_iteration(**kwargs)

    # ---- loading ------------------------------------------------------------------------

    def order(self) -> Int[Tensor, " rows"]:
        if self.position.epoch == 0:
            return torch.as_tensor(self.rows[self.position.experience])
        assert self.learner.memory is not None
        return self._shuffled(self.learner.memory.indices)

    def _at(self, epoch: int) -> Position:
        """The start of an epoch of the task in hand."""
        return Position(self.position.experience, epoch, 0, self.position.total_steps)
