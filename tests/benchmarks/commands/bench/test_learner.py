"""Frozen towers: batches come as cached embeddings, and nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from benchmarks.commands.bench import cells as cells_module
from benchmarks.commands.bench import stream_run as run_module
from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.epochs_run import EpochsRun
from benchmarks.commands.bench.learner import (
    Unread,
    batch_source,
    build_learner,
    build_optimizer,
)
from continual.classifier_learner import ClassifierLearner
from continual.learner import LEARNERS, LearnerConfig, LearnerContext
from continual.learners.cwcl import CwclLearner
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
    assert isinstance(source(made, 2), Unread)  # majority reads no signal


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


@pytest.mark.parametrize("learner", ["finetune", "replay", "mvp_r", "l2p", "dual_prompt"])
def test_biases_norms_prompts_and_keys_never_decay(tmp_path, learner: str) -> None:
    made = grid(tmp_path, "finetune")
    config = RunConfig.parse(toy_data(learners=[learner], output_dir=str(tmp_path)))
    model = build_learner(config, made.data, CPU).model
    groups = build_optimizer(model, config.training).param_groups
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in decayed}
    assert any(name.endswith("head.weight") for name in names)
    forbidden = ("bias", "norm", "prompts", "shared", "keys", "masks", "scale", "position")
    assert not [name for name in names if any(word in name for word in forbidden)]
    optimised = {id(p) for group in groups for p in group["params"]}
    assert optimised == {id(p) for p in model.parameters() if p.requires_grad}


def test_the_kind_of_every_learner_is_that_of_its_config(tmp_path) -> None:
    made, tried = grid(tmp_path, "finetune"), 0
    for name in LEARNERS.names():
        config = LEARNERS.config(name)
        assert issubclass(config, LearnerConfig)
        if name == "cwcl":  # needs a text encoder; its class is known
            assert config.kind == CwclLearner.kind == "online"
            continue
        cell = RunConfig.parse(toy_data(learners=[name], output_dir=str(tmp_path)))
        assert build_learner(cell, made.data, CPU).kind == config.kind, name
        tried += 1
    assert tried > 15


def test_a_learner_is_tried_once_whatever_its_seeds_and_kinds_need_no_model(
    tmp_path, monkeypatch
) -> None:
    built: list[str] = []

    def counting(config: RunConfig, *rest: object) -> object:
        built.append(config.learners[0].registered_name)
        return build_learner(config, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(cells_module, "build_learner", counting)
    made = grid(tmp_path, "finetune", "replay", "joint", seeds=[1, 2, 3])
    assert built == ["finetune", "replay", "joint"]
    assert {made._kind(number) for number in range(9)} == {EpochsRun}
    assert len(built) == 3


def test_a_learner_of_two_kinds_is_refused_before_anything_runs(tmp_path, monkeypatch) -> None:
    class Offline(ClassifierLearner):
        kind = "offline"

    class Old(ClassifierLearner):
        online = "no"  # as the contract once had it

    def register(name: str, made: type[ClassifierLearner]) -> None:
        class Config(LearnerConfig):
            def build(self, context: LearnerContext) -> ClassifierLearner:
                return made(context.model)

        Config.registered_name = name
        monkeypatch.setitem(LEARNERS._configs, name, Config)

    LEARNERS.names()
    register("two_kinds", Offline)
    register("old", Old)
    with pytest.raises(UserError, match="'two_kinds': its config is of kind 'online'"):
        grid(tmp_path, "two_kinds")
    with pytest.raises(UserError, match="'old': `online` is called `kind` now"):
        grid(tmp_path, "old")
