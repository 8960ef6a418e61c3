"""run(cell) -> Result: one learner on one stream with one seed, resumable at any step.

A run folder holds ``config.yaml``, ``metrics.jsonl``, ``checkpoint/``, ``models/`` and, when the
run is done, ``result.json``. The same cell run again continues from its checkpoint, or returns
its result if it is done.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch

from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.learner import batch_source, build_learner, build_optimizer
from benchmarks.commands.bench.quick_stream import evaluated
from benchmarks.commands.bench.result import score_name, stream_facts
from benchmarks.results.result import Result, write_lines
from benchmarks.runs import machine
from benchmarks.runs.data import Data, seed_everything
from benchmarks.runs.facts import dataset_facts
from benchmarks.runs.session import MODELS, Session
from continual.evaluation import Evaluator
from continual.scenarios import Stream
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.strategy import Position, StreamStrategy
from continual.unknown import unknown_metrics
from multimodal.batch import Batch
from multimodal.digests import write_tensors
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.weights import frozen_digest

HEARD_FILE = "transcripts.jsonl"
MISHEARD = 20  # recordings that a report shows
SPOKEN = ("speech", "audio")


class Observer(Protocol):
    """Hears how a run goes; the command line's progress bar is one."""

    def begin(self, total_steps: int, done_steps: int) -> None: ...
    def step(self, strategy: StreamStrategy, /) -> None: ...
    def experience_done(
        self, index: int, count: int, measure: str, scores: list[float]
    ) -> None: ...


class StreamRun:
    """One cell in progress. ``stream``: as drawn for the cell, of usable recordings only.

    A subclass makes the strategy, trains and evaluates, and makes the metrics of the result.
    """

    def __init__(
        self,
        config: RunConfig,
        data: Data,
        stream: Stream,
        *,
        observer: Observer | None = None,
    ) -> None:
        assert len(config.learners) == len(config.seeds) == 1
        self.config, self.data, self.stream, self.observer = config, data, stream, observer
        self.seed = config.seeds[0]
        self.session = Session(
            config,
            data.manifest,
            learner=config.learners[0].registered_name,
            scenario=config.scenario.registered_name,
            seed=self.seed,
            more=data.inputs | evaluated(config, stream),
        )
        self.device = machine.pick_device(config.training.device)
        seed_everything(self.seed)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.learner = build_learner(config, data, self.device)
        total = machine.size_of(self.learner.model)
        machine.use_threads(config.training.threads, parameters=total, device=self.device)
        self.frozen = frozen_digest(self.learner.model) if config.tracking.log_models else ""
        self.source = batch_source(config, data, stream, self.learner, self.device)
        self.strategy = self.make_strategy(**self._parts())
        self.evaluator = Evaluator(self.learner, stream, self.read_tests)
        train_rows = self.strategy.rows
        self.benchmark = as_benchmark(stream, self.source.gather, train_rows=train_rows)
        self.records = self.first_records()
        self.loss_sum, self.loss_count = torch.zeros((), device=self.device), 0

    # ---- what a subclass does -----------------------------------------------------------

    def first_records(self) -> dict[str, Any]:
        """What is recorded, before anything is; plain values that go into checkpoints."""
        raise NotImplementedError

    def make_strategy(self, **parts: Any) -> StreamStrategy:
        """A strategy of the given parts."""
        raise NotImplementedError

    def train(self) -> None:
        """Train and evaluate what is left of the stream, keeping ``records``."""
        raise NotImplementedError

    def metrics(self) -> dict[str, Any]:
        """The ``metrics`` of the result, from ``records``."""
        raise NotImplementedError

    @property
    def epochs(self) -> int:
        """Of an experience."""
        own = getattr(self.config.learners[0], "epochs", None)
        return 1 if self.config.quick else own or self.config.training.epochs

    def read_tests(self, rows: np.ndarray) -> Iterator[Batch]:
        """Batches for evaluation, in any order: signals of like length stand together."""
        size, source = self.config.training.eval_batch_size, self.source
        if isinstance(source, EmbeddingCache):
            return self.strategy.loader.batches(rows, size)
        source.ensure(rows)
        return self.strategy.loader.alike(rows, size, source.lengths(rows))

    def _parts(self) -> dict[str, Any]:
        training = self.config.training
        return {
            "learner": self.learner,
            "stream": self.stream,
            "gather": self.source.gather,
            "augment": self.data.adapter.augment(),
            "optimizer": build_optimizer(self.learner.model, training),
            "seed": self.seed,
            "train_mb_size": training.batch_size,
            "eval_mb_size": training.eval_batch_size,
            "device": self.device,
            "after_step": self.after_step,
        }

    # ---- the run ------------------------------------------------------------------------

    def execute(self) -> Result:
        """Train and evaluate to the end; UserError if the folder belongs to other data."""
        session, strategy, manifest = self.session, self.strategy, self.data.manifest
        with session.open() as state:
            if state is not None:
                with session.restoring():
                    self._restore(state)
            skipped = len(self.data.signals.damaged)
            facts = dataset_facts(manifest, self.stream.manifest, skipped)
            session.track(facts)
            self.source.ensure(self.stream.rows)
            if self.observer is not None:
                self.observer.begin(strategy.total_steps, strategy.position.total_steps)
            self.train()
            told = stream_facts(self.stream)
            metrics = self.metrics()
            told["evaluation"] = {"parameters": self.learner.parameters()}
            if "misheard" in self.records:
                told["evaluation"]["misheard"] = self.records["misheard"]
            result = session.result(self.device, dataset=facts, metrics=metrics, **told)
            session.finish(result)
        session.stop_if_interrupted()
        return result

    def experience_done(
        self, index: int, total: int, values: dict[str, float], scores: list[float]
    ) -> None:
        """Journal, model file, checkpoint and observer after an experience.

        values: for the journal. scores: of test sets, for the observer.
        """
        self.log_loss()
        self.session.journal.write(values, self.strategy.recordings)
        self._save_model(index, scores)
        self.save_checkpoint()
        self.session.stop_if_interrupted()
        if self.observer is not None:
            self.observer.experience_done(index, total, score_name(self.data.manifest), scores)

    def score_unknown(self, index: int) -> dict[str, float]:
        """How far classes still unknown after an experience are told from known ones, if that is
        asked; for the journal, and kept.
        """
        reference = self.config.evaluation.unknown
        if reference is None:
            return {}
        trained = self.strategy.rows[: index + 1]
        found = unknown_metrics(
            self.learner, self.stream, self.read_tests, trained, reference=reference
        )
        self.records.setdefault("unknown", []).append(found)
        return {f"unknown_{name}": value for name, value in (found or {}).items()}

    def take_texts(self, details: dict[str, Any]) -> dict[str, float]:
        """Take what was written of test recordings out of an evaluation: into a file, a line each,
        and, of sounds, some that are wrong into the result. Gives the scores; {} if nothing was.
        """
        lines = details.pop("heard", [])
        if lines:
            write_lines(self.session.folder / HEARD_FILE, (line._asdict() for line in lines))
            wrong = [line._asdict() for line in lines if not line.right]
            told = self.data.manifest.modality in SPOKEN  # reports of patients stay in the folder
            self.records["misheard"] = wrong[:MISHEARD] if told else []
        return details.pop("understood", {})

    def after_step(self, strategy: StreamStrategy) -> None:
        if self.learner.trains:
            self.loss_sum += strategy.loss.detach()
            self.loss_count += 1
        steps, training = strategy.position.total_steps, self.config.training
        if steps % training.log_every == 0:
            self.log_loss()
        if self.observer is not None:
            self.observer.step(strategy)
        if self.session.interrupted or steps % training.checkpoint_every == 0:
            self.save_checkpoint()
        self.session.stop_if_interrupted()

    def log_loss(self) -> None:
        """The mean loss since the last line; UserError if it is no number any more."""
        if self.loss_count == 0:
            return
        mean, steps = float(self.loss_sum) / self.loss_count, self.strategy.position.total_steps
        terms = {name: float(value.detach()) for name, value in self.strategy.terms.items()}
        self.session.log({"loss": mean, **terms}, self.strategy.recordings)
        self.loss_sum.zero_()
        self.loss_count = 0
        if not np.isfinite(mean):
            raise UserError(
                f"the loss became {mean} at step {steps}: lower training.learning_rate "
                f"({self.config.training.learning_rate})."
            )

    # ---- state --------------------------------------------------------------------------

    def save_checkpoint(self) -> None:
        state = {
            "learner": self.learner.state_dict(),
            "optimizer": self.strategy.optimizer.state_dict(),
            "position": asdict(self.strategy.position),
            "records": self.records,
            "loss": (self.loss_sum, self.loss_count),
        }
        self.session.save_checkpoint(state)

    def _restore(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state["learner"])
        self.strategy.resume(Position(**state["position"]), state["optimizer"])
        self.records = state["records"]
        self.loss_sum = state["loss"][0].to(self.device)
        self.loss_count = state["loss"][1]

    def _save_model(self, index: int, scores: list[float]) -> None:
        if not self.config.tracking.log_models:
            return
        folder = self.session.folder / MODELS
        folder.mkdir(exist_ok=True)
        path = folder / f"experience_{index + 1:02d}.safetensors"
        write_tensors(path, self.learner.weights(), self._words())
        key = f"mean_test_{score_name(self.data.manifest)}"
        self.session.tracker.log_model(path.stem, path, {key: float(np.mean(scores))})

    def _words(self) -> dict[str, str]:
        """What a model's file tells beside its weights, for whoever opens it again."""
        rows = np.concatenate(self.strategy.rows)
        return {"frozen": self.frozen, "longest": str(self.data.signals.lengths(rows).max())}
