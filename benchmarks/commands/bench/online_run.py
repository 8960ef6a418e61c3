"""Runs of online streams: each recording is met once, and accuracy is taken at any time.

``records``: raw counts of every anytime evaluation (``periodic`` at each multiple of the period,
``at_end`` after the last recording, ``tasks`` after each task), zero-shot scores on the classes
still to come (``future``), what the last evaluation tells of classes, how many of each stream batch
were named rightly before it was trained on (``prequential``), and scores of validation recordings
after each task, if there are any. They are kept in checkpoints, so a resumed run has the same ones.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from torch import Tensor

from benchmarks.commands.bench.result import online_metrics, score_name
from benchmarks.commands.bench.stream_run import StreamRun
from continual.anytime import Anytime
from continual.online import OnlineStrategy
from continual.online_metrics import AnytimePoint, AurocPoint
from continual.prequential import Prequential
from continual.scenarios.si_blurry import realised
from continual.strategy import LearnerStrategy, StreamStrategy
from multimodal.files import write_atomically

STREAM_FILE = "stream.json"


class OnlineRun(StreamRun):
    """A cell whose stream is met once, in stream batches of ``training.batch_size``."""

    def first_records(self) -> dict[str, Any]:
        lists = {"periodic": [], "tasks": [], "future": [], "validation": []}
        return {**lists, "at_end": None, "details": {}, "prequential": {}}

    def make_strategy(self, **parts: Any) -> StreamStrategy:
        assert self.stream.online is not None
        before = self.ask_first if self.asks_first else None
        iterations = self.stream.online.iterations
        return OnlineStrategy(iterations=iterations, before_batch=before, **parts)

    @property
    def asks_first(self) -> bool:
        """Every stream batch is named before it is trained on."""
        return self.config.prequential is not False and not self.data.manifest.multi_label

    def ask_first(self, rows: Tensor) -> None:
        record = self.records.setdefault("prequential", {})
        asking = Prequential(
            self.learner,
            self.strategy.loader.load,
            record,
            texts=self.config.prequential is True,
        )
        if asking.asks:
            asking.take(rows)

    def train(self) -> None:
        strategy, total = self.strategy, len(self.strategy.rows)
        drawn = json.dumps(realised(self.stream), indent=1) + "\n"
        write_atomically(self.session.folder / STREAM_FILE, drawn)
        for index in range(strategy.position.experience, total):
            strategy.train(self.benchmark.train_stream[index], eval_streams=[])
            if index == total - 1:
                details = self.evaluator.details()
                self.records["understood"] = [self.take_texts(details)]
                self.records["details"] = details
            point = self._point()
            self.records["tasks"].append(asdict(point))
            overall = point.overall
            scores = [] if overall is None else [overall]
            values = self._values(point) | self.score_unknown(index)
            validation = self.evaluator.validation(index + 1)
            self.records.setdefault("validation", []).append(validation)
            if validation is not None:
                values[f"validation_{score_name(self.data.manifest)}"] = validation
            self.experience_done(index, total, values, scores)

    def metrics(self) -> dict[str, Any]:
        return online_metrics(self.records, self.stream)

    def after_step(self, strategy: StreamStrategy) -> None:
        self.evaluate_what_is_due(strategy)
        super().after_step(strategy)

    def evaluate_what_is_due(self, strategy: StreamStrategy) -> None:
        """At every multiple of the period, and after the last recording."""
        assert isinstance(strategy, OnlineStrategy)
        due = self.anytime.counts
        done, seen = self.records["periodic"], strategy.samples_seen
        if len(done) < len(due) and seen >= due[len(done)]:
            point, future = self._point(), self.anytime.future(seen)
            while len(done) < len(due) and seen >= due[len(done)]:
                done.append(asdict(point))
            self._write(point)
            if future is not None:
                self.records.setdefault("future", []).append(asdict(future))
                values = {"future_zero_shot": future.score}
                self.session.journal.write(values, strategy.recordings)
        if seen == self.anytime.length and self.records["at_end"] is None:
            point = self._point()
            self.records["at_end"] = asdict(point)
            self._write(point)

    @property
    def anytime(self) -> Anytime:
        if self._anytime is None:
            self._anytime = Anytime(self.learner, self.stream, self.read_tests)
        return self._anytime

    _anytime: Anytime | None = None

    def _point(self) -> AnytimePoint | AurocPoint:
        assert isinstance(self.strategy, OnlineStrategy)
        return self.anytime.point(self.strategy.samples_seen)

    def _write(self, point: AnytimePoint | AurocPoint) -> None:
        self.session.journal.write(self._values(point), self.strategy.recordings)

    def _values(self, point: AnytimePoint | AurocPoint) -> dict[str, float]:
        values = {"samples_seen": float(point.count)}
        if point.overall is not None and point.balanced is not None:
            values |= {"anytime": point.overall, "anytime_balanced": point.balanced}
        asked = self.records.get("prequential", {})
        if asked.get("right") and sum(asked["sizes"]) == point.count:
            values["prequential_accuracy"] = sum(asked["right"]) / point.count
        return values


class AtOnceRun(OnlineRun):
    """The upper bound of an online stream: all of it trained on offline, then tested once."""

    def make_strategy(self, **parts: Any) -> StreamStrategy:
        return LearnerStrategy(train_epochs=self.epochs, **parts)

    def evaluate_what_is_due(self, strategy: StreamStrategy) -> None:
        """Nothing: recordings are met again and again, so there is no time in the stream."""

    def _point(self) -> AnytimePoint | AurocPoint:
        return self.anytime.point(self.anytime.length)
