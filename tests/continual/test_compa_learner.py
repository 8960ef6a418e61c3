"""The learner that composes scenes: what it says of them, against what the composer says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from continual.classifier import Classifier
from continual.learner import LEARNERS, LearnerContext
from continual.learners.compa import CompaLearner
from multimodal.encoders.compact import CompactEncoder
from multimodal.objectives.views import TEXT, Views
from tests.continual.toy_stream import ToyData, info
from tests.multimodal.encoders.checkpoints import save_text_checkpoint

NAMES = ("dog", "rain", "bell", "heart")
LABELS = [0, 1, 2, 3, 0, 1]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny text encoder and templates: 12 prompts of the four classes."""
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder / "bert", "bert")
    (folder / "templates.yaml").write_text('templates: ["{}", "a {}", "sound of {}"]\n')
    return folder


@pytest.fixture
def views(data: ToyData, files: Path, stream, monkeypatch) -> Any:
    """(learner, scenes' pairs, views) of one step on six recordings, the last two of the memory."""

    def step(**fields: Any) -> tuple[CompaLearner, Any, Views]:
        torch.manual_seed(0)
        encoder = CompactEncoder(data.adapter.channels, width=16, depth=1, heads=2, dropout=0.0)
        model = Classifier(data.adapter.front_end(), encoder, 4, multi_label=False)
        text = {"checkpoint": str(files / "bert"), "max_length": 16}
        templates = str(files / "templates.yaml")
        config: Any = LEARNERS.parse(
            {"name": "compa", "text": text, "templates": templates, **fields}
        )
        texts = tuple(f"recording {row:03d}" for row in range(len(data.manifest)))
        context = LearnerContext(model, seed=1, class_names=NAMES, modality="speech", texts=texts)
        learner = config.build(context)
        learner.begin_experience(info(stream, 0, data))
        labels = data.manifest.labels.tolist()
        taken, rows = set[int](), list[int]()
        for label in LABELS:
            rows.append(next(r for r, own in enumerate(labels) if own == label and r not in taken))
            taken.add(rows[-1])
        if learner.captions is not None:
            learner.captions.ensure(torch.tensor(rows).numpy())
        both = data.signals.gather(torch.tensor(rows))
        batch, memory = both.split(4)
        pairs, found = [], []
        monkeypatch.setattr(
            learner, "_pairs", lambda b, n, own=learner._pairs: pairs.append(own(b, n)) or pairs[0]
        )
        inner = learner.objective.of_views
        monkeypatch.setattr(
            type(learner.objective),
            "of_views",
            lambda self, v, *, gather: found.append(v) or inner(v, gather=gather),
        )
        assert learner.loss(batch, memory).value.isfinite()
        return learner, pairs[0], found[0]

    return step


@pytest.mark.parametrize("captions", ["labels", "text"])
def test_each_scene_goes_with_what_the_composer_says_of_it(views, captions) -> None:
    learner, pairs, found = views(captions=captions)
    aligned, words = learner.model.aligned, list(NAMES)
    for scene, (first, second, together) in enumerate(
        zip(*(p.tolist() for p in pairs), strict=True)
    ):
        assert LABELS[first] != LABELS[second]
        assert max(first, second) >= 4  # one is of the memory
        told = learner.composer.told(words[LABELS[first]], words[LABELS[second]], together=together)
        row = 6 + scene
        wanted = {"positives": told.positives, "negatives": told.negatives}
        torch.testing.assert_close(
            normalize(found.embeddings[TEXT][row], dim=0),
            normalize(aligned.embed_texts([told.main])[0], dim=0).to(torch.float32),
        )
        for name, texts in wanted.items():
            vectors, there = found.extras[name]
            assert there[row].tolist() == [i < len(texts) for i in range(there.shape[1])]
            right = normalize(aligned.embed_texts(list(texts)), dim=1).to(torch.float32)
            torch.testing.assert_close(normalize(vectors[row, : len(texts)], dim=1), right)
    assert not found.extras["negatives"].allowed[:6].any()


@pytest.mark.parametrize("captions", ["labels", "text"])
def test_only_equal_texts_are_equal(views, captions) -> None:
    """A number for each text: recordings and scenes that say other things have other ones."""
    learner, pairs, found = views(captions=captions)
    texts = [f"recording {i}" if captions == "text" else f"class {c}" for i, c in enumerate(LABELS)]
    for first, second, together in zip(*(p.tolist() for p in pairs), strict=True):
        a, b = LABELS[first], LABELS[second]
        texts.append(learner.composer.told(NAMES[a], NAMES[b], together=together).main)
    if captions == "labels":  # several prompts a class, in turn
        plain = found.ids[:6]
        assert not set(plain.tolist()) & set(found.ids[6:].tolist())
        found_ids, said = found.ids[6:].tolist(), texts[6:]
    else:
        found_ids, said = found.ids.tolist(), texts
    for i, one in enumerate(said):
        assert [x == found_ids[i] for x in found_ids] == [one == other for other in said]
