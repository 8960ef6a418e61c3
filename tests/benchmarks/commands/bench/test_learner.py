"""Frozen towers: batches come as cached embeddings, and nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from benchmarks.commands.bench import stream_run as run_module
from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.learner import batch_source, build_learner
from multimodal.encoders.cache import EmbeddingCache
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechAdapter
from multimodal.signals import SignalCache
from tests.toy import toy_data

CPU = torch.device("cpu")


def grid(tmp_path: Any, *learners: object, **changes: object) -> Cells:
    places = {"output_dir": str(tmp_path)}
    return Cells(RunConfig.parse(toy_data(learners=list(learners), **places, **changes)))


def source(made: Cells, number: int = 0) -> object:
    learner = build_learner(made.cells[number], made.data, CPU)
    return batch_source(made.cells[number], made.data, made.streams[number], learner, CPU)


def test_only_a_frozen_tower_is_cached(tmp_path) -> None:
    made = grid(tmp_path, "linear_probe", "finetune", "majority")
    assert isinstance(source(made, 0), EmbeddingCache)
    assert isinstance(source(made, 1), SignalCache)
    assert isinstance(source(made, 2), SignalCache)


def test_augmentation_turns_the_cache_off(tmp_path, monkeypatch) -> None:
    made = grid(tmp_path, "linear_probe")
    monkeypatch.setattr(SpeechAdapter, "augment", lambda self: torch.nn.Identity())
    assert isinstance(source(made), SignalCache)


def test_equal_towers_share_one_cache(tmp_path) -> None:
    made = grid(tmp_path, "linear_probe", {"name": "linear_probe", "epochs": 3})
    caches = []
    for number in (0, 1):
        run_module.seed_everything(1)
        caches.append(source(made, number))
    assert caches[0] is caches[1]


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_a_cached_run_learns_what_an_uncached_one_learns(cache, tmp_path, monkeypatch) -> None:
    cached = grid(tmp_path / "cached", "linear_probe", cache=cache).run_cell(0)
    monkeypatch.setattr(run_module, "batch_source", lambda config, data, *rest: data.signals)
    plain = grid(tmp_path / "plain", "linear_probe").run_cell(0)
    assert cached.metrics["accuracy_matrix"] == plain.metrics["accuracy_matrix"]
    written = list((tmp_path / "cached" / "cache").rglob("shard-*")) if cache == "disk" else [1]
    assert written


def test_readers_load_no_torch() -> None:
    code = "import sys; from multimodal.datasets import DATASETS; DATASETS.names(); " + (
        "print([m for m in ('torch', 'transformers', 'scipy', 'pandas') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout.strip() == "[]", answer.stderr


def test_signals_made_at_another_rate_are_refused(tmp_path) -> None:
    data = toy_data(dataset="synthetic_ecg", modality="ecg", output_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"set modality\.sample_rate=100"):
        Cells(RunConfig.parse(data))


def test_weights_that_two_modules_share_are_saved(tmp_path, monkeypatch) -> None:
    def tied(*parts: Any) -> Any:
        learner = build_learner(*parts)
        learner.model.twin = learner.model.head  # type: ignore[assignment]
        return learner

    made = grid(tmp_path, "finetune")
    monkeypatch.setattr(run_module, "build_learner", tied)
    assert made.run_cell(0).metrics["last_accuracy"] >= 0
    assert list(tmp_path.rglob("experience_02.safetensors"))
