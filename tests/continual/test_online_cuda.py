"""Every online learner on a GPU learns what it learns on the processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from continual.classifier import Classifier
from continual.learner import LEARNERS, ExperienceInfo, Learner, LearnerContext
from multimodal.batch import Batch, Features
from multimodal.encoders.compact import CompactEncoder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

LEARN: list[dict[str, Any]] = [
    {"name": "finetune"},
    {"name": "linear_probe", "batch_class_mask": True},
    {"name": "er", "memory_size": 10},
    {"name": "er_ace", "memory_size": 10},
    {"name": "derpp", "memory_size": 10},
    {"name": "ewcpp", "memory_size": 10, "refresh": 16},
    {"name": "lwf", "teacher": 16},
    {"name": "rm", "memory_size": 10},
    {"name": "clib", "memory_size": 10},
    {"name": "l2p"},
    {"name": "dual_prompt"},
    {"name": "mvp"},
    {"name": "mvp_r", "memory_size": 10},
    {"name": "slda"},
    {"name": "rls", "hidden": 20},
]


class FrontEnd(nn.Module):
    def forward(self, batch: Batch) -> Features:
        return Features(batch.inputs, batch.lengths)


def data(rows: Tensor) -> Batch:
    generator = torch.Generator().manual_seed(7)
    labels = torch.randint(0, 4, (48,), generator=generator)
    inputs = torch.randn(48, 5, 24, generator=generator) + labels[:, None, None]
    return Batch(inputs[rows], torch.full((len(rows),), 24), labels[rows], rows)


def step(learner: Learner, optimizer: torch.optim.Optimizer, rows: Tensor, device: str) -> None:
    memory = learner.memory
    drawn = learner.draw() if memory is not None and len(memory) else rows[:0]
    both = data(torch.cat([rows, drawn])).to(device)
    batch, rest = both.split(len(rows)) if len(drawn) else (both, None)
    optimizer.zero_grad()
    learner.loss(batch, rest).value.backward()
    learner.after_backward()
    optimizer.step()
    learner.after_step()


def scores(fields: dict[str, Any], device: str) -> Tensor:
    torch.manual_seed(0)
    encoder = CompactEncoder(5, width=16, depth=2, heads=2)
    model = Classifier(FrontEnd(), encoder, 4).to(device)
    config: Any = LEARNERS.parse(fields)
    learner: Learner = config.build(LearnerContext(model, seed=1))
    learner.model.to(device).train()
    learner.read = lambda rows: data(rows).to(device)
    trained = [p for p in learner.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained or [torch.zeros(1)], lr=0.02)
    for rows in torch.arange(40).split(8):
        batch = data(rows).to(device)
        learner.meet(rows, batch.labels)
        if learner.trains:
            step(learner, optimizer, rows, device)
            step(learner, optimizer, rows, device)
        learner.observe(batch)
    labels = data(torch.arange(40)).labels.numpy()
    info = ExperienceInfo(0, 1, (), (), np.arange(40), labels, None, lambda: iter(()))
    if learner.uses_borders:
        learner.end_experience(info)
    learner.load_state_dict(learner.state_dict())
    learner.model.eval()
    with torch.no_grad():
        found = learner.predict(data(torch.arange(40, 48)).to(device)).scores
    assert found is not None
    return found.cpu()


@pytest.mark.parametrize("fields", LEARN, ids=lambda f: f["name"])
def test_gpu_equals_processor(fields: dict[str, Any]) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.testing.assert_close(scores(fields, "cuda"), scores(fields, "cpu"), rtol=2e-3, atol=2e-3)
