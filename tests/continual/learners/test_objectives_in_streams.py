"""Every objective as that of learner cwcl: it trains, goes on from a checkpoint, or is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from continual.classifier import Classifier
from continual.learner import LEARNERS, LearnerContext
from continual.learners.cwcl import CwclLearner
from multimodal.batch import Batch
from multimodal.encoders.compact import CompactEncoder
from multimodal.errors import UserError
from multimodal.objectives import OBJECTIVES
from tests.continual.toy_stream import ToyData, info
from tests.multimodal.encoders.checkpoints import save_text_checkpoint

NAMES = ("dog", "rain", "bell", "heart")
# What a recording and its text are not enough for -> words of the error.
REFUSED = {
    "gram": "of two views",
    "compa_hard_negatives": "compares each case with",
    "compa_modular": "compares each case with",
    "clip_rocket": "trains heads of its own",
    "byolip": "trains heads of its own",
    "siamlip": "trains heads of its own",
    "swalip": "trains heads of its own",
}
LABELS = [{"name": name, "candidates": "labels"} for name in ("decoupled_softmax", "soft_top_k")]
TRAINED = [name for name in OBJECTIVES.names() if name not in REFUSED]
Make = Callable[..., CwclLearner]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder / "bert", "bert")
    return folder / "bert"


@pytest.fixture
def make(data: ToyData, checkpoint: Path) -> Make:
    def build(objective: Any, *, multi_label: bool = False) -> CwclLearner:
        torch.manual_seed(0)
        encoder = CompactEncoder(data.adapter.channels, width=16, depth=1, heads=2, dropout=0.0)
        model = Classifier(data.adapter.front_end(), encoder, 4, multi_label=multi_label)
        text = {"checkpoint": str(checkpoint), "max_length": 16}
        fields = {"name": "cwcl", "text": text, "width": 12, "memory_size": 4}
        config: Any = LEARNERS.parse({**fields, "objective": objective})
        return config.build(LearnerContext(model, seed=1, class_names=NAMES, modality="speech"))

    return build


def optimizer_of(learner: CwclLearner) -> torch.optim.Optimizer:
    trained = [p for p in learner.model.parameters() if p.requires_grad]
    return torch.optim.SGD(trained, lr=0.01)


def step(learner: CwclLearner, batch: Batch, optimizer: torch.optim.Optimizer) -> Tensor:
    """One step on ten recordings and the first two of them again, as a memory gives them back."""
    optimizer.zero_grad()
    loss = learner.loss(batch, batch.rows(0, 2))
    loss.value.backward()
    optimizer.step()
    assert all(term.isfinite() for term in loss.terms.values())
    assert loss.outputs is not None
    assert loss.outputs.shape == (len(batch), 4)
    return loss.value.detach()


def carried_over(state: dict[str, Any]) -> dict[str, Any]:
    """As a checkpoint gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def trains_and_goes_on(make: Callable[[], CwclLearner], batches: list[Batch], shown: Any) -> None:
    learner, other = make(), make()
    learner.begin_experience(shown)
    optimizer = optimizer_of(learner)
    before = {n: p.clone() for n, p in learner.model.named_parameters() if p.requires_grad}
    for batch in batches:
        assert step(learner, batch, optimizer).isfinite()
    moved = [n for n, p in before.items() if not torch.equal(p, learner.model.get_parameter(n))]
    assert any("encoder" in name for name in moved)
    other.begin_experience(shown)
    other.load_state_dict(carried_over(learner.state_dict()))
    for batch in reversed(batches):
        assert torch.equal(step(learner, batch, optimizer), step(other, batch, optimizer_of(other)))


@pytest.mark.parametrize("objective", [*TRAINED, *LABELS], ids=str)
def test_it_trains_two_steps_and_goes_on_as_if_nothing_had_been(make, data, stream, objective):
    rows = torch.as_tensor(stream.experiences[0].train)
    batches = [data.signals.gather(rows[i::2]) for i in range(2)]
    trains_and_goes_on(lambda: make(objective), batches, info(stream, 0, data))


@pytest.mark.parametrize("objective", [*TRAINED, *LABELS], ids=str)
def test_it_trains_on_several_labels_of_which_some_are_unknown(make, data, stream, objective):
    rows = torch.as_tensor(stream.experiences[0].train)
    random = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 2, (len(rows), 4), generator=random).float()
    targets[1, 0], targets[2] = torch.nan, 0
    whole = replace(data.signals.gather(rows), labels=targets)
    batches = [whole.rows(0, 8), whole.rows(4, 12)]
    trains_and_goes_on(lambda: make(objective, multi_label=True), batches, info(stream, 0, data))


@pytest.mark.parametrize("name", REFUSED)
def test_what_two_views_are_not_enough_for_is_refused_before_the_first_step(make, name) -> None:
    with pytest.raises(UserError, match=REFUSED[name]) as caught:
        make(name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_objective_is_one_or_the_other() -> None:
    assert set(REFUSED) < set(OBJECTIVES.names())


def test_temperatures_of_samples_are_those_of_manifest_rows(make, data, stream) -> None:
    learner = make("isogclr")
    learner.begin_experience(info(stream, 0, data))
    rows = torch.as_tensor(stream.experiences[0].train)[::2]
    step(learner, data.signals.gather(rows), optimizer_of(learner))
    (table,) = learner.state_dict()["tables"].values()
    assert table.isfinite().all(1).nonzero()[:, 0].tolist() == sorted(rows.tolist())
