"""Runs of streams whose experiences are trained on for several epochs, one learner and seed each.

``records``: the matrix of test scores (a row after each experience), validation scores, what the
last evaluation tells of classes, scores of the untrained model, zero-shot scores, of learners that
write texts what these are worth, and if it is asked how classes to come are told from known ones.
"""

from __future__ import annotations

from typing import Any

from benchmarks.commands.bench.result import result_metrics, score_name
from benchmarks.commands.bench.stream_run import StreamRun
from continual.strategy import LearnerStrategy, Position, StreamStrategy


class EpochsRun(StreamRun):
    """A cell whose stream is met experience by experience."""

    def first_records(self) -> dict[str, Any]:
        lists: dict[str, Any] = {"matrix": [], "validation": [], "zero_shot": [], "understood": []}
        return {**lists, "details": {}, "baseline": None}

    def make_strategy(self, **parts: Any) -> StreamStrategy:
        return LearnerStrategy(train_epochs=self.epochs, **parts)

    def train(self) -> None:
        strategy, total = self.strategy, len(self.strategy.rows)
        if strategy.position == Position() and total > 1:
            self.records["baseline"] = self.evaluator.baseline()
        if strategy.position == Position():
            self._score_unseen(0)
        for index in range(strategy.position.experience, total):
            strategy.train(self.benchmark.train_stream[index], eval_streams=[])
            self._experience_done(index, total)

    def metrics(self) -> dict[str, Any]:
        return result_metrics(self.records, self.stream)

    def _experience_done(self, index: int, total: int) -> None:
        # Joint training has met every experience after its only one.
        met = index + 1 if total > 1 else len(self.stream)
        scores, details = self.evaluator.test(met)
        texts = self.take_texts(details)
        self.records["details"] = details
        self.records["matrix"].append(scores)
        if texts:
            self.records.setdefault("understood", []).append(texts)
        validation = self.evaluator.validation(met)
        self.records["validation"].append(validation)
        unseen = self._score_unseen(met)
        measure = score_name(self.data.manifest)
        values = {f"test_{measure}/experience_{j + 1:02d}": s for j, s in enumerate(scores)}
        if validation is not None:
            values[f"validation_{measure}"] = validation
        values |= texts | self.score_unknown(index)
        unseen = dict(unseen or {})
        for task, score in zip(self.stream.parts, unseen.pop("parts", ()), strict=False):
            values[f"zero_shot_held_out/{task.name}"] = score
        values |= {f"zero_shot_{k}": v for k, v in unseen.items() if v is not None}
        self.experience_done(index, total, values, scores)

    def _score_unseen(self, exposed: int) -> dict[str, Any] | None:
        found = self.evaluator.zero_shot(exposed)
        if found is not None:
            self.records["zero_shot"].append(found)
        return found
