"""What our online loop is timed against: a bare PyTorch loop and Avalanche's own.

Each function sets everything up and returns the work to time, which takes one Adam step a batch of
``BATCH`` recordings. ``memory``: recordings in the reservoir, from which ``BATCH`` are drawn a
step; 0: none.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

BATCH, WIDTH, HIDDEN, CLASSES = 32, 32, 64, 10


@dataclass(frozen=True)
class InMemory:
    """A stream's recordings, as all loops read them.

    features: (recordings, WIDTH) float32. labels: (recordings,) int64 in [0, CLASSES). tasks: of
    each task, (n,) int64 rows in the order of the stream.
    """

    features: Tensor
    labels: Tensor
    tasks: list[Tensor]


def bare(data: InMemory, memory: int = 0) -> Callable[[], object]:
    """Plain PyTorch; with a memory, the usual reservoir item by item, and joint batches.

    The work trains a new model once on all of ``data``; the next call goes on with that model.
    """
    held: list[int] = []
    seen, random = 0, np.random.default_rng(0)

    def drawn(rows: Tensor) -> Tensor:
        chosen = torch.randperm(len(held))[:BATCH].tolist()
        items = torch.tensor([held[i] for i in chosen], dtype=torch.int64)
        return torch.cat([rows, items])

    def remember(rows: Tensor) -> None:
        nonlocal seen
        for row in rows.tolist():
            seen += 1
            if len(held) < memory:
                held.append(row)
            elif (slot := int(random.integers(seen))) < memory:
                held[slot] = row

    model, exposed = _mlp(), torch.zeros(CLASSES, dtype=torch.bool)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)

    def work() -> None:
        model.train()
        for task in data.tasks:
            for stream in task.split(BATCH):
                rows = drawn(stream) if memory else stream
                features, labels = data.features[rows], data.labels[rows]
                exposed[labels] = True
                logits = model(features).masked_fill(~exposed, float("-inf"))
                loss = cross_entropy(logits, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if memory:
                    remember(stream)

    return work


def avalanche(data: InMemory, memory: int = 0) -> Callable[[], object]:
    """Avalanche's online loop, one experience a batch; with a memory, its ``ReplayPlugin``."""
    from avalanche.benchmarks import benchmark_from_datasets, split_online_stream
    from avalanche.benchmarks.utils import as_classification_dataset
    from avalanche.training.plugins import ReplayPlugin
    from avalanche.training.supervised import Naive

    datasets = [
        as_classification_dataset(_Tensors(data.features[r], data.labels[r]))  # pyright: ignore
        for r in data.tasks
    ]
    tasks = benchmark_from_datasets(train=datasets).streams["train"]
    online = split_online_stream(tasks, experience_size=BATCH, shuffle=False)
    model = _mlp()
    strategy = Naive(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), 5e-3),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=BATCH,
        train_epochs=1,
        plugins=[ReplayPlugin(mem_size=memory)] if memory else [],
        evaluator=None,  # pyright: ignore[reportArgumentType]
    )

    def work() -> None:
        # Its deprecation warnings come in every step, whatever the filters say.
        with contextlib.redirect_stderr(io.StringIO()):
            for experience in online:
                strategy.train(experience, eval_streams=[])

    return work


def _mlp() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))


class _Tensors(torch.utils.data.TensorDataset):
    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        super().__init__(inputs, labels)
        self.targets = labels.tolist()
