"""Whole runs of the learners with COCONUT's contrast: five modalities, both kinds of streams."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.reopen import reopen
from benchmarks.config.loading import validate
from multimodal.digests import read_tensors
from multimodal.errors import UserError
from tests.benchmarks.commands.bench.test_cwcl_modalities import DATASETS, RATES, SCENARIOS
from tests.benchmarks.commands.bench.test_cwcl_run import Stop
from tests.benchmarks.commands.bench.test_every_learner import DECODER
from tests.multimodal.models.test_whisper_decoder import save
from tests.toy import toy_data

TASKS = {"name": "class_incremental", "num_experiences": 4}
BLURRY = {"name": "si_blurry", "num_tasks": 3, "min_task_samples": 1, "eval_period": 10}


@pytest.fixture
def grid(text: dict[str, Any], tmp_path: Path) -> Any:
    def make(folder: str, name: str, *, own: Any = None, **more: Any) -> Cells:
        small = {"decoder": DECODER, "truncate": True} if name == "coconut" else {"text": text}
        memory = {"memory_size": 4, "memory_batch_size": 4}
        learner = {"name": name, **memory, **small, **(own or {})}
        data = toy_data(learners=[learner], output_dir=str(tmp_path / folder))
        return Cells(validate(RunConfig, {**data, **more}, source="test"))

    return make


# The second learner's streams without borders are tried on one modality every time.
EVERY = [
    pytest.param(
        name,
        modality,
        scenario,
        id=f"{name}-{modality}-{scenario}",
        marks=[pytest.mark.slow]
        if (name, scenario) == ("coconut_aligned", "si_blurry") and modality != "ecg"
        else [],
    )
    for name in ("coconut", "coconut_aligned")
    for modality in DATASETS
    for scenario in SCENARIOS
]


@pytest.mark.parametrize(("name", "modality", "scenario"), EVERY)
def test_it_trains_on_every_modality(grid, name, modality, scenario) -> None:
    if modality == "speech":
        pytest.importorskip("espeakng_loader", reason="needs the extra 'offline'")
    result = grid(
        "x",
        name,
        scenario={"name": scenario, **SCENARIOS[scenario]},
        dataset=DATASETS[modality],
        modality={"name": modality, **RATES.get(modality, {})},
        encoder={"name": "compact", "width": 8, "depth": 1, "heads": 2},
        training={"batch_size": 2, "threads": 1},
        quick=True,
    ).run_cell(0)
    key = "last_accuracy" if scenario == "class_incremental" else "a_auc"
    assert 0 <= result.metrics[key] <= 1
    if name == "coconut":
        assert 0 <= result.metrics["no_intent"] <= 1
    else:
        assert 0 <= result.metrics["future_zero_shot_accuracy"] <= 1


WAYS = {
    "coconut": {"audio_kd": 1.0, "sequence_kd": 1.0},
    "coconut_aligned": {"feature_kd": 1.0, "label_kd": 1.0},
}


@pytest.mark.parametrize(
    "scenario", [TASKS, pytest.param(BLURRY, marks=pytest.mark.slow)], ids=["tasks", "blurry"]
)
@pytest.mark.parametrize("name", WAYS)
def test_a_run_that_was_cut_off_ends_as_if_it_had_not_been(grid, name, scenario) -> None:
    options: dict[str, Any] = {"scenario": scenario}
    options["own"] = WAYS[name] if scenario is TASKS else {"policy": "reservoir"}
    options["training"] = {
        **{"epochs": 2, "batch_size": 4, "device": "cpu", "checkpoint_every": 1, "threads": 1}
    }
    cells = grid("whole", name, **options)
    whole = cells.run_cell(0)
    cut = 10 if scenario is TASKS else 6  # in the third of four experiences, of three tasks
    with pytest.raises(RuntimeError):
        grid("cut", name, **options).run_cell(0, Stop(cut))
    again = grid("cut", name, **options)
    assert again.run_cell(0).metrics == whole.metrics
    files = sorted((cells.cells[0].folder / "models").glob("*.safetensors"))
    assert files
    for file in files:
        weights, resumed = (
            read_tensors(cell.folder / "models" / file.name).tensors
            for cell in (cells.cells[0], again.cells[0])
        )
        assert weights.keys() == resumed.keys()
        assert all(torch.equal(t, resumed[n]) for n, t in weights.items())


def test_a_run_with_the_decoder_of_a_checkpoint_goes_on_and_is_opened_again(grid, tmp_path) -> None:
    place = save(tmp_path / "whisper")
    decoder = {"checkpoint": str(place), "longest": 8, "beam": 2}
    options: dict[str, Any] = {
        "scenario": TASKS,
        "own": {"decoder": decoder, "token_kd": 1.0},
        "training": {"batch_size": 4, "device": "cpu", "checkpoint_every": 1, "threads": 1},
    }
    whole = grid("whole", "coconut", **options).run_cell(0)
    with pytest.raises(RuntimeError):
        grid("cut", "coconut", **options).run_cell(0, Stop(6))
    again = grid("cut", "coconut", **options)
    assert again.run_cell(0).metrics == whole.metrics
    folder, device = again.cells[0].folder, torch.device("cpu")
    kept = read_tensors(sorted((folder / "models").glob("*.safetensors"))[-1]).tensors
    found = reopen(folder, device).learner.weights()
    assert all(torch.equal(found[name], tensor) for name, tensor in kept.items())
    for layers in (1, 3):
        shutil.rmtree(place)
        save(place, layers=layers)
        with pytest.raises(UserError, match=r"decoder\.layers\..* was saved as .* has changed"):
            reopen(folder, device)
