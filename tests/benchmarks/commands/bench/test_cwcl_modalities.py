"""CWCL on every modality, in streams of experiences and in Si-Blurry ones, on synthetic data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from tests.multimodal.encoders.checkpoints import save_text_checkpoint

SIZES = {"num_classes": 4, "train_per_class": 3, "test_per_class": 2}
DATASETS: dict[str, dict[str, Any]] = {
    "audio": {"name": "synthetic_audio", **SIZES},
    "ecg": {"name": "synthetic_ecg", **SIZES},
    "speech": {
        "name": "synthetic_speech",
        "num_intents": 4,
        "train_per_intent": 3,
        "test_per_intent": 2,
    },
    "video": {"name": "synthetic_video", **SIZES},
    "xray": {"name": "synthetic_xray", **SIZES},
}
RATES = {"audio": {"sample_rate": 16000}, "ecg": {"sample_rate": 100}}
SCENARIOS = {
    "class_incremental": {"num_experiences": 2},
    "si_blurry": {"num_tasks": 2, "eval_period": 1},
}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder, "bert")
    return folder


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("modality", DATASETS)
def test_it_trains_and_names_classes_to_come(
    text: Path, tmp_path: Path, modality: str, scenario: str
) -> None:
    if modality == "speech":
        pytest.importorskip("espeakng_loader", reason="needs the extra 'offline'")
    learner = {"name": "cwcl", "memory_size": 4, "memory_batch_size": 4}
    config = {
        "experiment": "cwcl",
        "dataset": DATASETS[modality],
        "modality": {"name": modality, **RATES.get(modality, {})},
        "encoder": {"name": "compact", "width": 8, "depth": 1, "heads": 2},
        "scenario": {"name": scenario, **SCENARIOS[scenario]},
        "learners": [{**learner, "text": {"checkpoint": str(text), "max_length": 16}}],
        "training": {"batch_size": 2, "threads": 1},
        "output_dir": str(tmp_path),
        "tracking": {"store": "none"},
        "quick": True,
    }
    result = Cells(validate(RunConfig, config, source="test")).run_cell(0)
    key = "last_accuracy" if scenario == "class_incremental" else "a_auc"
    assert 0 <= result.metrics[key] <= 1
    assert 0 <= result.metrics["future_zero_shot_accuracy"] <= 1
    assert result.metrics["future_zero_shot_chance"] >= 0.25
