"""Evaluation reads signals of like length together: less padding, the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.online_run import OnlineRun
from continual.evaluation import predict, predict_rows
from multimodal.encoders.cache import EmbeddingCache
from tests.toy import toy_data

STREAM = {"name": "si_blurry", "num_tasks": 2, "online_iter": 1, "eval_period": 7}
ENCODER = {"name": "compact", "width": 16, "depth": 2, "heads": 2}


def online(tmp_path: Path, learner: Any) -> OnlineRun:
    changes = {"scenario": STREAM, "encoder": ENCODER, "learners": [learner]}
    grid = Cells(RunConfig.parse(toy_data(output_dir=str(tmp_path), **changes)))
    return OnlineRun(grid.cells[0], grid.data, grid.streams[0])


@pytest.mark.parametrize("name", ["er", "l2p", "dual_prompt", "mvp", "mvp_r"])
def test_signals_of_like_length_stand_together(name, tmp_path) -> None:
    run = online(tmp_path, name)
    run.learner.meet(torch.arange(4), torch.arange(4))
    rows = np.random.default_rng(0).permutation(run.stream.rows)
    longest = 1 + run.data.signals.lengths(rows).max() // 160  # frames of 40 bands
    padded = {
        batches: sum(b.inputs.numel() for b in batches(rows))
        for batches in (run.read_tests, run.strategy.batches)
    }
    assert padded[run.read_tests] < padded[run.strategy.batches] == len(rows) * longest * 40
    alike, plain = (
        predict_rows(run.learner, run.read_tests, rows),
        predict(run.learner, run.strategy.batches(rows)),
    )
    assert alike.scores is not None
    assert plain.scores is not None
    torch.testing.assert_close(alike.scores, plain.scores, atol=1e-5, rtol=0)
    assert torch.equal(alike.labels, plain.labels)


def test_cached_embeddings_are_read_in_order(tmp_path) -> None:
    run = online(tmp_path, "linear_probe")
    assert isinstance(run.source, EmbeddingCache)
    rows = run.stream.rows[::-1].copy()
    assert [b.indices.tolist() for b in run.read_tests(rows)] == [rows.tolist()]


def test_predictions_come_back_in_the_order_of_rows(tmp_path) -> None:
    run = online(tmp_path, "er")
    run.learner.meet(torch.arange(4), torch.arange(4))
    rows = np.array([9, 2, 2, 31, 0, 9])  # repeats too
    each = [predict(run.learner, run.strategy.batches(rows[[i]])).scores for i in range(len(rows))]
    scores = predict_rows(run.learner, run.read_tests, rows).scores
    assert scores is not None
    torch.testing.assert_close(scores, torch.cat([e for e in each if e is not None]))
