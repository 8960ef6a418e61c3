"""A Stream as an Avalanche benchmark, for Avalanche's strategies, plugins and metrics.

An element of an experience's dataset is ``[row, label, 0]`` with ``row`` the recording's place in
the manifest; the dataset's ``collate_fn`` turns a list of them into ``[Batch, labels, zeros]`` by
one vectorised gather, so a plugin that opens its own DataLoader costs no per-sample decoding.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from continual.scenarios import Stream
from multimodal.batch import Batch

Gather = Callable[[Tensor], Batch]


class RowDataset(Dataset):
    """Rows of a manifest with their labels as ``targets``."""

    def __init__(self, targets: list[int]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[int, int]:
        return row, self.targets[row]


def as_benchmark(
    stream: Stream, gather: Gather, *, train_rows: Sequence[np.ndarray] | None = None
) -> Any:
    """Avalanche ``CLScenario`` with the streams ``train``, ``test`` and, if any, ``valid``.

    train_rows: manifest rows of each training experience, where a learner plans other ones than
    the stream's (joint and cumulative training).

    Every experience knows its class timeline (``classes_in_this_experience`` and so on); no task
    labels are given to the learner.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no QP solver found")
        from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
        from avalanche.benchmarks.utils.classification_dataset import (
            TaskAwareSupervisedClassificationDataset,
        )
        from avalanche.benchmarks.utils.data_attribute import DataAttribute

    targets: Any = stream.manifest.labels.tolist()
    # Some plugins (LwF) ask for task labels even where a benchmark gives none.
    attributes = [
        DataAttribute(targets, "targets"),
        DataAttribute([0] * len(targets), "targets_task_labels"),  # pyright: ignore
    ]
    whole = TaskAwareSupervisedClassificationDataset(
        [RowDataset(targets)], data_attributes=attributes
    )

    def part(rows: np.ndarray) -> Any:
        dataset = whole.subset(rows.tolist())
        dataset.collate_fn = lambda items: collate(items, gather)
        return dataset

    streams = {
        "train": [part(rows) for rows in train_rows or [e.train for e in stream.experiences]],
        "test": [part(e.test) for e in stream.experiences],
    }
    if all(len(e.validation) for e in stream.experiences):
        streams["valid"] = [part(e.validation) for e in stream.experiences]
    return with_classes_timeline(benchmark_from_datasets(**streams))


def collate(items: Sequence[Sequence[int]], gather: Gather) -> list[Any]:
    """``[(row, label, ...), ...] -> [Batch, labels (N,), zeros (N,)]``."""
    rows = torch.tensor([item[0] for item in items])
    batch = gather(rows)
    return [batch, batch.labels, torch.zeros(len(rows), dtype=torch.int64)]
