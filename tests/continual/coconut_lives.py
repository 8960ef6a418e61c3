"""Both learners with COCONUT's contrast, small, and lives of theirs in a stream of four tones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from continual.classifier import Classifier
from continual.classifier_learner import freeze_encoder
from continual.learner import LEARNERS, LearnerContext
from continual.scenarios import SCENARIOS, Stream
from multimodal.batch import Batch
from multimodal.encoders.compact import CompactEncoder
from multimodal.encoders.lora import LoraEncoder
from tests.continual.toy_stream import ToyData, info

NAMES = ("dog", "rain", "bell", "heart")
TEMPLATES = 'templates: ["{}", "a {}", "sound of {}"]\n'
DECODER = {
    **{"layers": 1, "heads": 2, "width": 16, "feed_forward": 16, "merges": 8, "longest": 24},
    **{"beam": 2, "projection": 8, "dropout": 0.0},
}
NEW, OLD = 6, 4  # recordings of a step


def build(
    data: ToyData, files: Path, name: str, *, encoder: str = "all", several: bool = False, **own
) -> Any:
    """files: a tiny text encoder and a file of templates. encoder: all, none or lora."""
    torch.manual_seed(0)
    body: Any = CompactEncoder(data.adapter.channels, width=16, depth=1, heads=2, dropout=0.1)
    if encoder == "lora":
        body = LoraEncoder(body, rank=2, dropout=0.0)
    model = Classifier(data.adapter.front_end(), body, 4, multi_label=several)
    if encoder == "none":
        freeze_encoder(model)
    if name == "coconut":
        small: dict[str, Any] = {"decoder": {**DECODER, **own.pop("decoder", {})}}
    else:
        text = {"checkpoint": str(files / "bert"), "max_length": 16, **own.pop("text", {})}
        small = {"text": text, "templates": str(files / "templates.yaml"), "width": 12}
    given = {"name": name, "memory_size": 6, "memory_batch_size": OLD, **small, **own}
    config: Any = LEARNERS.parse(given)
    context = LearnerContext(
        model,
        seed=1,
        class_names=NAMES,
        modality="speech",
        texts=tuple(f"go to {r.label} at {i % 3}" for i, r in enumerate(data.manifest)),
    )
    return config.build(context)


def one_by_one(data: ToyData) -> Stream:
    config: Any = SCENARIOS.parse({"name": "class_incremental", "num_experiences": 4})
    return config.build(data.manifest, 0)


class Life:
    """A learner's steps on a stream, as its strategy takes them; chance depends on the step."""

    def __init__(self, learner: Any, data: ToyData, stream: Stream, *, several: bool = False):
        self.learner, self.data, self.stream, self.several = learner, data, stream, several
        trained = [p for p in learner.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=1e-2)
        self.terms: list[dict[str, Tensor]] = []
        self.learner.read = self.gather

    def gather(self, rows: Tensor) -> Batch:
        batch = self.data.signals.gather(rows)
        if self.several:  # every other recording has the class after its own, too
            targets = torch.eye(4)[batch.labels]
            targets[torch.arange(len(rows)), (batch.labels + 1) % 4] = (batch.indices % 2).float()
            batch = replace(batch, labels=targets)
        return batch

    def parts(self, index: int, step: int) -> tuple[Batch, Batch | None]:
        order = torch.randperm(len(self.stream.experiences[index].train))[:NEW]
        rows = torch.as_tensor(self.stream.experiences[index].train)[order]
        if self.learner.memory is None or not len(self.learner.memory):
            return self.gather(rows), None
        return self.gather(torch.cat([rows, self.learner.draw()])).split(NEW)

    def steps(self, index: int, first: int, last: int, *, online: bool = False) -> None:
        learner = self.learner
        learner.model.train()
        for step in range(first, last):
            torch.manual_seed(100 * index + step)
            rows = torch.as_tensor(self.stream.experiences[index].train)
            if online:
                learner.meet(rows, self.gather(rows).labels)
            batch, memory = self.parts(index, step)
            learner.arrive(batch)
            loss = learner.loss(batch, memory)
            self.terms.append(loss.terms)
            self.optimizer.zero_grad()
            loss.value.backward()
            self.optimizer.step()
            learner.after_step()
            learner.observe(batch)

    def experience(self, index: int, first: int = 0, last: int = 3) -> None:
        """Whole with first 0; else what is left of it."""
        told = self.info(index)
        if first == 0:
            self.learner.begin_experience(told)
        self.steps(index, first, last)
        self.learner.end_experience(told)

    def info(self, index: int) -> Any:
        told = info(self.stream, index, self.data)
        rows = torch.as_tensor(told.rows)
        return replace(told, batches=lambda: iter([self.gather(rows)]))

    def go_on(self, earlier: Life, file: Path) -> None:
        """From what a file keeps of another life."""
        found = {"learner": earlier.learner.state_dict(), "adam": earlier.optimizer.state_dict()}
        torch.save(found, file)
        found = torch.load(file, weights_only=True)
        self.learner.load_state_dict(found["learner"])
        self.optimizer.load_state_dict(found["adam"])
