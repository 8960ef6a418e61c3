"""Both projected towers of tiny random CLAP checkpoints against transformers' own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from multimodal.batch import Batch
from multimodal.encoders.clap_pair import ClapPair, open_clap
from multimodal.errors import UserError
from tests.multimodal.encoders.audio_checkpoints import clap
from tests.multimodal.encoders.checkpoints import save_text_checkpoint, save_tokenizer

TEXTS = ["a dog", "sound of rain", "a bell of a dog sounds", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clap")
    clap(path)
    save_tokenizer(path, "roberta")
    return path


@pytest.fixture(scope="module")
def pair(folder: Path) -> ClapPair:
    return open_clap(str(folder), None)[0].eval()


def test_texts_are_those_of_transformers(folder: Path, pair: ClapPair) -> None:
    model = transformers.ClapModel.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = pair.embed_texts(TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        with torch.no_grad():
            theirs = model.get_text_features(**tokenizer(text, return_tensors="pt")).pooler_output
        torch.testing.assert_close(vector, theirs[0], atol=1e-5, rtol=0)
    assert torch.equal(pair.embed_texts(TEXTS[::-1]), found.flip(0))


def test_signals_are_those_of_transformers(folder: Path, pair: ClapPair) -> None:
    model = transformers.ClapModel.from_pretrained(folder).eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    rng = np.random.default_rng(0)
    waves = [rng.normal(0, 0.1, n).astype(np.float32) for n in (8000, 3000, 700)]
    lengths = torch.tensor([len(w) for w in waves])
    inputs = torch.zeros(3, 1, 8000)
    for row, wave in zip(inputs, waves, strict=True):
        row[0, : len(wave)] = torch.from_numpy(wave)
    found = pair.embed_signals(Batch(inputs, lengths, lengths, lengths))
    made = extractor(waves, sampling_rate=8000, return_tensors="pt")
    with torch.no_grad():
        theirs = model.get_audio_features(input_features=made["input_features"]).pooler_output
    torch.testing.assert_close(found, theirs, atol=1e-4, rtol=0)
    with torch.no_grad():
        alone = pair.embed_signals(Batch(inputs[2:, :, :700], lengths[2:], lengths, lengths))
    torch.testing.assert_close(alone[0], found[2], atol=1e-5, rtol=0)
    assert found.shape == (3, pair.width)


def test_facts_pin_the_checkpoint(folder: Path, pair: ClapPair) -> None:
    facts = pair.facts()
    assert facts["name"] == str(folder)
    assert (facts["sample_rate"], facts["window_seconds"], facts["revision"]) == (8000, 1.0, None)
    assert len(facts["weights"]) == 16
    assert pair.front_end("pad").spec.padding == "pad"


def test_bad_checkpoints(tmp_path: Path) -> None:
    clap(tmp_path / "fused", fusion=True)
    save_tokenizer(tmp_path / "fused", "roberta")
    with pytest.raises(UserError, match="enable_fusion=true"):
        open_clap(str(tmp_path / "fused"), None)
    save_text_checkpoint(tmp_path / "text", "bert")
    with pytest.raises(UserError, match="'bert', which has no text tower"):
        open_clap(str(tmp_path / "text"), None)
    with pytest.raises(UserError, match="not a folder"):
        open_clap(str(tmp_path / "gone"), None)
    clap(tmp_path / "wordless")
    with pytest.raises(UserError, match="tokenizer"):
        open_clap(str(tmp_path / "wordless"), None)[0].embed_texts(["a"])
