"""A Stream as an Avalanche benchmark, for Avalanche's strategies, plugins and metrics.

There are two kinds of elements. For ``LearnerStrategy`` and ``OnlineStrategy`` an element of an
experience's dataset is ``[row, label, 0]`` with ``row`` the recording's place in the manifest; the
dataset's ``collate_fn`` turns a list of them into ``[Batch, labels, zeros]`` by one vectorised
gather, so a plugin that opens its own DataLoader costs no per-sample decoding. For Avalanche's own
strategies (``Naive``, ``Replay``, ...) ask for ``tensors=True``: ``[tensor, label, 0]``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np
import torch
from torch.utils.data import Dataset
from torch.utils.data._utils.collate import default_collate_fn_map

from continual.scenarios import Stream
from continual.scenarios.avalanche_tensors import Gather, TensorDataset
from multimodal.errors import UserError


class Row(int):
    """A place in the manifest, which no data loader may mistake for data."""


class RowDataset(Dataset):
    """Rows of a manifest with their labels as ``targets``."""

    def __init__(self, targets: list[int]) -> None:
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Row, int]:
        return Row(row), self.targets[row]


def as_benchmark(
    stream: Stream,
    gather: Gather,
    *,
    train_rows: Sequence[np.ndarray] | None = None,
    tensors: bool = False,
    length: int | None = None,
) -> Any:
    """Avalanche ``CLScenario`` with the streams ``train``, ``test`` and, if any, ``valid``.

    gather: manifest rows -> Batch (``SignalCache.gather``, ``EmbeddingCache.gather``). train_rows:
    manifest rows of each training experience, where a learner plans other ones than the stream's
    (joint and cumulative training).

    tensors: elements for Avalanche's own strategies and any ``nn.Module``: the canonical signal of
    the modality (or the embedding), all of one shape, so that every data loader can stack them;
    see ``avalanche_tensors`` for the padding, and for ``TensorTower``, which finds it again. All
    recordings are decoded at once, each of them once. length: steps of these signals (samples,
    frames); None: those of the longest recording.

    Every experience knows its class timeline (``classes_in_this_experience`` and so on); no task
    labels are given to the learner. The order of an online stream is kept by
    ``strategy.train(experience, shuffle=False)`` and ``train_epochs=1``.

    UserError: with ``tensors``, multi-label data; ``length`` without it, or where it means nothing.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no QP solver found")
        from avalanche.benchmarks import benchmark_from_datasets, with_classes_timeline
        from avalanche.benchmarks.utils.classification_dataset import (
            TaskAwareSupervisedClassificationDataset,
        )
        from avalanche.benchmarks.utils.data_attribute import DataAttribute

    if length is not None and not tensors:
        raise UserError(f"as_benchmark(length={length}): a length goes with tensors=True.")
    parts = {
        "train": train_rows or [e.train for e in stream.experiences],
        "test": [e.test for e in stream.experiences],
    }
    if all(len(e.validation) for e in stream.experiences):
        parts["valid"] = [e.validation for e in stream.experiences]
    targets: Any = stream.manifest.labels.tolist()
    base: Any = RowDataset(targets)
    if tensors:
        rows = np.concatenate([rows for part in parts.values() for rows in part])
        base = TensorDataset(stream.manifest, rows, gather, length=length)
    # Some plugins (LwF) and strategies (DER) ask for task labels even where there are none.
    attributes = [
        DataAttribute(targets, "targets"),
        DataAttribute([0] * len(targets), "targets_task_labels", True),  # pyright: ignore
    ]
    whole = TaskAwareSupervisedClassificationDataset([base], data_attributes=attributes)

    def subset(rows: np.ndarray) -> Any:
        dataset = whole.subset(rows.tolist())
        if not tensors:
            dataset.collate_fn = partial(collate, gather=gather)
        return dataset

    streams = {name: [subset(rows) for rows in part] for name, part in parts.items()}
    return with_classes_timeline(benchmark_from_datasets(**streams))


def collate(items: Sequence[Sequence[int]], gather: Gather) -> list[Any]:
    """``[(row, label, ...), ...] -> [Batch, labels (N,), zeros (N,)]``."""
    rows = torch.tensor([item[0] for item in items])
    batch = gather(rows)
    return [batch, batch.labels, torch.zeros(len(rows), dtype=torch.int64)]


def row_of(dataset: Any, index: int) -> int:
    """The manifest row of an element; UserError if these are no rows."""
    row = dataset[index][0]
    if not isinstance(row, Row):
        raise UserError(
            "the elements of this benchmark are no rows of a manifest, which LearnerStrategy and "
            "OnlineStrategy need: give them as_benchmark(stream, gather) without tensors."
        )
    return row


def _refuse_rows(items: Any, **kwargs: Any) -> NoReturn:
    raise UserError(
        "the elements of this benchmark are rows of a manifest, for LearnerStrategy and "
        "OnlineStrategy: give Avalanche's own strategies as_benchmark(..., tensors=True)."
    )


default_collate_fn_map[Row] = _refuse_rows
