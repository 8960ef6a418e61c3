"""What an objective trains of its own: with the model, resumed exactly, and not in the model."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multimodal.batch import Batch
from multimodal.encoders.compact import CompactConfig
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from multimodal.models.align_task import AlignTask, Source
from multimodal.models.captions import Captions
from multimodal.models.refusals import refuse_own
from multimodal.models.towers import Reader, TextTowerConfig, Tower, build_aligned
from multimodal.objectives import OBJECTIVES
from multimodal.signals import SignalCache
from multimodal.training.config import FitConfig
from multimodal.training.fit import Fit
from multimodal.weights import trained_weights
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import toy_manifest

WORDS = ("heart", "a lung", "sound of dog", "bell", "a rain", "dogs", "a sound")
ROWS = np.array([0, 1, 2, 3, 12, 13, 14, 24])
EVERY = [
    {"name": "clip_rocket", "local_width": 8},
    {"name": "siamlip", "local_width": 8},
    {"name": "byolip", "local_width": 8},
    {"name": "swalip", "local_width": 8},
    {"name": "barlip", "local_views": 2, "local_width": 8},
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder, "bert")
    return folder


def task_of(checkpoint: Path, objective: Any, *, augment: bool = True, **text: Any) -> AlignTask:
    torch.manual_seed(0)
    adapter = SpeechConfig.parse({"augment": {"noise_db": 0.0}}).build()
    encoder = CompactConfig(width=16, depth=1, heads=2, dropout=0.0)
    reader = Reader(encoder.front_end(adapter), encoder.build(adapter))
    words = TextTowerConfig.parse({"checkpoint": str(checkpoint), "max_length": 16, **text})
    model = build_aligned({"speech": reader}, words, width=12)
    manifest = toy_manifest()
    captions = Captions([WORDS[i % 7] for i in range(len(manifest))], model, settings={})
    captions.ensure(ROWS)
    change = adapter.augment() if augment else None
    sources = {"speech": Source(SignalCache(manifest, adapter, progress=False), None, change)}
    chosen: Any = OBJECTIVES.parse(objective)
    return AlignTask(model, sources, captions, chosen)


def fit_of(task: AlignTask, after: Any = None, micro_batch: int | None = 2) -> Fit:
    config = FitConfig(
        epochs=1, batch_size=4, learning_rate=0.01, device="cpu", micro_batch=micro_batch
    )
    lengths = np.ones(len(ROWS), dtype=np.int64)
    return Fit(task, config, rows=ROWS, lengths=lengths, seed=3, after_step=after)


@pytest.mark.parametrize("objective", EVERY, ids=lambda o: o["name"])
def test_training_goes_on_exactly_with_its_heads(checkpoint, objective) -> None:
    saved: list[bytes] = []

    def keep(fit: Fit) -> None:
        file = io.BytesIO()
        torch.save({"fit": fit.state_dict(), "random": torch.get_rng_state()}, file)
        saved.append(file.getvalue())

    task = task_of(checkpoint, objective)
    before = {name: tensor.clone() for name, tensor in task.module.state_dict().items()}
    whole = fit_of(task, keep)
    whole.run()
    assert len(saved) == 2
    again = fit_of(task_of(checkpoint, objective))
    state = torch.load(io.BytesIO(saved[0]), weights_only=True)
    again.load_state_dict(state["fit"])
    torch.set_rng_state(state["random"])
    again.run()
    for name, tensor in trained_weights(whole.module).items():
        assert torch.equal(tensor, trained_weights(again.module)[name]), name
        if not name.endswith(("bias", "num_batches_tracked")):
            assert not torch.equal(tensor, before[name]), name
    torch.testing.assert_close(whole.loss, again.loss, rtol=0, atol=0)
    assert any(name.startswith("own.local.text") for name in state["fit"]["weights"])
    assert not any("own" in name for name in task.model.state_dict())  # that is what is exported


def gradients(task: AlignTask, micro_batch: int | None) -> dict[str, torch.Tensor]:
    """Of the last of two steps."""
    torch.manual_seed(1)
    fit = fit_of(task, micro_batch=micro_batch)
    fit.run()
    named = fit.module.named_parameters()
    return {name: p.grad for name, p in named if p.grad is not None}


@pytest.mark.parametrize("objective", EVERY, ids=lambda o: o["name"])
def test_gradients_reach_encoders_and_heads(checkpoint, objective) -> None:
    found = gradients(task_of(checkpoint, objective, train="all"), None)
    parts = ["model.signals.speech.encoder", "model.text.encoder", "own.local.text"]
    parts += ["model.signals.speech.projection", "own.local.speech", "own.log_scale"]
    parts += (
        ["own.projector.speech"] if objective["name"] in ("siamlip", "byolip", "barlip") else []
    )
    parts += ["own.predictor.text"] if objective["name"] in ("siamlip", "byolip") else []
    for part in parts:
        own = [g.abs().max() for name, g in found.items() if name.startswith(part)]
        assert own, part
        assert max(own) > 0, part


def test_features_are_of_the_recording_and_of_others(checkpoint) -> None:
    task = task_of(checkpoint, EVERY[0])
    batch = task.load(ROWS[:3])
    views = task.views(task.embed(batch), ROWS[:3])
    features, tower = views.features["speech"], task.model.signals["speech"]
    assert features.shape == (3, 3, 16)
    assert isinstance(tower, Tower)
    given = batch.parts["speech"].batch
    assert given is not None
    plain = tower.encode(given)
    torch.testing.assert_close(features[:, 0], plain)
    torch.testing.assert_close(views.embeddings["speech"], tower.projection(plain))
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (features[:, one] - features[:, other]).abs().amax(1).min() > 1e-4


def test_targets_are_of_a_mean_that_follows_the_encoders(checkpoint) -> None:
    task = task_of(checkpoint, {"name": "byolip", "decay": 0.75}, train="all")
    task.model.text.eval()  # without dropout

    def both() -> tuple[torch.Tensor, ...]:
        views = task.views(task.embed(task.load(ROWS[:3])), ROWS[:3])
        still = views.averaged
        return views.features["speech"], still["speech"], views.source, still["text"]

    seen, still, source, averaged = both()  # at first they are the encoders
    torch.testing.assert_close(seen, still)
    torch.testing.assert_close(source, averaged)
    assert source.requires_grad
    assert not still.requires_grad
    assert not averaged.requires_grad
    encoders = [task.model.text.encoder, task.model.signals["speech"].encoder]
    own = [p for e in encoders for p in e.parameters() if p.requires_grad]  # pyright: ignore
    before = [p.detach().clone() for p in own]
    with torch.no_grad():
        for p in own:
            p.add_(0.1 * torch.randn_like(p))
    changed = [p.detach().clone() for p in own]
    task.after_step()
    found = both()
    with torch.no_grad():
        for p, old, new in zip(own, before, changed, strict=True):
            p.copy_(0.75 * old + 0.25 * new)
    expected = both()
    torch.testing.assert_close(found[1][:, 0], expected[0][:, 0])
    torch.testing.assert_close(found[3], expected[2])
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_without_local_views_it_is_clip(checkpoint) -> None:
    tasks = [
        task_of(checkpoint, name, augment=False)
        for name in ("clip", {"name": "clip_rocket", "local_views": 0})
    ]
    assert all(task.module is task.model for task in tasks)
    found = [gradients(task, 2) for task in tasks]
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_what_does_not_fit_is_refused(checkpoint) -> None:
    with pytest.raises(UserError, match="'swalip' needs 2 augmented views of each signal, and spe"):
        task_of(checkpoint, "swalip", augment=False)
    with pytest.raises(
        UserError, match="'siamlip' trains heads of its own on augmented views, and"
    ):
        refuse_own(OBJECTIVES.parse("siamlip"), "learner 'cwcl'")  # pyright: ignore
    refuse_own(OBJECTIVES.parse("barlip"), "learner 'cwcl'")  # pyright: ignore
    task = task_of(checkpoint, "clip_rocket")
    views = task.views(task.embed(task.load(ROWS[:3])), ROWS[:3])
    with pytest.raises(ValueError, match=r"'clip_rocket': give Views\.features and Views\.own"):
        task.objective.of_views(replace(views, own=None), gather=False)


def test_the_batch_that_is_given_stays(checkpoint) -> None:
    task = task_of(checkpoint, "clip_rocket")
    batch = task.load(ROWS[:3])
    given = batch.parts["speech"].batch
    assert isinstance(given, Batch)
    before = given.inputs.clone()
    task.embed(batch)
    assert torch.equal(given.inputs, before)
