"""Fine-tuning a classifier: the losses against NumPy, unknown labels, and several processes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, nn

from multimodal.batch import Batch, Encoded, Features
from multimodal.models.classify_task import (
    ClassifyTask,
    LinearClassifier,
    known_cells_loss,
    positive_weights,
)
from multimodal.training.config import FitConfig
from multimodal.training.fit import Fit

COUNT, WIDTH, CLASSES = 23, 6, 3


class Plain(nn.Module):
    """(N, D) signals are features."""

    def forward(self, batch: Batch) -> Features:
        return Features(batch.inputs, batch.lengths)


class Linear(nn.Module):
    width = 4

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, self.width)

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        pooled = self.layer(features).tanh()
        return Encoded(pooled[:, None], torch.ones(len(pooled), 1, dtype=torch.bool), pooled)


@dataclass
class Signals:
    values: Tensor

    def gather(self, rows: np.ndarray) -> Batch:
        unused = torch.zeros(len(rows), dtype=torch.int64)
        return Batch(self.values[torch.from_numpy(rows)], unused + 1, unused, unused)


def task_of(*, multi_label: bool) -> ClassifyTask:
    torch.manual_seed(0)
    model = LinearClassifier(
        Plain(), Linear(), nn.Linear(Linear.width, CLASSES), multi_label=multi_label
    )
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=COUNT)
    weight = None
    if multi_label:
        labels = rng.integers(2, size=(COUNT, CLASSES)).astype(np.float32)
        labels[rng.random((COUNT, CLASSES)) < 0.4] = np.nan
        weight = positive_weights(labels)
    signals: Any = Signals(torch.randn(COUNT, WIDTH, generator=torch.Generator().manual_seed(1)))
    return ClassifyTask(model, signals, labels, pos_weight=weight)


def fit_of(task: ClassifyTask, **changes: Any) -> Fit:
    fields = {"epochs": 3, "batch_size": 6, "device": "cpu", "learning_rate": 0.05, **changes}
    rows = np.arange(COUNT)
    return Fit(task, FitConfig(**fields), rows=rows, lengths=1 + rows % 5, seed=1)


def weights(fit: Fit) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in fit.module.parameters()])


def test_the_loss_of_known_cells_is_its_formula() -> None:
    rng = np.random.default_rng(3)
    logits, weight = rng.normal(size=(5, 4)) * 3, np.array([1.0, 2.5, 0.5, 4.0])
    targets = rng.integers(2, size=(5, 4)).astype(np.float64)
    targets[[0, 2, 4], [1, 3, 0]] = np.nan
    p = 1 / (1 + np.exp(-logits))
    cells = -(weight * targets * np.log(p) + (1 - targets) * np.log(1 - p))
    wild = torch.from_numpy(np.where(np.isnan(targets), np.inf, logits)).requires_grad_()
    found = known_cells_loss(wild, torch.from_numpy(targets), torch.from_numpy(weight))
    assert float(found.detach()) == pytest.approx(np.nanmean(cells), rel=1e-12)
    found.backward()
    assert wild.grad is not None
    expected = np.where(targets == 1, -weight * (1 - p), p) / (~np.isnan(targets)).sum()
    np.testing.assert_allclose(wild.grad, np.where(np.isnan(targets), 0, expected), atol=1e-12)
    nothing = known_cells_loss(torch.zeros(2, 3), torch.full((2, 3), torch.nan))
    assert float(nothing) == 0


def test_positives_weigh_what_they_lack_in_number() -> None:
    nan = np.nan
    targets = np.array([[1, 0, 1, nan], [0, 0, 1, nan], [0, nan, 1, nan], [0, 1, nan, nan]])
    assert positive_weights(targets).tolist() == [3.0, 2.0, 1.0, 1.0]


@pytest.mark.parametrize("multi_label", [False, True])
def test_it_learns_and_parts_of_batches_change_nothing(multi_label: bool) -> None:
    fits = [fit_of(task_of(multi_label=multi_label), **c) for c in ({}, {"micro_batch": 2})]
    assert fits[0].steps_per_epoch == 4  # the last batch, of 5
    for fit in fits:
        fit.run()
    torch.testing.assert_close(weights(fits[0]), weights(fits[1]), rtol=1e-4, atol=1e-5)
    one = fit_of(task_of(multi_label=multi_label), batch_size=11)
    assert one.steps_per_epoch == 3  # the last batch is a single recording
    one.run()


def test_probabilities() -> None:
    for multi_label in (False, True):
        task = task_of(multi_label=multi_label)
        batch = task.load(np.arange(4))
        found = task.module.probabilities(batch)
        logits = task.module(batch).detach().double()
        expected = logits.sigmoid() if multi_label else logits.softmax(1)
        torch.testing.assert_close(found, expected)


def _process(rank: int, count: int, folder: str, multi_label: bool) -> None:
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29541",
        "ACCELERATE_USE_CPU": "true",
    }
    torch.set_num_threads(1)
    fit = fit_of(task_of(multi_label=multi_label), batch_size=6, epochs=2)
    fit.run()
    torch.save(weights(fit), Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("multi_label", [pytest.param(False, marks=pytest.mark.slow), True])
def test_two_processes_train_like_one(tmp_path: Path, multi_label: bool) -> None:
    """Also where the two know different numbers of labels of a batch."""
    arguments = (2, str(tmp_path), multi_label)
    multiprocessing.spawn(_process, args=arguments, nprocs=2)  # pyright: ignore
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.equal(found[0], found[1])
    alone = fit_of(task_of(multi_label=multi_label), batch_size=6, epochs=2)
    # Two processes leave the odd recording of the last batch out.
    alone.batches = type(alone.batches)(alone.batches.lengths, 6, 1, 2, 1)  # pyright: ignore
    alone.run()
    torch.testing.assert_close(found[0], weights(alone), rtol=1e-4, atol=1e-5)
