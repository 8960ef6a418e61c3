"""The one fit loop: training of whatever a task embeds, on one process or several.

The loop knows no modality, no file and no tracking store. Its caller makes the ``Task``, listens
after every step, and keeps its ``state_dict``. Under ``torchrun`` or ``accelerate launch`` every
process holds its part of each batch; gradients are averaged over the processes after the backward
pass, in one transfer. That is exact because a task's loss is such that its mean over the processes
is that of the whole batch: objectives average over own rows and compare them with everybody's
(``objectives/tools/gather.py``); a batch has as many rows in each. (DistributedDataParallel would
need every parameter to take part in one forward call, which cached negatives and the scale of the
cosines do not.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from multimodal.errors import UserError
from multimodal.loader import Loader
from multimodal.objectives.tools.gather import rank, world_size
from multimodal.objectives.tools.samples import SampleTables
from multimodal.training.batching import make_batches
from multimodal.training.config import FitConfig
from multimodal.training.grad_cache import backward_in_parts
from multimodal.training.optim import (
    MovingAverage,
    learning_rate_factor,
    load_optimizer,
    parameter_groups,
)
from multimodal.training.processes import average_gradients, share_weights, start_processes
from multimodal.training.task import Task
from multimodal.weights import trained_weights

SHOWN = 5


class Fit:
    """Trains a task; ``run`` goes on where ``load_state_dict`` says.

    rows: (N,) what may be loaded; lengths: (N,) of them, for batches of similar length. meaning_of:
    (N,) the class of each, near: (N, K) its neighbours (``neighbours.nearest``), as
    ``training.batch`` needs them. validate: after each epoch, a score that shall rise. after_step:
    called with this object when the position already names the next step. name_of: row -> its name,
    for errors. UserError: precision that the device lacks, fewer recordings a process than the task
    needs, batches that cannot be made, patience without validation, a loss that is no number (with
    the recordings whose embeddings are none).
    """

    def __init__(
        self,
        task: Task,
        config: FitConfig,
        *,
        rows: np.ndarray,
        lengths: np.ndarray,
        seed: int,
        meaning_of: Sequence[str] | None = None,
        near: np.ndarray | None = None,
        validate: Callable[[], float] | None = None,
        after_step: Callable[[Fit], None] | None = None,
        name_of: Callable[[int], str] = str,
    ) -> None:
        if config.patience is not None and validate is None:
            raise UserError(
                f"training.patience={config.patience} needs validation recordings: set "
                "validation_fraction, or leave patience out."
            )
        self.device = start_processes(cpu=config.device == "cpu")
        _check_precision(config, self.device)
        self.scaler = torch.amp.GradScaler() if config.precision == "fp16" else None
        self.task, self.config, self.rows = task, config, rows
        self.validate, self.after_step = validate, after_step
        self.name_of = name_of
        self.loader = Loader(task.load, self.device)
        self.module: nn.Module = task.module.to(self.device)
        share_weights(self.module)
        smallest = task.smallest_batch
        _refuse_few(config, len(rows), smallest)
        self.batches = make_batches(
            config, lengths, meaning_of, near, seed=seed, processes=world_size(), smallest=smallest
        )
        self.steps_per_epoch = self.batches.count
        self.total = self.steps_per_epoch * config.epochs
        groups = parameter_groups(self.module, config.weight_decay)
        self.optimizer = torch.optim.AdamW(groups, lr=config.learning_rate)
        self.average = None if config.ema is None else MovingAverage(self.module, config.ema)
        self.epoch = self.step = self.total_steps = self.without_improvement = 0
        self.recordings = 0  # trained on so far, by all processes, each as often as it was
        self.best_score: float | None = None
        self.best: dict[str, Tensor] | None = None
        self.loss, self.terms = torch.zeros(()), dict[str, Tensor]()
        self.grad_norm = torch.zeros(())
        self._seen, self._seconds, self._waited = 0, 0.0, 0.0

    @property
    def throughput(self) -> float:
        """Recordings a second, of all processes, since this object was made."""
        return self._seen / self._seconds if self._seconds else 0.0

    @property
    def data_wait(self) -> float:
        """Share of the time of training in which a batch was loaded and sent to the device."""
        return self._waited / self._seconds if self._seconds else 0.0

    @property
    def learning_rate(self) -> float:
        return self.optimizer.param_groups[0]["lr"]

    def log(self) -> dict[str, float]:
        """What a step log keeps, as numbers."""
        terms = {name: float(value) for name, value in self.terms.items()}
        return {
            "loss": float(self.loss),
            **terms,
            "gradient_norm": float(self.grad_norm),
            "learning_rate": self.learning_rate,
            "recordings_per_second": self.throughput,
            "data_wait_share": self.data_wait,
        }

    def run(self) -> None:
        """Train to the end, or until patience ends; the module then holds the weights to keep."""
        while self.epoch < self.config.epochs and not self._out_of_patience():
            self.module.train()
            for batch in self.batches.of_epoch(self.epoch)[self.step :]:
                self._train_on(self.rows[batch])
            self._end_epoch()
        with torch.no_grad():
            if self.best is not None:
                for name, tensor in trained_weights(self.module).items():
                    tensor.copy_(self.best[name])
            elif self.average is not None:
                self.average.swap()

    # ---- one step -----------------------------------------------------------------------

    def _train_on(self, rows: np.ndarray) -> None:
        begin = time.perf_counter()
        own = np.array_split(rows, world_size())[rank()]
        size = self.config.micro_batch or len(own)
        places = [own[i : i + size] for i in range(0, len(own), size)]
        parts = [self.loader.load(part) for part in places]
        loaded = time.perf_counter()
        self._set_rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss, embeddings = backward_in_parts(
            self._embed,
            lambda x: self.task.loss(x, own),
            parts,
            backward=self._backward,
        )
        self.loss, self.terms = loss.value, loss.terms
        self._update()
        if self.total_steps % self.config.log_every == 0:
            self._refuse_nan(embeddings, own)
        self._advance(len(rows))
        self._waited += loaded - begin
        self._seconds += time.perf_counter() - begin
        if self.after_step is not None:
            self.after_step(self)

    def _embed(self, batch: Any) -> tuple[Tensor, ...]:
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.config.precision)
        with torch.autocast(self.device.type, kind) if kind is not None else nullcontext():
            if self.config.gradient_checkpointing and torch.is_grad_enabled():
                return checkpoint(self.task.embed, batch, use_reentrant=False)  # pyright: ignore
            return self.task.embed(batch)

    def _backward(self, loss: Tensor) -> None:
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def _set_rate(self) -> None:
        warmup = round(self.config.warmup * self.total)
        factor = learning_rate_factor(self.total_steps, total=self.total, warmup=warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * self.config.learning_rate

    def _update(self) -> None:
        average_gradients(self.module)
        trained = [p for p in self.module.parameters() if p.grad is not None]
        scaler = self.scaler
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        limit = self.config.clip_norm or float("inf")
        self.grad_norm = torch.nn.utils.clip_grad_norm_(trained, limit)
        if scaler is None:
            self.optimizer.step()
        else:
            before = scaler.get_scale()
            scaler.step(self.optimizer)
            scaler.update()
            if scaler.get_scale() < before:  # the step was left out: gradients had overflowed
                return
        self.task.after_step()
        if self.average is not None:
            self.average.update()

    def _advance(self, count: int) -> None:
        self._seen += count
        self.recordings += count
        self.step, self.total_steps = self.step + 1, self.total_steps + 1

    def _end_epoch(self) -> None:
        self.epoch, self.step = self.epoch + 1, 0
        if self.validate is None:
            return
        with nullcontext() if self.average is None else self.average.applied():
            self.module.eval()
            score = self.validate()
            if self.best_score is None or score > self.best_score:
                weights = trained_weights(self.module)
                self.best = {name: tensor.detach().clone() for name, tensor in weights.items()}
                self.best_score, self.without_improvement = score, 0
            else:
                self.without_improvement += 1

    def _out_of_patience(self) -> bool:
        patience = self.config.patience
        return patience is not None and self.without_improvement >= patience

    def _refuse_nan(self, embeddings: tuple[Tensor, ...], rows: np.ndarray) -> None:
        if torch.isfinite(self.loss):
            return
        finite = [x.isfinite().flatten(1).all(dim=1).cpu() for x in embeddings]  # (N, ..., D)
        bad = rows[~torch.stack(finite).all(dim=0).numpy()]
        named = ", ".join(repr(self.name_of(int(row))) for row in bad[:SHOWN])
        who = f"; embeddings with NaN: {named}{', ...' * (len(bad) > SHOWN)}" if len(bad) else ""
        raise UserError(
            f"the loss became {float(self.loss)} at step {self.total_steps + 1}{who}: lower "
            f"training.learning_rate ({self.config.learning_rate}), or leave the recordings out."
        )

    # ---- state --------------------------------------------------------------------------

    @property
    def tables(self) -> SampleTables | None:
        """What the loss keeps of each sample, if anything."""
        return getattr(self.task, "tables", None)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values: all but the global random states."""
        scaler = self.scaler
        return {
            "weights": trained_weights(self.module),
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
            "position": [self.epoch, self.step, self.total_steps, self.without_improvement],
            "best": [self.best_score, self.best],
            "last": [self.loss, self.terms],
            "recordings": self.recordings,
            **({} if self.tables is None else {"tables": self.tables.state_dict()}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        with torch.no_grad():
            for name, tensor in trained_weights(self.module).items():
                tensor.copy_(state["weights"][name])
        load_optimizer(self.optimizer, self.module, state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step, self.total_steps, self.without_improvement = state["position"]
        self.best_score, self.best = state["best"]
        self.loss, self.terms = state["last"]
        if self.tables is not None:
            self.tables.load_state_dict(state["tables"])
        # Earlier versions did not count them.
        self.recordings = state.get("recordings", self.total_steps * self.config.batch_size)


def _refuse_few(config: FitConfig, count: int, smallest: int) -> None:
    """UserError if no batch has ``smallest`` recordings for each process."""
    least = smallest * world_size()
    if config.batch_size < least:
        raise UserError(
            f"training.batch_size={config.batch_size} for {world_size()} process(es): this task "
            f"needs at least {smallest} recording(s) in each; set {least} or more."
        )
    if count < least:
        raise UserError(
            f"{count} training recordings for {world_size()} process(es): this task needs at least "
            f"{smallest} recording(s) in each; give more."
        )


def _check_precision(config: FitConfig, device: torch.device) -> None:
    if config.precision == "fp16" and device.type != "cuda":
        raise UserError("training.precision=fp16 needs a GPU; use bf16 or fp32 on a CPU.")
