"""Whole runs of streams that bring one modality after another: every learner, exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.result import result_metrics
from benchmarks.config.loading import validate
from benchmarks.runs import machine, session
from continual.learner import LEARNERS
from multimodal.errors import UserError
from tests.benchmarks.commands.bench.test_cwcl_run import Stop
from tests.benchmarks.commands.bench.test_every_learner import SMALL

SIZES = {"num_classes": 4, "train_per_class": 3, "test_per_class": 2}
ORDERED = {"name": "modality_incremental", "order": ["xray", "ecg"]}
BLURRY = {"name": "si_blurry", "num_tasks": 2, "min_task_samples": 1, "eval_period": 10}
REFUSED = {
    "compa": "composes audio, speech, ecg, video, xray, not several",
    **dict.fromkeys(("dual_prompt", "l2p", "mvp", "mvp_r"), "no access to the tokens"),
}
MIXED = ("er", "cwcl", "majority")
SPOKEN = ("coconut", "seq2seq", "seq2seq_joint")


@pytest.fixture
def cells(text: dict[str, Any], tmp_path: Path, monkeypatch) -> Any:
    monkeypatch.setattr(session, "draw_pictures", lambda *_: [])
    monkeypatch.setattr(session, "write_html", lambda _, path: path)
    monkeypatch.setattr(machine, "git_commit", lambda: None)

    def make(learner: str, scenario: Any = ORDERED, place: str = "x", **changes: Any) -> Cells:
        own: dict[str, Any] = {"truncate": True} if learner in SPOKEN else {}
        if "text" in LEARNERS.config(learner).model_fields:
            own["text"] = text
        config = {
            "experiment": "several",
            "dataset": {
                "name": "several",
                "parts": [{"name": f"synthetic_{name}", **SIZES} for name in ("ecg", "xray")],
            },
            "modality": {"name": "several", "parts": [{"name": "ecg", "sample_rate": 100}, "xray"]},
            "encoder": {
                "name": "several",
                "default": {"name": "compact", "width": 8, "depth": 1, "heads": 2},
                "width": 8,
            },
            "scenario": scenario,
            "learners": [{"name": learner, **SMALL.get(learner, {}), **own}],
            "training": {"epochs": 1, "batch_size": 4, "threads": 1, "device": "cpu"},
            "tracking": {"store": "none"},
            "output_dir": str(tmp_path / place),
        }
        return Cells(validate(RunConfig, {**config, **changes}, source="test"))

    return make


# Mixed streams ask learners nothing that single ones do not: the others are tried by make slow.
EVERY = [
    pytest.param(
        name, scenario, key, marks=[pytest.mark.slow] * (key == "a_last" and name not in MIXED)
    )
    for scenario, key in ((ORDERED, "last_accuracy"), (BLURRY, "a_last"))
    for name in LEARNERS.names()
]


@pytest.mark.parametrize(("name", "scenario", "key"), EVERY)
def test_every_learner_runs_or_says_in_one_line_why_not(cells, name, scenario, key) -> None:
    words = REFUSED.get(name)
    if (
        words is None
        and scenario is BLURRY
        and getattr(LEARNERS.config(name), "kind", "") == "offline"
    ):
        words = "an online stream shows each of them once"
    if words is None:
        assert 0 <= cells(name, scenario).run_cell(0).metrics[key] <= 1
        return
    with pytest.raises(UserError, match=words) as told:
        cells(name, scenario).run_cell(0)
    assert len(str(told.value).splitlines()) == 1


def test_it_goes_on_exactly_and_tells_what_is_kept(cells) -> None:
    def hidden(place: str) -> Any:
        scenario = {"name": "modality_incremental", "held_out_classes": 2}
        return cells("cwcl", scenario, place)

    whole = hidden("whole").run_cell(0)
    with pytest.raises(RuntimeError):
        hidden("cut").run_cell(0, Stop(4))
    again = hidden("cut").run_cell(0)
    assert again.metrics == whole.metrics
    matrix = whole.metrics["held_out_zero_shot_matrix"]
    assert np.array(matrix).shape == (3, 2)
    means = [sum(row) / 2 for row in matrix]
    assert whole.metrics["held_out_zero_shot_by_experience"] == pytest.approx(means)
    assert whole.metrics["held_out_zero_shot_backward_transfer"] == pytest.approx(
        matrix[2][0] - matrix[1][0]
    )
    assert whole.metrics["held_out_zero_shot_forward_transfer"] == pytest.approx(
        matrix[1][1] - matrix[0][1]
    )
    assert np.array(whole.metrics["accuracy_matrix"]).shape == (2, 2)


def test_transfer_of_three_modalities(cells) -> None:
    stream = cells("majority").streams[0]
    rows = [[0.1, 0.2, 0.3], [0.5, 0.3, 0.4], [0.4, 0.6, 0.5], [0.2, 0.5, 0.9]]
    zero_shot = [
        {"future": None, "future_chance": None, "held_out": sum(row) / 3, "parts": row}
        for row in rows
    ]
    records = {
        "matrix": [[0.5, 0.0], [0.5, 0.5]],
        "baseline": None,
        "details": {},
        "validation": [None, None],
        "zero_shot": zero_shot,
    }
    found = result_metrics(records, stream)
    # Of the first two after their own experience and at the end; of the last two before theirs.
    assert found["held_out_zero_shot_backward_transfer"] == pytest.approx((-0.3 - 0.1) / 2)
    assert found["held_out_zero_shot_forward_transfer"] == pytest.approx((0.1 + 0.2) / 2)


def test_an_encoder_of_one_modality_is_refused(cells) -> None:
    with pytest.raises(UserError, match="is read by encoder several"):
        cells("finetune", encoder={"name": "compact"})
    with pytest.raises(UserError, match=r"set modality=\{name: several, parts: \[ecg, xray\]\}"):
        cells("finetune", modality={"name": "ecg", "sample_rate": 100}, encoder="compact")
    with pytest.raises(UserError, match=r"give that part as {name: ecg, sample_rate: 100}"):
        cells("finetune", modality={"name": "several", "parts": ["ecg", "xray"]})
