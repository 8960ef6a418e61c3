"""Learners on an encoder with LoRA: only the adapter is trained and kept, and resumed exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.learner import build_learner
from benchmarks.config.loading import validate
from benchmarks.runs.data import seed_everything
from continual.learner import LEARNERS
from multimodal.digests import read_tensors
from multimodal.errors import UserError
from multimodal.weights import frozen_digest
from tests.benchmarks.commands.bench.test_cwcl_run import Stop
from tests.toy import toy_data

BASE = {"name": "compact", "width": 16, "depth": 1, "heads": 2}
LORA = {"name": "lora", "base": BASE, "rank": 2}
TASKS = {"name": "class_incremental", "num_experiences": 2}
BLURRY = {"name": "si_blurry", "num_tasks": 2, "min_task_samples": 1, "eval_period": 10}
SMALL: dict[str, dict[str, Any]] = {"rm": {"memory_epochs": 1}, "rls": {"hidden": 20}}


def grid(folder: Path, learner: dict[str, Any], scenario: dict[str, Any], **changes: Any) -> Cells:
    data = toy_data(encoder=LORA, learners=[learner], scenario=scenario, output_dir=str(folder))
    return Cells(validate(RunConfig, {**data, **changes}, source="toy"))


def of_base(names: Any) -> list[str]:
    """What belongs to the encoder, but not to its adapter."""
    return [n for n in names if "encoder." in n and "lora_" not in n]


@pytest.mark.parametrize("scenario", [TASKS, BLURRY], ids=["tasks", "blurry"])
@pytest.mark.parametrize("name", ["er_ace", "lwf"])
def test_only_the_adapter_is_trained_and_kept_and_a_run_resumes_exactly(
    name, scenario, tmp_path
) -> None:
    learner = {"name": name}
    cells = grid(tmp_path / "whole", learner, scenario)
    whole, folder = cells.run_cell(0), cells.cells[0].folder
    with pytest.raises(RuntimeError):
        grid(tmp_path / "cut", learner, scenario).run_cell(0, Stop(3))
    again = grid(tmp_path / "cut", learner, scenario)
    assert again.run_cell(0).metrics == whole.metrics
    seed_everything(1)
    fresh = build_learner(cells.cells[0], cells.data, torch.device("cpu"))
    first = {name: t.clone() for name, t in fresh.weights().items()}
    weights: dict[str, Tensor] = {}
    for file in sorted((folder / "models").glob("*.safetensors")):
        weights, words, _ = read_tensors(file)
        assert not of_base(weights)
        assert words["frozen"] == frozen_digest(fresh.model)  # the base is what the seed made
        resumed = read_tensors(again.cells[0].folder / "models" / file.name).tensors
        assert all(torch.equal(t, resumed[n]) for n, t in weights.items())
    changed = {n for n, t in weights.items() if not torch.equal(t, first[n])}
    assert any("lora_B" in n for n in changed)
    checkpoint = torch.load(folder / "checkpoint" / "checkpoint.pt", weights_only=True)
    assert not of_base(checkpoint["learner"]["model"])
    assert not of_base(checkpoint["learner"].get("old", {}))
    sizes = sum(t.numel() for s in checkpoint["optimizer"]["state"].values() for t in s.values())
    trained = sum(p.numel() for p in fresh.model.parameters() if p.requires_grad)
    assert sizes <= 2 * trained + 8  # two moments, and the numbers of steps
    fresh.load_weights(weights)
    assert all(torch.equal(t, weights[n]) for n, t in fresh.weights().items())


@pytest.mark.parametrize("name", LEARNERS.names())
def test_every_learner_trains_on_it_or_says_why_not(name, text, tmp_path) -> None:
    """Prompt methods need tokens between the blocks, which an adapted encoder does not give."""
    own = {"text": text} if "text" in LEARNERS.config(name).model_fields else {}
    learner = {"name": name, **SMALL.get(name, {}), **own}
    training = {"epochs": 1, "batch_size": 8}
    if name in ("l2p", "dual_prompt", "mvp", "mvp_r"):
        with pytest.raises(UserError, match="which prompts need"):
            grid(tmp_path, learner, TASKS, training=training)
        return
    cells = grid(tmp_path, learner, TASKS, training=training)
    cells.run_cell(0)
    for file in (cells.cells[0].folder / "models").glob("*.safetensors"):
        assert not of_base(read_tensors(file).tensors)


@pytest.mark.parametrize("name", ["finetune", "joint"])
def test_the_base_is_not_trained_even_if_asked_for(name, tmp_path) -> None:
    with pytest.raises(UserError, match=r"train_encoder=true: .* its adapter is trained"):
        grid(tmp_path, {"name": name, "train_encoder": True}, TASKS)


def test_a_warm_up_trains_the_base_which_the_adapter_then_leaves_alone(tmp_path) -> None:
    warm_up = {"dataset": "toy", "epochs": 2}
    cells = grid(tmp_path, {"name": "er_ace"}, TASKS, warm_up=warm_up)
    cells.run_cell(0)
    assert cells.warm_up is not None
    warm = cells.warm_up.cells[0]
    assert warm.encoder.registered_name == "compact"
    (file,) = (warm.folder / "models").glob("*.safetensors")
    learned = read_tensors(file).tensors
    model = build_learner(cells.cells[0], cells.data, torch.device("cpu")).model
    state = {
        n.replace("encoder.peft.base_model.model.", "encoder.").replace(".base_layer.", "."): t
        for n, t in model.state_dict().items()
    }
    assert any(n.startswith("encoder.") for n in learned)
    for name, tensor in learned.items():
        if name.startswith("encoder."):
            assert torch.equal(state[name], tensor)
    own = read_tensors(next((cells.cells[0].folder / "models").glob("*.safetensors")))
    assert own.words["frozen"] == frozen_digest(model)


def test_a_checkpoint_with_its_base_is_still_taken_up(tmp_path) -> None:
    """Earlier versions kept the base too."""
    cells = grid(tmp_path, {"name": "er_ace"}, TASKS)
    learner = build_learner(cells.cells[0], cells.data, torch.device("cpu"))
    other = {name: t + 1.0 for name, t in learner.model.state_dict().items()}
    learner.load_weights({**other, "exposed": learner.model.state_dict()["exposed"]})
    assert torch.equal(learner.model.state_dict()["head.bias"], other["head.bias"])
    name = next(n for n in of_base(other) if n.endswith("weight"))
    assert torch.equal(learner.model.state_dict()[name], other[name])
