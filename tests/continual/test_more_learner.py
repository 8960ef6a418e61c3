"""MoRE as a continual learner: its loss, its text side, adapters that are merged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from continual.classifier import Classifier
from continual.learner import LEARNERS, LearnerContext
from continual.learners.more import MoreLearner
from continual.online import refuse_unfit
from continual.scenarios import Stream
from multimodal.encoders.adapters import lora_layers
from multimodal.encoders.compact import CompactEncoder
from multimodal.encoders.lora import LoraEncoder
from multimodal.errors import UserError
from multimodal.objectives.contrastive import info_nce, multi_positive
from multimodal.objectives.more import anchor_contrastive
from tests.continual.toy_stream import ToyData, info
from tests.multimodal.encoders.checkpoints import save_text_checkpoint

TEMPLATES = 'templates: ["{}", "a {}", "sound of {}"]\n'
NAMES = ("dog", "rain", "bell", "heart")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder / "bert", "bert")
    (folder / "templates.yaml").write_text(TEMPLATES)
    return folder


@pytest.fixture
def make(data: ToyData, files: Path) -> Any:
    def build(
        *, multi_label: bool = False, lora: bool = True, text: Any = None, **fields: Any
    ) -> MoreLearner:
        torch.manual_seed(0)
        encoder: Any = CompactEncoder(data.adapter.channels, width=16, depth=1, heads=2, dropout=0)
        if lora:
            encoder = LoraEncoder(encoder, rank=2, dropout=0.0)
        model = Classifier(data.adapter.front_end(), encoder, 4, multi_label=multi_label)
        tower = {"checkpoint": str(files / "bert"), "max_length": 16, **(text or {})}
        templates = str(files / "templates.yaml")
        config: Any = LEARNERS.parse(
            {"name": "more", "text": tower, "templates": templates, **fields}
        )
        context = LearnerContext(
            model,
            seed=1,
            class_names=NAMES,
            modality="speech",
            texts=tuple(f"a dog {r.label}" for r in data.manifest),
            groups=tuple(data.manifest.groups),
        )
        return config.build(context)

    return build


def batch_of(data: ToyData, stream: Stream, index: int, step: int = 3) -> Any:
    rows = stream.experiences[index].train[::step]
    return data.signals.gather(torch.as_tensor(rows))


def step(learner: MoreLearner, batch: Any, rate: float = 0.05) -> None:
    """One step of gradient descent."""
    trained = [p for p in learner.model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=rate)
    learner.loss(batch, None).value.backward()
    optimizer.step()
    optimizer.zero_grad()


TEXT_LORA = {"lora": {"rank": 2, "dropout": 0.0}}


@pytest.mark.parametrize("text", [None, TEXT_LORA], ids=["frozen", "lora"])
def test_the_loss_is_that_of_stream_and_memory_pairs(make, data, stream, text) -> None:
    learner = make(width=12, memory_size=4, text=text)
    learner.model.eval()
    learner.begin_experience(info(stream, 1, data))
    rows = np.concatenate([stream.experiences[i].train[::3] for i in (1, 0)])
    both = data.signals.gather(torch.as_tensor(rows))
    loss = learner.loss(both.rows(0, 6), both.rows(6, 12))
    aligned, templates = learner.model.aligned, ("{}", "a {}", "sound of {}")
    said = [
        templates[row % 3].format(NAMES[label])
        for row, label in zip(rows, both.labels.tolist(), strict=True)
    ]
    source = aligned.encode_texts(said)
    signals, texts = aligned.embed_signals(both), aligned.text.projection(source)
    numbers = torch.tensor([sorted(set(said)).index(text) for text in said])
    expected = multi_positive(texts, signals, numbers, torch.tensor(50.0)).value
    torch.testing.assert_close(loss.value, expected, atol=1e-5, rtol=1e-5)
    assert loss.terms["live_negatives"] == np.mean([12 - said.count(text) for text in said])
    assert loss.outputs is not None
    assert loss.outputs.shape == (6, 4)


def test_ways_with_false_negatives(make, data, stream) -> None:
    batch = batch_of(data, stream, 0, 1)
    kept = make(false_negatives="keep")
    kept.model.eval()
    views = kept.views(batch)
    x, t = views.embeddings["speech"], views.embeddings["text"]
    torch.testing.assert_close(
        kept.loss(batch, None).value, info_nce(t, x, torch.tensor(50.0)).value
    )
    masked = make(false_negatives="mask_group")
    masked.model.eval()
    names = data.manifest.groups[batch.indices.numpy()]
    groups = torch.tensor([sorted(set(names)).index(name) for name in names])
    expected = anchor_contrastive(
        {"t": t, "x": x}, torch.tensor(50.0), pairs=[("t", "x", 1.0)], groups=groups
    )
    assert len(set(names)) < len(names)
    torch.testing.assert_close(masked.loss(batch, None).value, expected.value)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("text", [TEXT_LORA, {"train": "all"}], ids=["lora", "all"])
def test_class_vectors_follow_a_text_encoder_that_is_trained(
    make, data, stream, text, multi_label
) -> None:
    """What the encoder said a step ago is out of date, in predictions and in training."""
    learner, batch = make(text=text, multi_label=multi_label), batch_of(data, stream, 0)
    if multi_label:
        batch = replace(batch, labels=torch.eye(4)[batch.labels])
    learner.meet(batch.indices, batch.labels)
    seen = []
    for _ in range(3):
        with torch.no_grad():
            learner.model.eval()
            vectors, aligned = learner.model.class_vectors(), learner.model.aligned
            for c, name in enumerate(NAMES):
                said = aligned.embed_texts([t.format(name) for t in ("{}", "a {}", "sound of {}")])
                expected = normalize(normalize(said, dim=1).mean(0), dim=0)
                torch.testing.assert_close(vectors[c], expected, atol=1e-5, rtol=0)
            scores = learner.predict(batch).scores
            exposed = learner.model.exposed
            near = learner.model.embed(batch) @ vectors.T
            torch.testing.assert_close(scores[:, exposed], near[:, exposed], atol=1e-5, rtol=0)
            if multi_label:
                none = normalize(aligned.embed_texts(["no labels"]), dim=1)[0]
                torch.testing.assert_close(learner.model.no_label(), none, atol=1e-5, rtol=0)
        seen.append(vectors)
        learner.model.train()
        step(learner, batch)
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_a_frozen_text_encoder_reads_a_prompt_once(make, data, stream, monkeypatch) -> None:
    learner, batch = make(), batch_of(data, stream, 0)
    learner.meet(batch.indices, batch.labels)
    monkeypatch.setattr(learner.model.aligned.text.encoder, "forward", None)
    step(learner, batch)
    learner.model.eval()
    assert learner.predict(batch).labels.shape == (len(batch),)


def test_what_is_trained_and_stored(make) -> None:
    trained = {
        what: {n for n, p in make(**fields).model.named_parameters() if p.requires_grad}
        for what, fields in {
            "lora": {},
            "scratch": {"lora": False},
            "text": {"text": TEXT_LORA},
            "temperature": {"learn_temperature": True},
        }.items()
    }
    assert {n.split(".")[-3] for n in trained["lora"] if "encoder" in n} == {"lora_A", "lora_B"}
    assert "aligned.signals.speech.projection.weight" in trained["lora"]
    assert len([n for n in trained["scratch"] if "encoder" in n]) > 8
    assert any("text.encoder" in n and "lora_A" in n for n in trained["text"])
    assert trained["temperature"] - trained["lora"] == {"aligned.log_scale"}
    learner = make()
    numbers = learner.parameters()
    assert numbers["trained"] == sum(
        p.numel() for p in learner.model.parameters() if p.requires_grad
    )
    assert numbers["trained"] < numbers["stored"] < 0.05 * numbers["total"]


# ---- merged adapters ------------------------------------------------------------------------


def live(learner: MoreLearner, data: ToyData, stream: Stream, count: int = 2) -> None:
    for index in range(count):
        told = info(stream, index, data)
        learner.begin_experience(told)
        learner.model.train()
        for _ in range(3):
            step(learner, batch_of(data, stream, index))
        learner.end_experience(told)


@pytest.mark.parametrize("text", [None, TEXT_LORA], ids=["signals", "text too"])
def test_an_adapter_goes_into_the_weights_at_the_end_of_its_experience(
    make, data, stream, text
) -> None:
    learner, batch = make(adapter="merged", text=text, width=12), batch_of(data, stream, 0)
    learner.begin_experience(info(stream, 0, data))
    before = learner.parameters()
    for _ in range(3):
        step(learner, batch)
    learner.model.eval()
    with torch.no_grad():
        scores = learner.score_all(batch)
        learner.end_experience(info(stream, 0, data))
        torch.testing.assert_close(learner.score_all(batch), scores, atol=1e-5, rtol=1e-4)
    state = learner.model.state_dict()
    layers = [n for n in state if "lora_B" in n]
    assert len(layers) == len(learner.layers) > 0
    assert not any(state[n].any() for n in layers)
    assert any(learner.past[0][n].any() for n in learner.past[0] if n.endswith(".B"))
    after = learner.parameters()
    assert after["trained"] == before["trained"]
    of_adapter = sum(t.numel() for t in learner.past[0].values())
    assert after["stored"] == before["stored"] + of_adapter


@pytest.mark.parametrize("memory", [0, 4])
def test_a_model_with_merged_adapters_comes_back_bit_for_bit(make, data, stream, memory) -> None:
    learner = make(adapter="merged", width=12, memory_size=memory)
    live(learner, data, stream)
    step(learner, batch_of(data, stream, 1))  # the third adapter is in use
    other = make(adapter="merged", width=12, memory_size=memory)
    other.load_state_dict(learner.state_dict())
    mine, theirs = (x.model.state_dict() for x in (learner, other))
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert len(other.past) == 2
    plain = make(adapter="shared", width=12, memory_size=memory)
    live(plain, data, stream)
    base = next(n for n in mine if n.endswith("base_layer.weight"))
    assert not torch.equal(plain.model.state_dict()[base], mine[base])


def test_merging_takes_an_adapter_and_the_end_of_an_experience(make) -> None:
    with pytest.raises(UserError, match=r"adapter=merged: no encoder has an adapter"):
        make(adapter="merged", lora=False)
    refuse_unfit(make(), "more")
    with pytest.raises(UserError, match=r"'more': adapter=merged merges .* no experiences"):
        refuse_unfit(make(adapter="merged"), "more")


def test_other_learners_still_refuse_a_text_encoder_that_is_trained(make) -> None:
    with pytest.raises(UserError, match=r"'cwcl' needs a frozen text encoder"):
        make(name="cwcl", text=TEXT_LORA)


def test_only_plain_adapters_are_merged() -> None:
    base: Any = CompactEncoder(4, width=16, depth=1, heads=2)
    layers = lora_layers(LoraEncoder(base, rank=2))
    assert layers
    other: Any = CompactEncoder(4, width=16, depth=1, heads=2)
    with pytest.raises(UserError, match=r"Dora.* is no plain LoRA"):
        lora_layers(LoraEncoder(other, rank=2, method="dora"))
