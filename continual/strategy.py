"""The Avalanche strategies that drive any learner: their shared step, and training in epochs.

They are a ``SupervisedTemplate``, so Avalanche's plugins, metrics and loggers work on them (which
plugins: ``plugins/known.py``), with these differences: one loader for the whole stream that gathers
each batch (stream and memory rows together) in one vectorised step, no optimiser surgery between
experiences, and a position from which training can be resumed exactly. Batches are
``[Batch, labels, zeros]``; the model takes the Batch itself. Training in one pass is in
``online.py``.
"""

# Avalanche passes these hooks keywords only; their long signatures are not repeated here.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from continual.learner import ExperienceInfo, Learner
from continual.plugins.outputs import finite
from continual.plugins.template import LearnerTemplate
from continual.rates import Rates
from continual.scenarios import Stream
from continual.scenarios.avalanche_benchmark import row_of
from continual.stream_loaders import InOrder, Position, Remaining
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.loader import Loader
from multimodal.training.optim import load_optimizer

Gather = Callable[[Tensor], Batch]


class StreamStrategy(LearnerTemplate):
    """What strategies of streams share: loading, one step, the position; see its subclasses.

    stream: what the benchmark was made from. gather: rows -> Batch on the CPU. after_step: called
    with this strategy after every step, when ``position`` already names the next one. augment:
    changes training batches at random (``Adapter.augment``). Its ``rows`` are the manifest rows of
    each experience (``learner.plan``), int64. Stream and memory batch are gathered together.
    """

    def __init__(
        self,
        *,
        learner: Learner,
        stream: Stream,
        gather: Gather,
        augment: Callable[[Batch], Batch] | None = None,
        optimizer: torch.optim.Optimizer,
        seed: int,
        train_mb_size: int = 32,
        train_epochs: int = 1,
        eval_mb_size: int = 256,
        device: str | torch.device = "cpu",
        plugins: Sequence[Any] = (),
        evaluator: Any = None,
        eval_every: int = -1,
        after_step: Callable[[Any], None] | None = None,
    ) -> None:
        super().__init__(
            learner=learner,
            num_classes=stream.manifest.num_classes,
            optimizer=optimizer,
            train_mb_size=train_mb_size,
            train_epochs=train_epochs,
            eval_mb_size=eval_mb_size,
            device=device,
            plugins=plugins,
            evaluator=evaluator,
            eval_every=eval_every,
        )
        self.manifest = stream.manifest
        self.rows = learner.plan([e.train for e in stream.experiences])
        self.classes = [stream.classes_of(rows) for rows in self.rows]
        self.loader = Loader(gather, self.device, augment=augment)
        learner.read, learner.augment = self.loader.load, augment
        self.seed, self.after_step, self.rates = seed, after_step, Rates(optimizer)
        self.position = Position()
        self.terms: dict[str, Tensor] = {}

    def resume(self, position: Position, optimizer_state: dict[str, Any]) -> None:
        """Continue from a checkpoint: the next ``train`` call goes on at ``position``."""
        load_optimizer(self.optimizer, self.learner.model, optimizer_state)
        self.rates.resume()
        self.position = position

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch of the current training experience."""
        return -(-len(self.rows[self.position.experience]) // self.train_mb_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, at most."""
        raise NotImplementedError

    @property
    def recordings(self) -> int:
        """Training recordings met so far, each as often as it was; without training, once."""
        epochs = self.train_epochs if self.learner.trains else 1
        return self.position.recordings(list(map(len, self.rows)), self.train_mb_size, epochs)

    def info(self) -> ExperienceInfo:
        """What the learner may know of the current training experience."""
        index = self.position.experience
        rows, manifest = self.rows[index], self.manifest
        exposed = {c for classes in self.classes[: index + 1] for c in classes}
        return ExperienceInfo(
            index=index,
            count=len(self.rows),
            classes=self.classes[index],
            exposed=tuple(sorted(exposed)),
            rows=rows,
            labels=manifest.labels[rows],
            targets=manifest.targets[rows] if manifest.multi_label else None,
            batches=lambda: self.batches(rows),
        )

    def labels(self, rows: Int[Tensor, " batch"]) -> Tensor:
        """(N,) labels of rows, or (N, C) targets, on the strategy's device."""
        known = self.manifest.targets if self.manifest.multi_label else self.manifest.labels
        return torch.as_tensor(known[rows.numpy()]).to(self.device)

    def batches(self, rows: Int[np.ndarray, " rows"]) -> Iterator[Batch]:
        """The given rows in order, in evaluation batches on the strategy's device."""
        return self.loader.batches(rows, self.eval_mb_size)

    # ---- what Avalanche calls (it passes keywords only) ---------------------------------

    def make_train_dataloader(self, **kwargs: Any) -> None:
        """``self.dataloader`` iterates over what is left of the current epoch."""
        self.dataloader = Remaining(self)

    def make_eval_dataloader(self, **kwargs: Any) -> None:
        dataset: Any = self.adapted_dataset
        self.dataloader = InOrder(self, np.array([row_of(dataset, i) for i in range(len(dataset))]))

    def _before_training_exp(self, **kwargs: Any) -> None:
        self._refuse_other_experience()
        self._begin()
        super()._before_training_exp(**kwargs)

    def _begin(self) -> None:
        """Before plugins hear of the experience."""

    def _refuse_other_experience(self) -> None:
        index, dataset = self.position.experience, self.experience.dataset  # pyright: ignore
        rows = self.rows[index] if index < len(self.rows) else []
        ends = (0, -1) if len(rows) else ()
        if len(dataset) != len(rows) or any(row_of(dataset, i) != rows[i] for i in ends):
            raise UserError(
                f"the experience given is not number {index + 1} of the {len(self.rows)} that this "
                "strategy trains on: give each once and in order, from as_benchmark(stream, "
                "gather, train_rows=strategy.rows)."
            )

    def _after_training_exp(self, **kwargs: Any) -> None:
        super()._after_training_exp(**kwargs)
        steps = self.position.total_steps
        self.position = Position(self.position.experience + 1, total_steps=steps)

    def _refuse_other_loader(self) -> None:
        if not isinstance(self.dataloader, Remaining):
            raise UserError(
                "an Avalanche plugin replaced the training data (ReplayPlugin and its like do): "
                "use one of Medley's learners with a memory instead, such as replay."
            )

    # ---- the step -----------------------------------------------------------------------

    def _take_step(self, batch: Batch, memory_batch: Batch | None, **kwargs: Any) -> None:
        """One optimiser step, with Avalanche's hooks in Avalanche's order."""
        zeros = torch.zeros(len(batch), dtype=torch.int64, device=self.device)
        self.mbatch = [batch, batch.labels, zeros]
        self._before_training_iteration(**kwargs)
        self.optimizer.zero_grad()
        self._before_forward(**kwargs)
        self._refuse_replaced(batch)
        loss = self.learner.loss(batch, memory_batch)
        self.mb_output = None if loss.outputs is None else finite(loss.outputs)
        self.terms = loss.terms
        self._after_forward(**kwargs)
        self.loss = loss.value
        self._before_backward(**kwargs)
        self._refuse_no_number("the loss", [self.loss])
        self.backward()
        self.learner.after_backward()
        self._after_backward(**kwargs)
        self._before_update(**kwargs)
        self.optimizer_step()
        self.learner.after_step()
        self._after_update(**kwargs)

    def _advance(self) -> None:
        at = self.position
        step, last = at.step + 1, at.step + 1 >= self.steps_per_epoch
        self.position = Position(
            at.experience, at.epoch + last, 0 if last else step, at.total_steps + 1
        )

    def order(self) -> Int[Tensor, " rows"]:
        """(N,) rows of the current epoch, in the order in which they are met."""
        raise NotImplementedError

    def _shuffled(self, rows: Tensor) -> Tensor:
        """In an order that depends on (seed, experience, epoch) alone."""
        at = self.position
        key = np.random.SeedSequence([self.seed, at.experience, at.epoch]).generate_state(1)
        generator = torch.Generator().manual_seed(int(key[0]))
        return rows[torch.randperm(len(rows), generator=generator)]

    def load(self, rows: Int[Tensor, " batch"]) -> tuple[Batch, Batch | None]:
        """A stream batch for training, and one drawn from the memory if that holds anything."""
        memory = self.learner.memory
        if memory is None or len(memory) == 0:
            return self.loader.training(rows), None
        drawn = torch.as_tensor(self.learner.draw())
        return self.loader.training(torch.cat([rows, drawn])).split(len(rows))


class LearnerStrategy(StreamStrategy):
    """Trains ``learner`` on the experiences of an Avalanche benchmark, one ``train`` call each.

    Each is met in ``train_epochs`` epochs; the optimiser starts afresh with every experience.
    """

    _resumed = False
    _earlier = torch.empty(0, dtype=torch.int64)

    def resume(self, position: Position, optimizer_state: dict[str, Any]) -> None:
        super().resume(position, optimizer_state)
        self._resumed = True

    @property
    def total_steps(self) -> int:
        """Steps of the whole run, 0 if there is nothing to train."""
        batches = sum(-(-len(rows) // self.train_mb_size) for rows in self.rows)
        return batches * self.train_epochs if self.learner.trains else 0

    def _begin(self) -> None:
        if not self._resumed or self.position.fresh:
            self.optimizer.state.clear()
            self.learner.begin_experience(self.info())
        self._resumed = False
        earlier = self.rows[: self.position.experience]
        rows = self.rows[self.position.experience]
        self._earlier = torch.as_tensor(np.intersect1d(rows, np.concatenate([rows[:0], *earlier])))

    def _announce(self, batch: Batch) -> None:
        """Recordings of the first epoch that no earlier experience had."""
        if len(self._earlier):
            batch = batch.where(~torch.isin(batch.indices, self._earlier.to(self.device)))
        self.learner.arrive(batch)

    def _train_exp(self, experience: Any, eval_streams: Any = None, **kwargs: Any) -> None:
        while self.learner.trains and self.position.epoch < self.train_epochs:
            self._before_training_epoch(**kwargs)
            if self._stop_training:
                break
            self.training_epoch(**kwargs)
            self._after_training_epoch(**kwargs)

    def _after_training_exp(self, **kwargs: Any) -> None:
        self.learner.end_experience(self.info())
        super()._after_training_exp(**kwargs)

    def training_epoch(self, **kwargs: Any) -> None:
        """The steps left in the current epoch, with Avalanche's hooks in Avalanche's order.

        UserError if a plugin has put another loader in the place of ours.
        """
        self._refuse_other_loader()
        for batch, memory_batch in self.dataloader:  # pyright: ignore[reportGeneralTypeIssues]
            if self._stop_training:
                return
            if self.position.epoch == 0:
                self._announce(batch)
            self.rates.set(self.learner.rate)
            self._take_step(batch, memory_batch, **kwargs)
            if self.position.epoch == 0:
                self.learner.observe(batch)
            self._advance()
            self._after_training_iteration(**kwargs)
            if self.after_step is not None:
                self.after_step(self)

    def load(self, rows: Int[Tensor, " batch"]) -> tuple[Batch, Batch | None]:
        if self.position.epoch == 0:
            self.learner.take_in(rows, self.labels(rows))
        return super().load(rows)

    def order(self) -> Int[Tensor, " rows"]:
        return self._shuffled(torch.as_tensor(self.rows[self.position.experience]))
