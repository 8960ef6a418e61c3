"""The converter of packed Whisper models, on a small random one with a packer of the tests' own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models

from multimodal.hub.whisper import read_arrays, write_transformers_folder
from tests.multimodal.hub.ct2 import packed, write_model


def small() -> transformers.WhisperForConditionalGeneration:
    torch.manual_seed(0)
    config = transformers.WhisperConfig(
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        max_source_positions=1500,
        max_target_positions=12,
        vocab_size=50400,
    )
    model = transformers.WhisperForConditionalGeneration(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_((weight + 0.1 * torch.randn_like(weight)).half())
    return model


def test_the_converted_folder_computes_the_same(tmp_path: Path) -> None:
    model = small()
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    write_model(tmp_path / "model.bin", state, layers=2, heads=4)
    Tokenizer(models.BPE()).save(str(tmp_path / "tokenizer.json"))
    never = {"suppress_ids": [1, 2, 7, 50257], "suppress_ids_begin": [220, 50256]}
    (tmp_path / "config.json").write_text(json.dumps(never))
    folder = tmp_path / "made"
    folder.mkdir()
    write_transformers_folder(tmp_path, folder)
    made, report = transformers.WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    mel, ids = torch.randn(2, 80, 3000), torch.tensor([[5, 6, 7], [8, 9, 10]])
    with torch.no_grad():
        expected = model(input_features=mel, decoder_input_ids=ids).logits
        torch.testing.assert_close(
            made.eval()(input_features=mel, decoder_input_ids=ids).logits, expected
        )
    assert made.generation_config.suppress_tokens == never["suppress_ids"]
    assert made.generation_config.begin_suppress_tokens == never["suppress_ids_begin"]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    assert (extractor.feature_size, extractor.sampling_rate, extractor.chunk_length) == (
        80,
        16000,
        30,
    )


@pytest.mark.parametrize(("version", "spec"), [(5, "WhisperSpec"), (6, "TransformerSpec")])
def test_other_files_are_named(tmp_path: Path, version: int, spec: str) -> None:
    (tmp_path / "model.bin").write_bytes(packed(version, spec, {"a": np.zeros(2, "f4")}, []))
    with pytest.raises(ValueError, match=f"version {version} of {spec}, not 6 of WhisperSpec"):
        read_arrays(tmp_path / "model.bin")


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6, dtype="f4").reshape(2, 3),
        "b": np.array(3, np.int16),
        "c": np.ones((1, 2, 3), "f2"),
    }
    (tmp_path / "model.bin").write_bytes(packed(6, "WhisperSpec", arrays, [("d", "a")]))
    read = read_arrays(tmp_path / "model.bin")
    assert set(read) == {"a", "b", "c", "d"}
    for name, value in {**arrays, "d": arrays["a"]}.items():
        np.testing.assert_array_equal(read[name], value)
        assert read[name].dtype == value.dtype
