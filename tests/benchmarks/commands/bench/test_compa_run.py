"""Whole runs of the learner that composes scenes: five modalities, both kinds of streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from multimodal.digests import read_tensors
from multimodal.errors import UserError
from tests.benchmarks.commands.bench.test_cwcl_modalities import DATASETS, RATES, SCENARIOS
from tests.benchmarks.commands.bench.test_cwcl_run import Stop
from tests.toy import toy_data

TASKS = {"name": "class_incremental", "num_experiences": 4}


@pytest.fixture
def grid(text: dict[str, Any], tmp_path: Path) -> Any:
    def make(folder: str, *, own: Any = None, **more: Any) -> Cells:
        learner = {"name": "compa", "memory_size": 4, "memory_batch_size": 4, "text": text}
        data = toy_data(learners=[{**learner, **(own or {})}], output_dir=str(tmp_path / folder))
        return Cells(validate(RunConfig, {**data, **more}, source="test"))

    return make


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("modality", DATASETS)
def test_it_trains_on_every_modality(grid, modality, scenario) -> None:
    if modality == "speech":
        pytest.importorskip("espeakng_loader", reason="needs the extra 'offline'")
    result = grid(
        "x",
        scenario={"name": scenario, **SCENARIOS[scenario]},
        dataset=DATASETS[modality],
        modality={"name": modality, **RATES.get(modality, {})},
        encoder={"name": "compact", "width": 8, "depth": 1, "heads": 2},
        training={"batch_size": 4, "threads": 1},
        quick=True,
    ).run_cell(0)
    assert 0 <= result.metrics["future_zero_shot_accuracy"] <= 1


def scenes_of(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").open())
    return [line["metrics"]["scenes"] for line in lines if "scenes" in line["metrics"]]


@pytest.mark.parametrize("with_memory", [True, False])
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(grid, with_memory) -> None:
    options: dict[str, Any] = {"scenario": TASKS, "own": {"with_memory": with_memory}}
    options["training"] = {
        **{"epochs": 2, "batch_size": 4, "device": "cpu", "checkpoint_every": 1, "threads": 1},
        "log_every": 1,
    }
    cells = grid("whole", **options)
    whole = cells.run_cell(0)
    with pytest.raises(RuntimeError):
        grid("cut", **options).run_cell(0, Stop(10))  # in the third of four experiences
    again = grid("cut", **options)
    assert again.run_cell(0).metrics == whole.metrics
    first, second = cells.cells[0].folder, again.cells[0].folder
    for file in sorted((first / "models").glob("*.safetensors")):
        weights, resumed = (
            read_tensors(folder / "models" / file.name).tensors for folder in (first, second)
        )
        assert all(torch.equal(t, resumed[n]) for n, t in weights.items())
    # Of a class alone in its experience there is no scene without the memory.
    counts = scenes_of(first)
    assert max(counts) == (4 if with_memory else 0)


def test_what_it_cannot_compose_is_refused(grid) -> None:
    objective = {"name": "compa_hard_negatives", "negative_audio": 1}
    with pytest.raises(UserError, match="makes no negative signals"):
        grid("x", own={"objective": objective}).run_cell(0)


@pytest.mark.parametrize("objective", ["clip", "cwcl", "compa_hard_negatives"])
def test_other_objectives_train_on_scenes_too(grid, objective) -> None:
    own = {"objective": {"name": objective, "mask_duplicates": True}}
    result = grid("x", own=own, quick=True).run_cell(0)
    assert 0 <= result.metrics["last_accuracy"] <= 1
