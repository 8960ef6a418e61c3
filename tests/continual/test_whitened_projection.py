"""Whitened projections of text-aligned learners: what is counted, what reads it, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from continual.classifier import Classifier
from continual.classifier_learner import freeze_encoder
from continual.evaluation import Evaluator, predict, score_rows
from continual.learner import LEARNERS, LearnerContext
from continual.online import OnlineStrategy
from continual.scenarios import SCENARIOS
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.strategy import LearnerStrategy
from continual.text_aligned import TextAlignedConfig, TextAlignedLearner
from multimodal.encoders.compact import CompactEncoder
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from multimodal.recordings import Manifest
from multimodal.signals import SignalCache
from tests.continual.toy_stream import ToyData
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import shared, toy_chords, toy_manifest

WHITE, EPS = {"whiten": True, "eps": 0.02}, 0.02
NAMES = [n for n in LEARNERS.names() if issubclass(LEARNERS.config(n), TextAlignedConfig)]
STREAMS: dict[str, dict[str, Any]] = {
    "class_incremental": {"num_experiences": 2},
    "domain_incremental": {},
    "si_blurry": {"num_tasks": 2, "eval_period": 5},
}
MANIFESTS = {"one label": toy_manifest, "several labels": toy_chords}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder, "bert")
    return folder


@pytest.fixture(scope="module", params=MANIFESTS)
def data(request: pytest.FixtureRequest) -> ToyData:
    manifest, adapter = shared(MANIFESTS[request.param]()), SpeechConfig().build()
    return ToyData(manifest, adapter, SignalCache(manifest, adapter, progress=False))


def make(name: str, data: ToyData, text: Path, *, frozen: bool = True, **fields: Any) -> Any:
    torch.manual_seed(0)
    manifest: Manifest = data.manifest
    if manifest.multi_label and name == "compa":
        pytest.skip("scenes are composed of recordings of one label")
    encoder = CompactEncoder(data.adapter.channels, width=16, depth=1, heads=2, dropout=0.1)
    model = Classifier(
        data.adapter.front_end(),
        encoder,
        manifest.num_classes,
        multi_label=manifest.multi_label,
    )
    if frozen:
        freeze_encoder(model)
    tower = {"checkpoint": str(text), "max_length": 16}
    config: Any = LEARNERS.parse({"name": name, "text": tower, "head": WHITE, **fields})
    context = LearnerContext(
        model, seed=1, class_names=manifest.class_names, modality=manifest.modality
    )
    return config.build(context)


def embeddings(learner: TextAlignedLearner, data: ToyData, rows: np.ndarray) -> np.ndarray:
    """(N, D) of the frozen encoder, as nothing has touched them."""
    learner.model.eval()
    with torch.no_grad():
        return learner.model.tower.encode(data.signals.gather(torch.as_tensor(rows))).numpy()


def whitened(x: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """(x - m) (C + eps u I)^-1/2 by a singular value decomposition of the rows counted, float64."""
    middle = counted.mean(0)
    _, s, v = np.linalg.svd(counted - middle, full_matrices=True)
    variances = np.zeros(counted.shape[1])
    variances[: len(s)] = s**2 / len(counted)
    return (x - middle) @ v.T @ np.diag((variances + EPS * variances.mean()) ** -0.5) @ v


def train(learner: Any, data: ToyData, scenario: str, **hooks: Any) -> Any:
    config: Any = SCENARIOS.parse({"name": scenario, **STREAMS[scenario]})
    stream = config.build(data.manifest, 3)
    parts = {
        "learner": learner,
        "stream": stream,
        "gather": data.signals.gather,
        "optimizer": torch.optim.Adam(
            [p for p in learner.model.parameters() if p.requires_grad], lr=5e-3
        ),
        "seed": 1,
        "train_mb_size": 5,
        **hooks,
    }
    if stream.online is None:
        strategy: Any = LearnerStrategy(train_epochs=2, **parts)
    else:
        strategy = OnlineStrategy(iterations=3, **parts)
    for task in as_benchmark(stream, data.signals.gather).train_stream:
        strategy.train(task, eval_streams=[])
    return stream


@pytest.mark.parametrize("scenario", STREAMS)
@pytest.mark.parametrize("name", NAMES)
def test_every_recording_of_a_stream_counts_once(name, scenario, data, text) -> None:
    """Not its replays, its other steps and epochs, and not what it is tested on."""
    learner, counted = make(name, data, text, memory_size=6), []
    test = data.manifest.indices("test")

    def look(strategy: Any) -> None:
        predict(learner, strategy.batches(test))
        score_rows(learner, strategy.batches, test)
        counted.append(int(learner.model.tower.whitening.count))

    stream = train(learner, data, scenario, after_step=look)
    rows = np.concatenate([e.train for e in stream.experiences])
    white, x = learner.model.tower.whitening, embeddings(learner, data, rows).astype(np.float64)
    assert counted[0] == 5
    assert sorted(counted) == counted
    assert counted[-1] == len(rows) == len(set(rows.tolist()))
    np.testing.assert_allclose(white.mean, x.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        white.scatter / len(rows), np.cov(x.T, bias=True), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_projection_reads_what_numpy_whitens(name, data, text) -> None:
    """In training, in predictions, in scores of classes to come and in outputs for plug-ins."""
    learner, manifest = make(name, data, text, width=12), data.manifest
    rows, new = manifest.indices("train"), manifest.indices("test")
    learner.arrive(data.signals.gather(torch.as_tensor(rows)))
    batch = data.signals.gather(torch.as_tensor(new))
    learner.meet(batch.indices, batch.labels)
    x = whitened(*(embeddings(learner, data, r).astype(np.float64) for r in (new, rows)))
    weight = learner.model.tower.projection.weight.detach().double().numpy()
    expected = x @ weight.T
    views = learner.views(batch)
    np.testing.assert_allclose(views.embeddings["speech"].detach(), expected, atol=2e-3)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    with torch.no_grad():
        cosines = expected @ learner.model.class_vectors().double().numpy().T
        np.testing.assert_allclose(learner.score_all(batch), cosines, atol=1e-3)
        np.testing.assert_allclose(learner.outputs(views, len(batch)), cosines, atol=1e-3)
        np.testing.assert_allclose(learner.predict(batch).scores, cosines, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_zero_shot_of_classes_to_come_reads_whitened_embeddings(name, text) -> None:
    manifest, adapter = toy_manifest(), SpeechConfig().build()
    data = ToyData(manifest, adapter, SignalCache(manifest, adapter, progress=False))
    learner = make(name, data, text)
    config: Any = SCENARIOS.parse({"name": "class_incremental", "num_experiences": 2})
    stream = config.build(manifest, 0)
    first, second = stream.experiences
    learner.arrive(data.signals.gather(torch.as_tensor(first.train)))
    found = Evaluator(
        learner, stream, lambda rows: iter([data.signals.gather(torch.as_tensor(rows))])
    ).zero_shot(1)
    assert found is not None
    x = whitened(*(embeddings(learner, data, e) for e in (second.test, first.train)))
    joint = x @ learner.model.tower.projection.weight.detach().numpy().T
    classes = np.array(second.classes)
    vectors = learner.model.class_vectors()[classes].detach().numpy()
    right = classes[(joint @ vectors.T).argmax(1)] == manifest.labels[second.test]
    assert found["future"] == pytest.approx(right.mean())


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_has_the_transform_and_the_sums(name, data, text) -> None:
    learner = make(name, data, text)
    train(learner, data, "si_blurry")
    state, other = learner.state_dict(), make(name, data, text)
    other.load_state_dict(state)
    kept = other.model.tower.whitening.state_dict()
    assert set(kept) == {"count", "mean", "scatter", "used", "shift", "matrix"}
    for key, tensor in learner.model.tower.whitening.state_dict().items():
        assert torch.equal(kept[key], tensor), key
    batch = data.signals.gather(torch.as_tensor(data.manifest.indices("test")))
    for each in (learner, other):
        each.model.eval()
    assert torch.equal(learner.score_all(batch), other.score_all(batch))


@pytest.mark.parametrize("name", NAMES)
def test_a_trained_encoder_is_refused(name, data, text) -> None:
    with pytest.raises(UserError, match=r"head\.whiten: .*encoder\.train=none"):
        make(name, data, text, frozen=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_plain_projection_is_in_no_record_and_has_no_transform(name, data, text) -> None:
    plain, white = LEARNERS.parse(name), LEARNERS.parse({"name": name, "head": {"whiten": True}})
    assert "head" not in plain.dump()
    assert LEARNERS.parse({"name": name, "head": {"whiten": False}}) == plain
    assert white.dump()["head"] == {"whiten": True, "eps": 1e-2}
    assert "whitened" not in plain.row_name
    assert white.row_name == plain.row_name.replace(name, f"{name}, whitened", 1)
    with pytest.raises(ValidationError, match=r"eps=0\.1 is of whitening; set whiten: true"):
        LEARNERS.parse({"name": name, "head": {"eps": 0.1}})
    learner = make(name, data, text, head={"whiten": False})
    assert not [key for key in learner.weights() if "whitening" in key]
    batch = data.signals.gather(torch.as_tensor(data.manifest.indices("test")))
    x = embeddings(learner, data, data.manifest.indices("test"))
    learner.arrive(batch)
    found = learner.model.aligned.embed_signals(batch).detach()
    expected = x @ learner.model.tower.projection.weight.detach().numpy().T
    np.testing.assert_allclose(found, expected, atol=1e-5)
