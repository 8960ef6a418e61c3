"""Tiny random audio checkpoints, written as transformers writes real ones, and clips for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from multimodal.batch import Batch

SMALL: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
# Longer and shorter than the windows of Whisper and CLAP (1 s), of AST (0.655 s), than one frame.
LENGTHS = (17000, 9000, 4321, 700, 20)


def randomised(model: Any) -> Any:
    """The model in eval mode with no weight and no running mean left at its initial constant."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                module.running_mean.add_(torch.randn(module.num_features, generator=generator))
    return model.eval()


def waveform(folder: Path, kind: str = "Wav2Vec2", norm: str = "group", **changes: Any) -> Any:
    fields = {
        **SMALL,
        "intermediate_size": 37,
        "conv_dim": (16, 16, 16),
        "conv_kernel": (10, 3, 2),
        "conv_stride": (5, 4, 2),
        "num_feat_extract_layers": 3,
        "num_conv_pos_embeddings": 16,
        "num_conv_pos_embedding_groups": 2,
        "feat_extract_norm": norm,
        "do_stable_layer_norm": norm == "layer",
        "vocab_size": 8,
        **changes,
    }
    config = getattr(transformers, f"{kind}Config")(**fields)
    model = randomised(getattr(transformers, f"{kind}ForCTC")(config))
    model.save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return getattr(model, kind.lower())


def whisper(folder: Path, chunk: int = 1) -> Any:
    config = transformers.WhisperConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=37,
        decoder_ffn_dim=32,
        max_source_positions=50,
        vocab_size=60,
        pad_token_id=1,
        bos_token_id=2,
        eos_token_id=3,
        decoder_start_token_id=4,
    )
    model = randomised(transformers.WhisperForConditionalGeneration(config))
    model.save_pretrained(folder)
    transformers.WhisperFeatureExtractor(chunk_length=chunk).save_pretrained(folder)
    return model.model.encoder


def ast(folder: Path) -> Any:
    config = transformers.ASTConfig(
        **SMALL,
        intermediate_size=37,
        patch_size=8,
        frequency_stride=6,
        time_stride=5,
        max_length=64,
        num_mel_bins=24,
    )
    model = randomised(transformers.ASTForAudioClassification(config))
    model.save_pretrained(folder)
    transformers.ASTFeatureExtractor(num_mel_bins=24, max_length=64).save_pretrained(folder)
    return model.audio_spectrogram_transformer


def clap(folder: Path, *, fusion: bool = False, **changes: Any) -> Any:
    audio = {
        "spec_size": 64,
        "num_mel_bins": 16,
        "patch_embeds_hidden_size": 16,
        "depths": [1, 2],
        "num_attention_heads": [2, 2],
        "hidden_size": 32,
        "window_size": 4,
        "enable_fusion": fusion,
    }
    text = {**SMALL, "intermediate_size": 16, "vocab_size": 50}
    config = transformers.ClapConfig(audio_config=audio, text_config=text)
    model = randomised(transformers.ClapModel(config))
    model.save_pretrained(folder)
    fields = {
        "feature_size": 16,
        "sampling_rate": 8000,
        "hop_length": 80,
        "max_length_s": 1,
        "fft_window_size": 256,
        "frequency_max": 4000,
        "truncation": "rand_trunc",
        **changes,
    }
    transformers.ClapFeatureExtractor(**fields).save_pretrained(folder)
    return model.audio_model


SAVERS: dict[str, Callable[[Path], Any]] = {
    "wav2vec2-group": lambda folder: waveform(folder, "Wav2Vec2", "group"),
    "wav2vec2-layer": lambda folder: waveform(folder, "Wav2Vec2", "layer"),
    "hubert-group": lambda folder: waveform(folder, "Hubert", "group"),
    "hubert-layer": lambda folder: waveform(folder, "Hubert", "layer"),
    "wavlm-group": lambda folder: waveform(folder, "WavLM", "group"),
    "wavlm-layer": lambda folder: waveform(folder, "WavLM", "layer"),
    "whisper": whisper,
    "ast": ast,
    "clap": clap,
}


def clips_of(lengths: tuple[int, ...] = LENGTHS) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [
        (draw.normal(0.1, 0.2, n) * np.hanning(n + 2)[1:-1]).astype(np.float32) for n in lengths
    ]


def batch_of(clips: list[np.ndarray], extra: int = 0) -> Batch:
    inputs = pad_sequence([torch.from_numpy(c) for c in clips], batch_first=True)
    inputs = nn.functional.pad(inputs, (0, extra))[:, None]
    index = torch.arange(len(clips))
    return Batch(inputs, torch.tensor([len(c) for c in clips]), torch.zeros_like(index), index)
