"""A text-aligned learner that is held close to what it was: its term, its teacher, its state."""

from __future__ import annotations

import io
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from continual.classifier import Classifier
from continual.degla import DeglaConfig
from continual.learner import LEARNERS, LearnerContext
from continual.online import refuse_unfit
from multimodal.encoders.compact import CompactEncoder
from multimodal.encoders.lora import LoraEncoder
from multimodal.errors import UserError
from tests.continual.toy_stream import ToyData, info
from tests.multimodal.encoders.checkpoints import save_text_checkpoint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder / "bert", "bert")
    return folder / "bert"


@pytest.fixture
def make(data: ToyData, checkpoint: Path) -> Any:
    def build(name: str = "cwcl", *, lora: bool = False, degla: Any = None, **fields: Any) -> Any:
        torch.manual_seed(0)
        encoder: Any = CompactEncoder(data.adapter.channels, width=16, depth=1, heads=2, dropout=0)
        if lora:
            encoder = LoraEncoder(encoder, rank=2, dropout=0.0)
        model = Classifier(data.adapter.front_end(), encoder, 4)
        text = {"checkpoint": str(checkpoint), "max_length": 16, **fields.pop("text", {})}
        held = {} if degla is None else {"degla": degla}
        config: Any = LEARNERS.parse({"name": name, "text": text, **held, **fields})
        names = ("dog", "rain", "bell", "heart")
        context = LearnerContext(model, seed=1, class_names=names, modality="speech")
        return config.build(context)

    return build


def batch_of(data: ToyData, stream: Any, index: int = 0) -> Any:
    return data.signals.gather(torch.as_tensor(stream.experiences[index].train[::3]))


def step(learner: Any, batch: Any, rate: float = 0.05) -> Any:
    trained = [p for p in learner.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=rate)
    loss = learner.loss(batch, None)
    optimizer.zero_grad()
    loss.value.backward()
    optimizer.step()
    learner.after_step()
    return loss


def vectors(learner: Any, batch: Any, *, text: bool) -> np.ndarray:
    """(M, D) of length 1, in float64: what a learner's model makes of a batch."""
    with torch.no_grad():
        views = learner.views(batch)
    names = ("speech", "text") if text else ("speech",)
    made = np.concatenate([views.embeddings[n].double().numpy() for n in names])
    return made / np.linalg.norm(made, axis=1, keepdims=True)


CASES = {
    "signals": {},
    "projected texts": {"width": 12},
    "lora": {"name": "more", "lora": True, "text": {"lora": {"rank": 2, "dropout": 0.0}}},
    "scenes": {"name": "compa", "width": 12},
}


@pytest.mark.parametrize("fields", CASES.values(), ids=CASES)
def test_the_term_is_the_mean_squared_distance_to_what_it_was(make, data, stream, fields) -> None:
    learner, plain = make(degla={"decay": 1.0, "weight": 3.0}, **fields), make(**fields)
    batch, text = batch_of(data, stream), fields.get("name") == "more" or "width" in fields
    for each in (learner, plain):
        each.begin_experience(info(stream, 0, data))
    before = vectors(plain, batch, text=text)
    assert step(learner, batch).terms["distillation"] == pytest.approx(0, abs=1e-9)
    step(learner, batch)
    after = vectors(learner, batch, text=text)
    plain.load_weights(learner.weights())
    if hasattr(plain, "steps"):
        plain.steps = learner.steps
    loss, bare = learner.loss(batch, None), plain.loss(batch, None)
    wanted = ((after - before) ** 2).sum(1).mean()
    assert wanted > 1e-5
    assert loss.terms["distillation"].item() == pytest.approx(wanted, rel=1e-3)
    assert loss.value.item() == pytest.approx(bare.value.item() + 3 * wanted, rel=1e-4)
    loss.value.backward()
    assert all(p.grad is None for p in learner.teacher.model.parameters() if not p.requires_grad)
    frozen = {id(p) for p in learner.model.parameters() if not p.requires_grad}
    own = [p for p in learner.teacher.model.parameters() if id(p) not in frozen]
    trained = [p for p in learner.model.parameters() if p.requires_grad]
    assert len(own) == len(trained)  # the frozen rest is the student's own


def test_without_decay_nothing_is_held(make, data, stream) -> None:
    learner, plain = make(degla={"decay": 0.0}, width=12), make(width=12)
    batch = batch_of(data, stream)
    for each in (learner, plain):
        each.begin_experience(info(stream, 0, data))
        for _ in range(3):
            assert step(each, batch).value.isfinite()
    for mine, theirs in zip(learner.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-5)


def test_the_teacher_is_the_running_mean_from_the_start(make, data, stream) -> None:
    learner, batch = make(degla={"decay": 0.75}), batch_of(data, stream)
    rows, labels = batch.indices, batch.labels
    learner.meet(rows, labels)  # an online stream has no beginnings of experiences
    name = next(n for n, p in learner.model.named_parameters() if p.requires_grad)
    wanted = learner.model.get_parameter(name).detach().double().numpy().copy()
    for _ in range(3):
        learner.meet(rows, labels)
        step(learner, batch)
        wanted = 0.75 * wanted + 0.25 * learner.model.get_parameter(name).detach().numpy()
    found = learner.teacher.model.get_parameter(name).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("start", ["stream", "experience"])
def test_when_the_teacher_is_taken(make, data, stream, start) -> None:
    learner, batch = make(degla={"decay": 1.0, "start": start}), batch_of(data, stream)
    learner.begin_experience(info(stream, 0, data))
    step(learner, batch)
    learner.end_experience(info(stream, 0, data))
    learner.begin_experience(info(stream, 1, data))
    term = learner.loss(batch, None).terms["distillation"].item()
    assert (term < 1e-9) == (start == "experience")


@pytest.mark.parametrize("both", [{}, {"merge": {"power": 1.0}}], ids=["held", "merged too"])
@pytest.mark.parametrize("name", ["cwcl", "more", "compa"])
def test_it_goes_on_from_its_state(make, data, stream, name, both) -> None:
    fields = {"degla": {"decay": 0.9}, "width": 12, "lora": name == "more", **both}
    batches = [batch_of(data, stream, i) for i in (0, 1)]

    def rest(learner: Any) -> None:
        learner.end_experience(info(stream, 0, data))
        learner.begin_experience(info(stream, 1, data))
        for _ in range(2):
            step(learner, batches[1])
        learner.end_experience(info(stream, 1, data))

    learner = make(name, **fields)
    learner.begin_experience(info(stream, 0, data))
    for _ in range(2):
        step(learner, batches[0])
    file = io.BytesIO()
    torch.save(deepcopy(learner.state_dict()), file)
    file.seek(0)
    again = make(name, **fields)
    again.load_state_dict(torch.load(file, weights_only=True))
    rest(learner)
    rest(again)
    for mine, theirs in zip(learner.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    for mine, theirs in zip(
        learner.teacher.model.parameters(), again.teacher.model.parameters(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_what_does_not_fit_is_refused(make) -> None:
    with pytest.raises(ValueError, match="no earlier self"):
        LEARNERS.parse({"name": "cwcl", "degla": {}, "head": {"whiten": True}})
    with pytest.raises(ValueError, match="each experience has an adapter"):
        LEARNERS.parse({"name": "more", "degla": {}, "adapter": "merged"})
    with pytest.raises(UserError, match="where an experience begins"):
        refuse_unfit(make(degla={"start": "experience"}))
    refuse_unfit(make(degla=DeglaConfig().dump()))
    assert "degla" not in LEARNERS.parse("cwcl").dump()
