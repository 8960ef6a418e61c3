"""Classes that a stream has not shown: by hand, and against slow distances and scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from continual.learner import FrozenTower
from continual.rehearsal import make_memory
from continual.scenarios import Experience, Online, Stream
from continual.unknown import Reference, refuse_no_unknown, unknown_metrics
from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.recordings import Manifest, Recording

NONE = np.empty(0, dtype=np.int64)


@dataclass
class Told:
    """A learner whose embeddings are given."""

    model: torch.nn.Module
    memory: Any = None
    embeds: bool = True

    def tower(self) -> FrozenTower | None:
        found = torch.nn.Identity()
        return FrozenTower(found, found) if self.embeds else None


class Points:
    """Points (N, D) of classes, in three experiences of one class each; ``told``: rows asked for.

    Batches bring embeddings and come from the back, two at a time.
    """

    def __init__(self, points: np.ndarray, labels: list[int], split: list[str]) -> None:
        rows = [
            Recording(f"{i:03d}", (label,), part, make=lambda: np.zeros((1, 1), np.float32))
            for i, (label, part) in enumerate(zip(labels, split, strict=True))
        ]
        names = tuple(f"c{i}" for i in range(max(labels) + 1))
        manifest = Manifest("points", "speech", names, tuple(rows), "1", split_rule="given")
        self.points, self.labels, self.split = points, np.array(labels), np.array(split)
        experiences = [
            Experience(f"e{c}", (c,), self.of(c, "train"), NONE, self.of(c, "test"))
            for c in range(len(names))
        ]
        self.stream, self.told = Stream(manifest, tuple(experiences)), []

    def of(self, label: int, split: str) -> np.ndarray:
        return np.flatnonzero((self.labels == label) & (self.split == split))

    @property
    def trained(self) -> list[np.ndarray]:
        return [e.train for e in self.stream.experiences]

    def batches(self, rows: np.ndarray) -> Iterator[Batch]:
        self.told.append(rows.tolist())
        for start in range(0, len(rows), 2):
            part = rows[::-1][start : start + 2].copy()
            zeros = torch.zeros(len(part), dtype=torch.int64)
            at, points = torch.as_tensor(part), torch.as_tensor(self.points[part])
            yield Batch(torch.zeros(len(part), 1, 1), zeros, zeros, at, embeddings=points)

    def ask(self, met: int, reference: Reference = "met", **learner: Any) -> Any:
        told: Any = Told(torch.nn.Linear(1, 1), **learner)
        return unknown_metrics(
            told, self.stream, self.batches, self.trained[:met], reference=reference
        )


def on_circle(degrees: list[float]) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], 1)


@pytest.fixture
def circle() -> Points:
    """Class 0 lies about 0 degrees and was trained on at -10, 0 and 10; 1 and 2 are elsewhere.

    Lengths say nothing: points are scaled to 1.
    """
    degrees = [-10, 0, 10, -5, 5, 60, 65, 70, 60, 3, 120, 130, 140, 120, 130]
    labels = [0] * 5 + [1] * 5 + [2] * 5
    split = (["train"] * 3 + ["test"] * 2) * 3
    lengths = np.linspace(0.5, 3, 15)[:, None]
    return Points(on_circle([float(x) for x in degrees]) * lengths, labels, split)


def test_by_hand(circle) -> None:
    """After class 0: known at -5 and 5 degrees; unknown at 60 and 3 (of class 1), 120 and 130.

    By symmetry the mean lies on the first axis, with spread s0 along it and s1 across it, and
    (x - mean, y) has distance ((x - mean) / s0)^2 + (y / s1)^2. The one at 3 degrees is nearer than
    both known ones: 2 x 3 of the 2 x 4 pairs stand right, and 1 of 4 unknown ones passes.
    """
    x = np.cos(np.radians([-10, 0, 10]))
    y = np.sin(np.radians([-10, 0, 10]))

    def distance(degrees: float) -> float:
        point = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        return ((point[0] - x.mean()) / x.std()) ** 2 + (point[1] / y.std()) ** 2

    assert distance(3) > distance(5)  # nearer the middle by angle, but farther from the mean
    known, unknown = [distance(-5), distance(5)], [distance(d) for d in (60, 3, 120, 130)]
    right = np.mean([[k < u for u in unknown] for k in known])
    passing = np.mean([u <= max(known) for u in unknown])
    assert circle.ask(1) == {"auroc": right, "fpr95": passing}


@pytest.mark.parametrize("reference", ["met", "kept"])
@pytest.mark.parametrize("met", [1, 2])
def test_against_slow_distances_and_scikit_learn(reference: Reference, met: int) -> None:
    random = np.random.default_rng(met)
    labels = [c for c in range(3) for _ in range(30)]
    split = (["train"] * 20 + ["test"] * 10) * 3
    points = random.normal(size=(90, 4)) + 1.5 * random.normal(size=(3, 4))[labels]
    data = Points(points, labels, split)
    memory = make_memory("reservoir", 6, 0)
    memory.update(data.of(0, "train")[:6], np.zeros(6, dtype=np.int64))
    found = data.ask(met, reference, memory=memory)
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    rows = np.concatenate(data.trained[:met])
    if reference == "kept":
        rows = np.union1d(data.trained[met - 1], memory.indices.numpy())
    assert data.told[0] == sorted(rows)
    mean, covariance = unit[rows].mean(0), np.cov(unit[rows].T, bias=True)
    test = np.flatnonzero(data.split == "test")
    apart = [float((unit[i] - mean) @ np.linalg.solve(covariance, unit[i] - mean)) for i in test]
    is_unknown = data.labels[test] >= met
    assert found["auroc"] == pytest.approx(roc_auc_score(is_unknown, apart), abs=1e-9)
    ascending = sorted(d for d, u in zip(apart, is_unknown, strict=True) if not u)
    threshold = ascending[int(np.ceil(0.95 * len(ascending))) - 1]
    passing = [d <= threshold for d, u in zip(apart, is_unknown, strict=True) if u]
    assert found["fpr95"] == pytest.approx(np.mean(passing))


def test_only_what_is_kept_is_read_again(circle) -> None:
    circle.ask(2, "kept")
    assert circle.told == [
        circle.trained[1].tolist(),
        np.flatnonzero(circle.split == "test").tolist(),
    ]
    circle.told.clear()
    circle.ask(2, "met")
    assert circle.told[0] == np.concatenate(circle.trained[:2]).tolist()


def test_undefined_is_none(circle) -> None:
    assert circle.ask(3) is None  # every class was met
    assert circle.ask(1, embeds=False) is None
    assert not circle.told  # nothing is embedded for nothing
    circle.points[:] = 1.0
    assert circle.ask(1) is None  # one point
    circle.points[:] = np.nan
    assert circle.ask(1) is None


def test_modes_and_gradients_are_left_as_they_were(circle) -> None:
    model = torch.nn.Dropout()
    told: Any = Told(model)
    unknown_metrics(told, circle.stream, circle.batches, circle.trained[:1], reference="met")
    assert model.training


def test_what_can_have_no_unknown_class_is_refused(circle) -> None:
    whole = circle.stream
    refuse_no_unknown(whole, "x")
    first = Experience("all", (0, 1, 2), np.flatnonzero(circle.split == "train"), NONE, whole.rows)
    manifest = whole.manifest
    at_once: Any = SimpleNamespace(
        manifest=manifest, experiences=(first,), online=None, classes_of=lambda rows: (0, 1, 2)
    )
    with pytest.raises(UserError, match="x=met: the first experience shows every class") as told:
        refuse_no_unknown(at_once, "x=met")
    assert "\n" not in str(told.value)
    at_once.online = Online(1, 5, (), (), NONE, 0, 0)
    refuse_no_unknown(at_once, "x=met")
    several: Any = SimpleNamespace(manifest=SimpleNamespace(multi_label=True, name="chords"))
    with pytest.raises(UserError, match="x=met: recordings of dataset 'chords' have several"):
        refuse_no_unknown(several, "x=met")
