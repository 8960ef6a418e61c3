"""Every objective of two views as that of learner cwcl, on speech, in both kinds of streams.

What a step does stands in tests/continual/learners/test_objectives_in_streams.py; this is whole
runs: synthesised commands, scenario, training, zero-shot scores, results.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from benchmarks.runs import machine, session
from tests.benchmarks.commands.bench.test_cwcl_modalities import DATASETS, SCENARIOS
from tests.continual.learners.test_objectives_in_streams import LABELS, TRAINED

FINAL = {"class_incremental": "last_accuracy", "si_blurry": "a_auc"}
MEMORY = {"name": "cwcl", "memory_size": 4, "memory_batch_size": 4}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_trains_from_the_first_class_to_the_last(
    text: dict[str, Any], tmp_path, monkeypatch, scenario: str
) -> None:
    pytest.importorskip("espeakng_loader", reason="needs the extra 'offline'")
    monkeypatch.setattr(session, "draw_pictures", lambda *_: [])
    monkeypatch.setattr(session, "write_html", lambda _, path: path)
    monkeypatch.setattr(machine, "git_commit", lambda: None)
    objectives = [*TRAINED, *LABELS]
    config = {
        "experiment": "objectives",
        "dataset": DATASETS["speech"],
        "modality": {"name": "speech"},
        "encoder": {"name": "compact", "width": 8, "depth": 1, "heads": 2},
        "scenario": {"name": scenario, **SCENARIOS[scenario]},
        "learners": [{**MEMORY, "text": text, "objective": own} for own in objectives],
        "training": {"batch_size": 3, "threads": 1, "device": "cpu", "learning_rate": 0.01},
        "output_dir": str(tmp_path),
        "tracking": {"store": "none"},
        "quick": True,
    }
    cells = Cells(validate(RunConfig, config, source="test"))
    found = {}
    for number, objective in enumerate(objectives):
        result = cells.run_cell(number)
        found[str(objective)] = [
            result.metrics[key] for key in (FINAL[scenario], "future_zero_shot_accuracy")
        ]
    assert len(found) == len(objectives)
    for objective, values in found.items():
        assert all(math.isfinite(x) and 0 <= x <= 1 for x in values), objective
