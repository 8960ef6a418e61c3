"""Evaluation of a learner on the test sets of a stream; training state is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from continual.learners import Learner
from continual.metrics import confusion_matrix
from continual.scenarios import Stream
from continual.strategy import predict
from multimodal.batch import Batch


@dataclass(frozen=True)
class Evaluator:
    """batches: manifest rows -> their Batches in order, on the learner's device."""

    learner: Learner
    stream: Stream
    batches: Callable[[np.ndarray], Iterator[Batch]]

    def test(self) -> tuple[list[float], np.ndarray]:
        """Accuracy on each experience's test set; (C, C) confusion matrix over all of them."""
        rows = [e.test for e in self.stream.experiences]
        everything = np.concatenate(rows)
        predicted = predict(self.learner, self.batches(everything))
        labels = self.stream.manifest.labels[everything]
        ends = np.cumsum([len(r) for r in rows])[:-1]
        accuracies = [float(np.mean(part)) for part in np.split(predicted == labels, ends)]
        return accuracies, confusion_matrix(labels, predicted, self.stream.manifest.num_classes)

    def validation(self, count: int) -> float | None:
        """Accuracy on the validation recordings of the first ``count`` experiences, if any."""
        rows = np.concatenate([e.validation for e in self.stream.experiences[:count]])
        if not len(rows):
            return None
        predicted = predict(self.learner, self.batches(rows))
        return float(np.mean(predicted == self.stream.manifest.labels[rows]))

    def baseline(self) -> list[float] | None:
        """Test accuracies of the untrained model, for forward transfer.

        None where an experience tests classes never met before: a classifier cannot name those
        one experience earlier, so forward transfer says nothing about it.
        """
        met: set[int] = set(self.stream.experiences[0].classes)
        for experience in self.stream.experiences[1:]:
            if not met.issuperset(experience.classes):
                return None
        return self.test()[0]
