"""Which aligned models choose one class, and which ask of each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.commands.align.naming import names_each


@pytest.mark.parametrize(
    ("views", "evaluation", "metrics", "each"),
    [
        ({}, {"multi_label": True}, {}, True),
        ({}, {"multi_label": False}, {"zero_shot_top1": 0.5}, False),
        ({"ecg": 1}, {}, {}, True),  # of earlier versions, which did not note it
        ({}, {}, {"num_scored_classes": 5, "macro_auroc": 0.7}, True),
        ({}, {}, {"zero_shot_top1": 0.5}, False),
    ],
)
def test_a_run_over_several_labels_asks_of_each(views, evaluation, metrics, each: bool) -> None:
    run: Any = SimpleNamespace(config=SimpleNamespace(views=views))
    result: Any = SimpleNamespace(evaluation=evaluation, metrics=metrics)
    assert names_each(run, result) is each
