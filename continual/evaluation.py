"""Evaluation of a learner on the test sets of a stream; training state is left as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from continual.learner import Learner, Prediction
from continual.metrics import confusion_cells, confusion_matrix, recalls
from continual.scenarios import Experience, Stream
from continual.understanding import heard, understood
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.evaluation import multi_label

MEDICAL = ("ecg", "xray")
DENSE_CLASSES = 256  # of more classes a table of counts lists the cells that are not zero


@dataclass(frozen=True)
class Evaluator:
    """batches: manifest rows -> their Batches in any order, on the learner's device.

    A test set's score is its accuracy; in multi-label streams it is the macro-AUROC over the
    classes of its experience, of those that have positive and negative test recordings.
    """

    learner: Learner
    stream: Stream
    batches: Callable[[np.ndarray], Iterator[Batch]]

    def test(self, met: int | None = None) -> tuple[list[float], dict[str, Any]]:
        """The score of each test set, and what ``details`` makes of all of them together.

        met: number of experiences met; of learners that write texts these are told of, too.
        """
        rows = np.unique(np.concatenate([e.test for e in self.stream.experiences]))
        predicted = predict_rows(self.learner, self.batches, rows)
        scores = [self._score(predicted, rows, e.test, e.classes) for e in self.stream.experiences]
        defined = [s for s in scores if s is not None]
        assert len(defined) == len(scores), "check_stream lets no such experience through"
        details = self._details(predicted, rows)
        if predicted.texts is not None:
            known = self.stream.experiences[:met]
            details |= self._texts(predicted, rows, np.concatenate([e.test for e in known]))
        return defined, details

    def details(self) -> dict[str, Any]:
        """What ``test`` tells beside the scores, of all test recordings together."""
        rows = np.unique(np.concatenate([e.test for e in self.stream.experiences]))
        predicted = predict_rows(self.learner, self.batches, rows)
        details = self._details(predicted, rows)
        return details if predicted.texts is None else details | self._texts(predicted, rows, rows)

    def _texts(self, predicted: Prediction, rows: np.ndarray, part: np.ndarray) -> dict[str, Any]:
        """What was written of ``part`` of the ascending ``rows`` that were predicted."""
        at, texts = np.searchsorted(rows, part), predicted.texts
        assert texts is not None
        own = Prediction(predicted.labels[at], texts=tuple(texts[i] for i in at))
        manifest = self.stream.manifest
        return {"understood": understood(own, manifest, part), "heard": heard(own, manifest, part)}

    def zero_shot(self, exposed: int) -> dict[str, Any] | None:
        """Accuracy on classes never trained on, named by their texts; None if the learner cannot.

        exposed: number of experiences met. ``future``: test recordings of the classes still to
        come, among these; ``future_chance``: 1 / their number. ``held_out``: those of the stream's
        held-out classes, among those. None where fewer than two classes are left. ``parts``: of
        the stream's parts, each among its own classes; ``held_out`` is then their mean.
        """
        future, parts = self._future(exposed), self.stream.parts
        held = () if parts else (self.stream.held_out,)
        values = []
        for task in (future, *held, *parts):
            if task is None or len(task.classes) < 2:
                values.append(None)
                continue
            scores = score_rows(self.learner, self.batches, task.test)
            if scores is None:
                return None
            classes = np.array(task.classes)
            named = classes[scores[:, classes].argmax(axis=1)]
            values.append(float(np.mean(named == self.stream.manifest.labels[task.test])))
        chance = None if values[0] is None or future is None else 1 / len(future.classes)
        found: dict[str, Any] = {"future_chance": chance, "future": values[0]}
        if not parts:
            return found | {"held_out": values[1]}
        return found | {"held_out": float(np.mean(values[1:])), "parts": values[1:]}

    def _future(self, exposed: int) -> Experience | None:
        """What is still to come, as one experience; None if a class of it was met before."""
        met = {c for e in self.stream.experiences[:exposed] for c in e.classes}
        rest = self.stream.experiences[exposed:]
        classes = tuple(sorted({c for e in rest for c in e.classes}))
        if not rest or met.intersection(classes) or self.stream.manifest.multi_label:
            return None
        none, test = np.empty(0, dtype=np.int64), np.concatenate([e.test for e in rest])
        return Experience("future", classes, none, none, np.unique(test))

    def validation(self, count: int) -> float | None:
        """The score on validation recordings and classes of the first ``count`` experiences.

        None if there are no validation recordings, or none that a score can be made of.
        """
        met: Sequence[Experience] = self.stream.experiences[:count]
        rows = np.unique(np.concatenate([e.validation for e in met]))
        if not len(rows):
            return None
        classes = tuple(sorted({c for e in met for c in e.classes}))
        return self._score(predict_rows(self.learner, self.batches, rows), rows, rows, classes)

    def baseline(self) -> list[float] | None:
        """Test scores of the untrained model, for forward transfer.

        None where an experience tests classes never met before: a classifier cannot name those
        one experience earlier, so forward transfer says nothing about it.
        """
        met: set[int] = set(self.stream.experiences[0].classes)
        for experience in self.stream.experiences[1:]:
            if not met.issuperset(experience.classes):
                return None
        return self.test()[0]

    def _score(
        self, predicted: Prediction, rows: np.ndarray, part: np.ndarray, classes: Sequence[int]
    ) -> float | None:
        """The score on ``part`` of the ascending ``rows`` that were predicted."""
        at, manifest = np.searchsorted(rows, part), self.stream.manifest
        if not manifest.multi_label:
            return float(np.mean(predicted.labels.numpy()[at] == manifest.labels[part]))
        scores, columns = scores_of(predicted), list(classes)
        targets = manifest.targets[part][:, columns]
        return multi_label.macro(multi_label.auroc(scores[at][:, columns], targets))

    def _details(self, predicted: Prediction, rows: np.ndarray) -> dict[str, Any]:
        """What the last evaluation adds to a result, by its key there; class id -> value.

        Accuracy: ``per_class_accuracy`` and ``confusion_matrix``, of more than ``DENSE_CLASSES``
        ``confusion_cells``; of medical data ``one_vs_rest_auroc``. Multi-label: the macro means and
        ``per_class_auroc`` over the classes of the stream, None where undefined, and
        ``per_class_counts``, of present and absent ones.
        """
        manifest = self.stream.manifest
        if not manifest.multi_label:
            labels = manifest.labels[rows]
            named, count = predicted.labels.numpy(), manifest.num_classes
            writes = predicted.texts is not None  # and may name no class
            few = count <= DENSE_CLASSES
            counts = (confusion_matrix if few else confusion_cells)(
                labels, named, count, no_prediction=writes
            )
            details = {
                "per_class_accuracy": _defined(recalls(labels, named, count).tolist()),
                "confusion_matrix" if few else "confusion_cells": counts.tolist(),
            }
            areas = _one_vs_rest(predicted, labels, count) if few else None
            if manifest.modality in MEDICAL and areas is not None:
                details["one_vs_rest_auroc"] = areas
            return details
        scores, targets = scores_of(predicted), manifest.targets[rows]
        streamed = np.isin(
            np.arange(manifest.num_classes), [c for e in self.stream.experiences for c in e.classes]
        )
        aurocs = np.where(streamed, multi_label.auroc(scores, targets), np.nan)
        precisions = np.where(streamed, multi_label.average_precision(scores, targets), np.nan)
        return {
            "macro_auroc": multi_label.macro(aurocs),
            "mean_average_precision": multi_label.macro(precisions),
            "num_scored_classes": int((~np.isnan(aurocs)).sum()),
            "per_class_auroc": _defined(aurocs.tolist()),
            "per_class_counts": [[int((t == v).sum()) for v in (1, 0)] for t in targets.T],
        }


def scores_of(predicted: Prediction) -> Float[np.ndarray, "recordings classes"]:
    """(N, C) scores; UserError if there are none, or one is no number."""
    if predicted.scores is None:
        raise UserError("this learner gives no class scores, which multi-label data needs.")
    if predicted.scores.isnan().any():
        raise UserError("class scores became NaN: lower training.learning_rate.")
    return predicted.scores.numpy()


def _one_vs_rest(
    predicted: Prediction, labels: np.ndarray, count: int
) -> list[float | None] | None:
    """AUROC of each class's score against all others; None without a score of every class."""
    scores = predicted.scores
    if scores is None or scores.shape[1] != count or scores.isnan().any():
        return None
    present = (labels[:, None] == np.arange(count)).astype(np.float32)
    return _defined(multi_label.auroc(scores.numpy(), present).tolist())


def _defined(values: list[float]) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values]


@contextlib.contextmanager
def evaluating(learner: Learner) -> Iterator[None]:
    """No gradients, evaluation mode; afterwards every module has its mode back."""
    modes = {module: module.training for module in learner.model.modules()}
    learner.model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def predict(learner: Learner, batches: Iterator[Batch]) -> Prediction:
    """One Prediction, on the CPU, of batches in order; training state is left as it was."""
    with evaluating(learner):
        parts = [learner.predict(batch) for batch in batches]
    scores = [p.scores.cpu() for p in parts if p.scores is not None]
    texts = [p.texts for p in parts if p.texts is not None]
    return Prediction(
        torch.cat([p.labels.cpu() for p in parts]),
        torch.cat(scores) if scores else None,
        tuple(text for part in texts for text in part) if texts else None,
    )


def predict_rows(
    learner: Learner, batches: Callable[[np.ndarray], Iterator[Batch]], rows: np.ndarray
) -> Prediction:
    """``predict`` of rows, in their order, whatever order ``batches`` reads them in."""
    seen: list[Tensor] = []
    predicted = predict(learner, _noting(batches(rows), seen))
    at, texts = _places(rows, seen), predicted.texts
    return Prediction(
        predicted.labels[at],
        None if predicted.scores is None else predicted.scores[at],
        None if texts is None else tuple(texts[i] for i in at.tolist()),
    )


def score_rows(
    learner: Learner, batches: Callable[[np.ndarray], Iterator[Batch]], rows: np.ndarray
) -> Float[np.ndarray, "recordings classes"] | None:
    """(N, C) scores of all classes for rows in their order, whatever that of ``batches``, on the
    CPU; None if the learner cannot name unseen classes.
    """
    parts, seen = [], []
    with evaluating(learner):
        for batch in _noting(batches(rows), seen):
            scores = learner.score_all(batch)
            if scores is None:
                return None
            parts.append(scores.cpu())
    return torch.cat(parts)[_places(rows, seen)].numpy()


def _noting(batches: Iterator[Batch], seen: list[Tensor]) -> Iterator[Batch]:
    for batch in batches:
        seen.append(batch.indices.cpu())
        yield batch


def _places(rows: np.ndarray, seen: list[Tensor]) -> Tensor:
    """Where each of the rows stands in what was seen, which are the same rows."""
    order = np.argsort(torch.cat(seen).numpy(), kind="stable")
    places = np.empty_like(order)
    places[np.argsort(rows, kind="stable")] = order
    return torch.from_numpy(places)
