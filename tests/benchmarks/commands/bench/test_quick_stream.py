"""Quick online runs are evaluated a few times, and not taken for runs evaluated at other times."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.commands.bench import quick_stream
from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from multimodal.errors import UserError
from tests.toy import toy_data


def cells(folder: Any, *, quick: bool = True, **scenario: Any) -> Cells:
    learner = {"name": "er", "memory_size": 8, "memory_batch_size": 4}
    data = toy_data(
        quick=quick,
        output_dir=str(folder),
        learners=[learner],
        scenario={"name": "si_blurry", **scenario},
        training={"batch_size": 4},
    )
    return Cells(validate(RunConfig, data, source="toy"))


def test_a_quick_run_has_few_points_unless_a_period_was_asked_for(tmp_path) -> None:
    periods = []
    for made in (cells(tmp_path, quick=False), cells(tmp_path), cells(tmp_path, eval_period=3)):
        assert made.streams[0].online is not None
        periods.append(made.streams[0].online.eval_period)
    length = sum(len(e.train) for e in cells(tmp_path).streams[0].experiences)
    assert length == 32
    assert periods == [1, 7, 3]  # round(32 / 50) or more; ceil(32 / 5); as asked


def test_a_quick_run_evaluated_at_other_times_is_not_reused(tmp_path, monkeypatch) -> None:
    result = cells(tmp_path).run_cell(0)
    assert result.metrics["anytime"]["eval_period"] == 7
    assert len(result.metrics["anytime"]["periodic"]) == 4
    assert cells(tmp_path).done[0] is not None
    monkeypatch.setattr(quick_stream, "POINTS", 2)
    with pytest.raises(UserError, match=r"quick\.eval_period 7, now 16.*--fresh"):
        cells(tmp_path)
