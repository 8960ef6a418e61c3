"""Prequential evaluation of online streams: every stream batch is a test before it is trained on.

Test-then-train (Dawid 1984; Gama et al. 2013, "On evaluating stream learning algorithms"): the
learner names the recordings of a batch as an evaluation would, among the classes exposed before it,
then trains on them. A recording of a class that was never met is named wrongly, and so is all of
the first batch. Only the learner is read: module modes come back, no random number is drawn, so
training goes on as if nobody had asked. For data of one label a recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jaxtyping import Int
from torch import Tensor

from continual.evaluation import evaluating
from continual.learner import Learner
from multimodal.batch import Batch


class PrequentialPoint(NamedTuple):
    """After ``met`` stream recordings: shares named rightly, of all of them, and of those since
    the point before this one.
    """

    met: int
    cumulative: float
    windowed: float


class Prequential:
    """Of one learner on one stream.

    load: manifest rows -> their Batch in that order, without augmentation, on the learner's device.
    record: ``sizes`` and ``right``, a number for each stream batch so far; plain data that goes
    into checkpoints, and is added to. texts: also ask learners that write texts, which takes them
    longer than training does.
    """

    def __init__(
        self,
        learner: Learner,
        load: Callable[[Tensor], Batch],
        record: dict[str, list[int]],
        *,
        texts: bool,
    ) -> None:
        self.learner, self.load, self.record, self.texts = learner, load, record, texts
        self.record.setdefault("sizes", [])
        self.record.setdefault("right", [])

    def take(self, rows: Int[Tensor, " batch"]) -> None:
        """A stream batch that the learner has not met yet."""
        right = 0
        if self.record["sizes"]:  # else no class is exposed
            batch = self.load(rows)
            with evaluating(self.learner):
                found = self.learner.predict(batch)
            if found.texts is not None and not self.texts:
                self.record["sizes"].append(-1)  # it stays incomplete
                return
            right = int((found.labels == batch.labels.to(found.labels.device)).sum())
        self.record["sizes"].append(len(rows))
        self.record["right"].append(right)

    @property
    def asks(self) -> bool:
        """It has not been given up."""
        return -1 not in self.record["sizes"][:2]


def prequential_points(
    sizes: Sequence[int], right: Sequence[int], window: int
) -> list[PrequentialPoint]:
    """At the first batch that reaches each multiple of ``window`` recordings, and at the last one.

    sizes, right: recordings of each batch, and those named rightly. ValueError: impossible counts.
    """
    if len(sizes) != len(right) or any(not 0 <= r <= n for r, n in zip(right, sizes, strict=True)):
        raise ValueError("right: needs a number from 0 to its size for each batch.")
    if window < 1:
        raise ValueError(f"window={window}: need >= 1.")
    points, done, begun, last = [], 0, 0, (0, 0)
    for number, (size, good) in enumerate(zip(sizes, right, strict=True)):
        done, begun = done + good, begun + size
        ends = number == len(sizes) - 1
        if begun > last[0] and (ends or begun // window > last[0] // window):
            share = (done - last[1]) / (begun - last[0])
            points.append(PrequentialPoint(begun, done / begun, share))
            last = (begun, done)
    return points


def prequential_metrics(record: dict[str, Any], length: int, window: int) -> dict[str, Any]:
    """``prequential_accuracy`` of a stream of ``length`` recordings, with its ``prequential``
    curve; {} unless all of it was asked for.
    """
    sizes, right = record.get("sizes", []), record.get("right", [])
    if sum(sizes) != length or -1 in sizes or not length:
        return {}
    points = [list(point) for point in prequential_points(sizes, right, window)]
    return {
        "prequential_accuracy": sum(right) / length,
        "prequential": {"window": window, "points": points},
    }
