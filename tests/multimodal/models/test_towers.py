"""Towers, aligned models and their files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn.functional import normalize

from multimodal.encoders.cache import EmbeddingCache
from multimodal.encoders.compact import CompactConfig
from multimodal.errors import UserError
from multimodal.modalities.speech import SpeechConfig
from multimodal.models.align_task import AlignTask, Source
from multimodal.models.captions import Captions
from multimodal.models.towers import Aligned, Reader, TextTowerConfig, build_aligned
from multimodal.objectives import OBJECTIVES
from multimodal.objectives.contrastive import siglip
from multimodal.objectives.cwcl import cwcl
from multimodal.objectives.pairs import Pairs
from multimodal.signals import SignalCache
from multimodal.weights import load_weights, save_weights
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import toy_manifest

TEXTS = ["a dog", "rain", "a bell of a dog", "", "heart sound"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder, "bert")
    return folder


@pytest.fixture
def make(checkpoint: Path) -> Any:
    def build(*, train: Any = "none", seed: int = 0, **changes: Any) -> Aligned:
        torch.manual_seed(seed)
        adapter, encoder = SpeechConfig().build(), CompactConfig(width=16, depth=1, heads=2)
        reader = Reader(encoder.front_end(adapter), encoder.build(adapter))
        return build_aligned(
            {"speech": reader},
            TextTowerConfig(checkpoint=str(checkpoint), max_length=16, train=train),
            **changes,
        )

    return build


@pytest.fixture
def signals() -> SignalCache:
    return SignalCache(toy_manifest(), SpeechConfig().build())


@pytest.mark.parametrize("projection", ["linear", "batch", "layer"])
def test_texts_do_not_depend_on_their_company(make, projection) -> None:
    """Nor do they change what a batch norm has counted, in the midst of training."""
    how = {"width": 12, "projection": projection}
    model = make(**how).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    together = model.embed_texts(TEXTS)
    assert together.shape == (5, 12)
    for text, vector in zip(TEXTS, together, strict=True):
        torch.testing.assert_close(make(**how).embed_texts([text])[0], vector, atol=1e-5, rtol=0)
    assert torch.equal(model.embed_texts(TEXTS[::-1]), together.flip(0))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert model.text.projection.training


def test_signals_do_not_depend_on_batch_size_or_padding(make, signals) -> None:
    model = make().eval()
    with torch.no_grad():
        together = model.embed_signals(signals.gather(range(10)))
        alone = torch.cat([model.embed_signals(signals.gather([i]), "speech") for i in range(10)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_a_frozen_text_tower_has_no_gradient_and_stays_in_evaluation_mode(make) -> None:
    model = make().train()
    assert model.text.frozen
    assert not model.text.encoder.model.training
    assert model.signals["speech"].training
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith("text.") for name in trained)
    assert "log_scale" in trained
    assert not make(train="all").text.frozen


def test_scale_is_clamped(make) -> None:
    model = make(scale=14.0)
    assert model.scale.item() == pytest.approx(14.0)
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    model.clamp_scale()
    assert model.scale.item() == pytest.approx(100.0)
    with torch.no_grad():
        model.log_scale.fill_(-3.0)
    model.clamp_scale()
    assert model.scale.item() == pytest.approx(1.0)
    assert make(bias=-10.0).bias.requires_grad
    assert not make().bias.requires_grad


def test_a_scale_may_be_fixed_or_capped(make) -> None:
    fixed = make(scale=5.0, learn_scale=False)
    fixed.clamp_scale()
    assert fixed.scale.item() == pytest.approx(5.0)
    assert not fixed.log_scale.requires_grad
    capped = make(scale=14.0, max_scale=20.0)
    with torch.no_grad():
        capped.log_scale.fill_(9.0)
    capped.clamp_scale()
    assert capped.scale.item() == pytest.approx(20.0)


class TestFiles:
    def test_weights_come_back_without_the_frozen_ones(self, make, signals, tmp_path) -> None:
        path, model = tmp_path / "model.safetensors", make(width=12, seed=1).eval()
        save_weights(model, path)
        assert path.stat().st_size < sum(p.numel() for p in model.text.encoder.parameters()) * 4
        other = make(width=12, seed=2).eval()
        load_weights(other, path)
        batch = signals.gather(range(4))
        with torch.no_grad():
            assert torch.equal(model.embed_signals(batch), other.embed_signals(batch))
        assert torch.equal(model.embed_texts(TEXTS), other.embed_texts(TEXTS))

    def test_what_does_not_fit_is_refused(self, make, tmp_path) -> None:
        path = tmp_path / "model.safetensors"
        with pytest.raises(UserError, match="cannot be read"):
            load_weights(make(), path)
        save_weights(make(width=12), path)
        with pytest.raises(UserError, match=r"does not fit .*projection"):
            load_weights(make(width=20), path)
        with pytest.raises(UserError, match="does not fit"):
            load_weights(make(), path)
        other = make(width=12)
        with torch.no_grad():
            next(other.text.encoder.parameters()).add_(1)
        with pytest.raises(UserError, match="other frozen weights"):
            load_weights(other, path)


class TestTask:
    def captions(self, model: Aligned, texts: list[str], **kw: Any) -> Captions:
        return Captions(texts, model, settings={}, **kw)

    def task(self, model: Aligned, signals: SignalCache, name: str, **settings: Any) -> AlignTask:
        texts = [TEXTS[i % 3] for i in range(len(signals.manifest))]
        objective: Any = OBJECTIVES.parse({"name": name, **settings})
        sources = {"speech": Source(signals)}
        return AlignTask(model, sources, self.captions(model, texts), objective)

    def test_embeds_and_compares_the_pairs_of_the_rows(self, make, signals) -> None:
        model = make(width=12)
        task, rows = self.task(model, signals, "cwcl"), np.array([5, 0, 9])
        signal, text, source = task.embed(task.load(rows))
        expected = model.embed_texts([TEXTS[i % 3] for i in rows])
        torch.testing.assert_close(text.detach(), expected, atol=1e-5, rtol=0)
        assert text.requires_grad
        assert not source.requires_grad
        loss = task.loss((signal, text, source), rows)
        whole = cwcl(signal, text, model.scale, similarity_source=source)
        torch.testing.assert_close(loss.value, whole.value)

    def test_equal_models_encode_a_text_once(self, make, monkeypatch) -> None:
        first, second, known, texts = make(), make(seed=2), {}, ["rain", "a dog", "rain"]
        encoded: dict[str, Any] = {}
        rows, own = np.arange(3), []
        for model in (first, second):
            model.share_encoded(encoded)
            captions = self.captions(model, texts, known=known)
            own.append((captions.gather(rows).embeddings, model.encode_texts(TEXTS)))
            for tower in (first.text, second.text):
                monkeypatch.setattr(tower.encoder, "forward", None)  # from now on unusable
        assert all(torch.equal(a, b) for a, b in zip(*own, strict=True))
        assert len(known) == 1
        self.captions(second, [*texts, "snow"], known=known)
        assert len(known) == 2

    def test_captions_of_a_frozen_tower_are_the_same_with_and_without_a_folder(
        self, make, tmp_path
    ) -> None:
        model, texts = make(), ["rain", "a dog", "rain"]
        kept = self.captions(model, texts, folder=tmp_path)
        rows = np.array([0, 1, 2])
        plain = self.captions(model, texts).gather(rows).embeddings
        assert isinstance(kept._source, EmbeddingCache)
        assert kept.unique == ("a dog", "rain")
        assert kept.of_row.tolist() == [1, 0, 1]
        assert torch.equal(kept.gather(rows).embeddings, plain)
        again = self.captions(model, texts, folder=tmp_path)
        assert torch.equal(again.gather(rows).embeddings, plain)

    def test_masked_duplicates(self, make, signals) -> None:
        model, rows = make(bias=-10.0), np.array([0, 3, 1])  # 0 and 3 have one text
        task = self.task(model, signals, "siglip", mask_duplicates=True)
        signal, text, source = task.embed(task.load(rows))
        ids = torch.tensor([0, 0, 1])
        expected = siglip(signal, text, model.scale, model.bias, ids=ids).value
        torch.testing.assert_close(task.loss((signal, text, source), rows).value, expected)

    def test_a_text_tower_that_is_trained(self, make, signals) -> None:
        model = make(train="all")
        with pytest.raises(UserError, match=r"'cwcl' takes its weights .* text\.train=none"):
            self.task(model, signals, "cwcl")
        task = self.task(model, signals, "clip")
        task.loss(task.embed(task.load(np.arange(4))), np.arange(4)).value.backward()
        assert next(model.text.encoder.parameters()).grad is not None

    def test_empty_captions_are_named(self, make) -> None:
        manifest = toy_manifest()
        texts = ["a dog"] * len(manifest)
        texts[2] = texts[4] = " "
        captions = self.captions(make(), texts)
        captions.refuse_missing(np.array([0, 1, 3]), manifest)
        with pytest.raises(
            UserError, match=r"2 of 4 recordings .*'0/test/002'.*skip_uncaptioned=true"
        ):
            captions.refuse_missing(np.array([1, 2, 3, 4]), manifest)
        with pytest.raises(UserError, match="every recording has an empty caption"):
            self.captions(make(), ["", " "])


def test_a_missing_text_tower_says_the_ways_to_get_one(make, tmp_path) -> None:
    with pytest.raises(UserError, match=r"folder.*hub.*packaged-minilm"):
        TextTowerConfig(checkpoint=str(tmp_path / "gone")).adapter().tokenize(["a"])


def test_objectives_begin_where_their_papers_do() -> None:
    clip, sig = OBJECTIVES.parse("clip"), OBJECTIVES.parse("siglip")
    assert (clip.scale, clip.bias, sig.scale, sig.bias) == (1 / 0.07, 0.0, 10.0, -10.0)  # pyright: ignore
    x = normalize(torch.randn(4, 3), dim=1)
    pairs = Pairs(x, x, x, torch.arange(4), torch.tensor(10.0), torch.tensor(-10.0))
    assert math.isfinite(sig.loss(pairs, gather=False).value.item())  # pyright: ignore


@pytest.mark.parametrize("name", ["clip", "siglip", "cwcl"])
def test_settings_of_the_scale_reach_the_model_and_leave_old_records_alone(make, name: str) -> None:
    plain: Any = OBJECTIVES.parse(name)
    assert not {"learn_scale", "max_scale", "smoothing"} & set(plain.dump())
    fixed: Any = OBJECTIVES.parse({"name": name, "scale": 5.0, "learn_scale": False})
    assert not make(**fixed.start).log_scale.requires_grad
    assert OBJECTIVES.parse(fixed.dump()) == fixed
    capped: Any = OBJECTIVES.parse({"name": name, "max_scale": 30.0})
    assert make(**capped.start).max_scale == 30.0
    for bad, words in (
        ({"scale": 50.0, "max_scale": 30.0}, "is above max_scale"),
        ({"learn_scale": False, "max_scale": 200.0}, "of a scale that is learned"),
    ):
        with pytest.raises(ValidationError, match=words):
            OBJECTIVES.parse({"name": name, **bad})
