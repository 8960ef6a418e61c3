"""Recordings longer than the window of AST or CLAP: transformers, window after window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from multimodal.encoders import ENCODERS
from multimodal.encoders.tokens import TokenAccess
from multimodal.modalities.audio import AudioConfig
from multimodal.modalities.speech import SpeechConfig
from tests.multimodal.encoders.audio_checkpoints import ast, batch_of, clap

CLOSE = {"rtol": 0, "atol": 1e-5}
# AST: 64 frames of 160 samples, of which the last reads 400. CLAP: 8,000 samples a window.
AST_STEP, AST_WINDOW, CLAP_WINDOW = 64 * 160, 400 + 63 * 160, 8_000
ADAPTERS: dict[str, Any] = {
    "ast": SpeechConfig().build(),
    "clap": AudioConfig(sample_rate=8_000).build(),
}


def opened(folder: Path, name: str, **fields: Any) -> tuple[Any, Any]:
    """Front end and encoder."""
    config: Any = ENCODERS.parse({"name": "pretrained", "checkpoint": str(folder), **fields})
    return config.front_end(ADAPTERS[name]), config.build(ADAPTERS[name])


def embedded(parts: tuple[Any, Any], *clips: np.ndarray, extra: int = 0) -> Any:
    front_end, encoder = parts
    with torch.no_grad():
        return encoder(*front_end(batch_of(list(clips), extra)))


def sound(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def reference(model: Any, folder: Path, signal: np.ndarray) -> Any:
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    made = extractor(signal, sampling_rate=extractor.sampling_rate, return_tensors="pt")
    with torch.no_grad():
        return model(made[extractor.model_input_names[0]].float())


# Just one window, one frame more, one more with a column of patches, two, and three.
@pytest.mark.parametrize("frames", [64, 65, 70, 128, 129, 150])
def test_ast_reads_every_window(tmp_path: Path, frames: int) -> None:
    original = ast(tmp_path)
    signal, short = sound(400 + (frames - 1) * 160 + 7), sound(5_000, seed=1)
    pooled, classes, patches = {}, [], []
    for pooling in ("cls", "mean"):
        pooled[pooling] = embedded(opened(tmp_path, "ast", pooling=pooling), signal, short)
    for at in range(0, len(signal) - 400 + 1, AST_STEP):
        alone = reference(original, tmp_path, signal[at : at + AST_WINDOW])
        real = torch.arange(12) * 5 < min(frames - at // 160, 64)  # 3 bands of 12 columns
        classes.append(alone.pooler_output[0])
        patches.append(alone.last_hidden_state[0, 2:][real.repeat(3)])
    assert len(classes) == -(-frames // 64)
    weights = torch.tensor([float(len(p)) for p in patches])
    first = (weights[:, None] * torch.stack(classes)).sum(0) / weights.sum()
    tokens = torch.cat([first[None], *patches])
    for found in pooled.values():
        torch.testing.assert_close(found.tokens[0][found.mask[0]], tokens, **CLOSE)
    torch.testing.assert_close(pooled["cls"].pooled[0], first, **CLOSE)
    torch.testing.assert_close(pooled["mean"].pooled[0], tokens.mean(0), **CLOSE)
    beside = embedded(opened(tmp_path, "ast"), short)
    torch.testing.assert_close(pooled["cls"].pooled[1], beside.pooled[0], **CLOSE)
    assert int(pooled["cls"].mask[1].sum()) == int(beside.mask[0].sum())


@pytest.mark.parametrize("samples", [8_000, 8_001, 10_000, 16_000, 16_500])
@pytest.mark.parametrize("padding", ["repeatpad", "pad"])
def test_clap_reads_every_window(tmp_path: Path, padding: str, samples: int) -> None:
    original = clap(tmp_path, padding=padding)
    signal, short = sound(samples), sound(3_000, seed=1)
    found = embedded(opened(tmp_path, "clap"), signal, short)
    expected = []
    for at in range(0, samples, CLAP_WINDOW):
        part = signal[at : at + CLAP_WINDOW]
        whole = reference(original, tmp_path, part).last_hidden_state[0]  # (D, bands, steps)
        # The end of a longer recording counts as much as it lasts, to a frame of 101.
        share = 1.0 if at == 0 else np.ceil(len(part) / CLAP_WINDOW * 101) / 101
        steps = whole.shape[2]
        real = [step for step in range(steps) if step / steps < share]
        expected.append(whole[:, :, real].flatten(1).T)
    tokens = torch.cat(expected)
    torch.testing.assert_close(found.tokens[0][found.mask[0]], tokens, **CLOSE)
    torch.testing.assert_close(found.pooled[0], tokens.mean(0), **CLOSE)
    theirs = reference(original, tmp_path, short).pooler_output[0]
    torch.testing.assert_close(found.pooled[1], theirs, **CLOSE)


@pytest.mark.parametrize(
    ("name", "save", "window"), [("ast", ast, AST_WINDOW), ("clap", clap, 8_000)]
)
def test_company_changes_nothing_and_gradients_are_finite(
    tmp_path: Path, name: str, save: Callable[[Path], Any], window: int
) -> None:
    save(tmp_path)
    parts = opened(tmp_path, name, train="all")
    parts[1].eval()
    clips = [sound(2 * window + 900), sound(window + 600, 1), sound(window, 2), sound(300, 3)]
    together = embedded(parts, *clips, extra=5 * window).pooled
    for row, signal in enumerate(clips):
        alone = embedded(parts, signal).pooled[0]
        torch.testing.assert_close(together[row], alone, **CLOSE)
    front_end, encoder = parts
    encoder(*front_end(batch_of(clips))).pooled.square().sum().backward()
    gradients = [p.grad for p in encoder.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)
    assert "every window" in repr(front_end) or "crop='windows'" in repr(front_end)


def test_prompts_enter_every_window_of_ast_and_queries_are_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ast(tmp_path)
    front_end, encoder = opened(tmp_path, "ast")
    access, signal = TokenAccess(encoder), sound(400 + 95 * 160)  # 64 frames and 32
    prompt = torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(1))
    parts = [front_end(batch_of([signal[at:][:AST_WINDOW]])) for at in (0, AST_STEP)]
    both = front_end(batch_of([signal]))
    columns = torch.tensor([12.0, 7.0])  # real ones, of 5 frames each
    weight = (columns / columns.sum())[:, None, None]
    with torch.no_grad():
        queries = torch.stack([access.query(part) for part in parts])
        torch.testing.assert_close(access.query(both), (weight * queries).sum(0), **CLOSE)
        runs = torch.stack([access.run(part, {0: prompt}).pooled for part in parts])
        torch.testing.assert_close(
            access.run(both, {0: prompt}).pooled, (weight * runs).sum(0), **CLOSE
        )
        monkeypatch.setattr(access, "_final", list)  # the mean comes before the last norm
        became = torch.stack([access.run_through(part, prompt) for part in parts])
        torch.testing.assert_close(
            access.run_through(both, prompt), (weight[..., None] * became).sum(0), **CLOSE
        )
