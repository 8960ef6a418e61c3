"""Whole runs of MoRE as a continual learner: five modalities, both kinds of streams, resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import load_model
from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from multimodal.digests import read_tensors
from multimodal.errors import UserError
from tests.benchmarks.commands.bench.test_cwcl_modalities import DATASETS, RATES, SCENARIOS
from tests.benchmarks.commands.bench.test_cwcl_run import Stop
from tests.toy import toy_data

LORA = {
    "name": "lora",
    "base": {"name": "compact", "width": 8, "depth": 1, "heads": 2},
    "rank": 2,
}
TASKS = {"name": "class_incremental", "num_experiences": 2}
BLURRY = {"name": "si_blurry", "num_tasks": 2, "min_task_samples": 1, "eval_period": 10}
TEXT_LORA = {"lora": {"rank": 2}}


@pytest.fixture
def grid(text: dict[str, Any], tmp_path: Path) -> Any:
    def make(folder: str, *, scenario: Any, more: Any = None, own: Any = None, **fields: Any):
        learner = {"name": "more", "text": {**text, **(own or {})}, **fields}
        data = toy_data(
            encoder=LORA, learners=[learner], scenario=scenario, output_dir=str(tmp_path / folder)
        )
        return Cells(validate(RunConfig, {**data, **(more or {})}, source="test"))

    return make


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("modality", DATASETS)
def test_it_trains_on_every_modality_and_names_classes_to_come(grid, modality, scenario) -> None:
    if modality == "speech":
        pytest.importorskip("espeakng_loader", reason="needs the extra 'offline'")
    more = {
        "dataset": DATASETS[modality],
        "modality": {"name": modality, **RATES.get(modality, {})},
        "training": {"batch_size": 2, "threads": 1},
        "quick": True,
    }
    chosen = {"name": scenario, **SCENARIOS[scenario]}
    cells = grid("x", scenario=chosen, more=more, memory_size=4, memory_batch_size=4)
    result = cells.run_cell(0)
    key = "last_accuracy" if scenario == "class_incremental" else "a_auc"
    assert 0 <= result.metrics[key] <= 1
    assert 0 <= result.metrics["future_zero_shot_accuracy"] <= 1
    numbers = result.evaluation["parameters"]
    assert 0 < numbers["trained"] <= numbers["stored"] < 0.2 * numbers["total"]


WAYS: dict[str, dict[str, Any]] = {
    "shared, no memory": {"memory_size": 0},
    "shared, memory": {"memory_size": 6, "memory_batch_size": 4, "learn_temperature": True},
    "text too": {"memory_size": 6, "memory_batch_size": 4, "own": TEXT_LORA, "width": 8},
    "merged": {"adapter": "merged", "memory_size": 6, "memory_batch_size": 4},
    "merged, text too": {"adapter": "merged", "own": TEXT_LORA},
}


@pytest.mark.parametrize("labels", ["toy", pytest.param("toy_chords", marks=pytest.mark.slow)])
@pytest.mark.parametrize("scenario", [TASKS, BLURRY], ids=["tasks", "blurry"])
@pytest.mark.parametrize("way", WAYS)
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(grid, way, scenario, labels) -> None:
    options = {"scenario": scenario, "more": {"dataset": labels}, **WAYS[way]}
    if scenario is BLURRY and way.startswith("merged"):
        with pytest.raises(UserError, match=r"learner 'more': adapter=merged .* no experiences"):
            grid("whole", **options)
        return
    cells = grid("whole", **options)
    whole = cells.run_cell(0)
    cut = 7 if scenario is TASKS else 2  # of tasks: in the second one
    with pytest.raises(RuntimeError):
        grid("cut", **options).run_cell(0, Stop(cut))
    again = grid("cut", **options)
    assert again.run_cell(0).metrics == whole.metrics
    files = sorted((cells.cells[0].folder / "models").glob("*.safetensors"))
    assert len(files) == 2
    for file in files:
        weights, resumed = (
            read_tensors(cell.folder / "models" / file.name).tensors
            for cell in (cells.cells[0], again.cells[0])
        )
        assert weights.keys() == resumed.keys()
        assert all(torch.equal(t, resumed[n]) for n, t in weights.items())
        assert not any("encoder." in n and "lora_" not in n for n in weights if "merged" not in n)


def test_a_model_with_merged_adapters_names_new_recordings(grid) -> None:
    cells = grid("x", scenario=TASKS, adapter="merged")
    result, folder = cells.run_cell(0), cells.cells[0].folder
    weights = read_tensors(folder / "models" / "experience_02.safetensors").tensors
    assert {n.split(".")[1] for n in weights if n.startswith("merged.")} == {"0", "1"}
    stored = result.evaluation["parameters"]["stored"]
    assert stored == sum(t.numel() for t in weights.values())
    assert load_model(folder).class_names == ("tone_0", "tone_1", "tone_2", "tone_3")
