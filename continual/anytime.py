"""Anytime evaluation of online streams: at any moment, on the test recordings of exposed classes.

A class is exposed as soon as a stream recording of it was met (of multi-label data: a positive).
Classes still to come are tested apart, among themselves, of learners that can name them
(``future``: zero-shot), and never otherwise. An evaluation reads the learner only: module modes
come back, no random number is drawn, nothing is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from continual.evaluation import predict_rows, score_rows, scores_of
from continual.learner import Learner
from continual.online_metrics import AnytimePoint, AurocPoint, periodic_counts
from continual.scenarios import Stream
from multimodal.batch import Batch
from multimodal.evaluation import multi_label


@dataclass(frozen=True)
class FuturePoint:
    """After ``count`` stream recordings: accuracy (of multi-label data macro-AUROC) on the classes
    still to come, named among themselves, and what guessing gives.
    """

    count: int
    score: float
    chance: float


class Anytime:
    """Of one learner on one online stream.

    batches: manifest rows -> their Batches in any order, on the learner's device. ``counts``:
    numbers of stream recordings k * eval_period < N after which an evaluation is due.
    """

    def __init__(
        self,
        learner: Learner,
        stream: Stream,
        batches: Callable[[np.ndarray], Iterator[Batch]],
    ) -> None:
        assert stream.online is not None
        self.learner, self.manifest, self.batches = learner, stream.manifest, batches
        order = np.concatenate([e.train for e in stream.experiences])
        self.length = len(order)
        self.counts = periodic_counts(self.length, stream.online.eval_period)
        self.test = stream.experiences[-1].test
        # For each class, its first recording's place in the stream; the length if it has none.
        self._first = np.full(self.manifest.num_classes, self.length, dtype=np.int64)
        if self.manifest.multi_label:
            positive = self.manifest.targets[order] == 1
            met = positive.any(0)
            self._first[met] = positive.argmax(0)[met]
        else:
            classes, places = np.unique(self.manifest.labels[order], return_index=True)
            self._first[classes] = places

    def exposed(self, count: int) -> np.ndarray:
        """(C,) bool: classes met among the first ``count`` stream recordings."""
        return self._first < count

    def point(self, count: int) -> AnytimePoint | AurocPoint:
        """The learner as it is, after ``count`` recordings."""
        exposed, manifest = self.exposed(count), self.manifest
        if manifest.multi_label:
            aurocs = np.full(len(exposed), np.nan)
            if exposed.any():
                scores = scores_of(predict_rows(self.learner, self.batches, self.test))
                known = manifest.targets[self.test][:, exposed]
                aurocs[exposed] = multi_label.auroc(scores[:, exposed], known)
            return AurocPoint(count, [None if np.isnan(a) else float(a) for a in aurocs])
        rows = self.test[exposed[manifest.labels[self.test]]]
        labels = manifest.labels[rows]
        right = predict_rows(self.learner, self.batches, rows).labels.numpy() == labels
        size = len(exposed)
        return AnytimePoint(
            count,
            np.bincount(labels[right], minlength=size).tolist(),
            np.bincount(labels, minlength=size).tolist(),
        )

    def future(self, count: int) -> FuturePoint | None:
        """Zero-shot on the classes not met among the first ``count`` recordings.

        None if the learner cannot name these, or fewer than two are left.
        """
        exposed, manifest = self.exposed(count), self.manifest
        streamed = self._first < self.length
        classes = np.flatnonzero(~exposed & streamed)
        if len(classes) < 2:
            return None
        rows = self.test
        if not manifest.multi_label:
            rows = rows[np.isin(manifest.labels[rows], classes)]
        scores = score_rows(self.learner, self.batches, rows)
        if scores is None:
            return None
        if manifest.multi_label:
            known = manifest.targets[rows][:, classes]
            auroc = multi_label.macro(multi_label.auroc(scores[:, classes], known))
            return None if auroc is None else FuturePoint(count, auroc, 0.5)
        named = classes[scores[:, classes].argmax(1)]
        return FuturePoint(count, float(np.mean(named == manifest.labels[rows])), 1 / len(classes))
