"""A real frozen tower on short clips, one thread: the packaged Whisper tiny.en.

Whole: transformers' own extractor and encoder, which make 30 s of every clip. Cut: ours with
``window: cut``, which ends with the clip. First pass: what a stream embeds once (decoded signals
through ``EmbeddingCache``), of clips as long as FSDD's spoken digits and of clips of 5 s. Signals
are tones in noise: what a clip costs does not depend on what is said. Times are those of the
processor (``process_time``).
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.speed.harness import RATE, print_figures, ratio, time_all
from multimodal.batch import Batch
from multimodal.encoders.cache import EmbeddingCache
from multimodal.encoders.families import quiet_transformers
from multimodal.encoders.pretrained import PretrainedConfig
from multimodal.errors import UserError
from multimodal.hub.packaged import WHISPER, whisper
from multimodal.modalities import Adapter
from multimodal.modalities.speech import SpeechConfig
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache

SHORT = 0.5  # seconds
# FSDD: half of the clips last less than 0.42 s, a tenth more than 0.6 s, the longest 2.3 s.
MEDIAN, SIGMA, SHORTEST, LONGEST = 0.42, 0.285, 0.14, 2.3


def digit_lengths(count: int) -> np.ndarray:
    """(count,) seconds, distributed as FSDD's."""
    drawn = MEDIAN * np.exp(SIGMA * np.random.default_rng(0).normal(size=count))
    return drawn.clip(SHORTEST, LONGEST)


def clip(number: int, seconds: float) -> np.ndarray:
    """(1, T) float32: a tone in noise."""
    rng = np.random.default_rng(number)
    moments = np.arange(int(seconds * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 1000) * moments)
    return (tone + rng.normal(0, 0.02, len(moments)))[None].astype(np.float32)


def decoded(lengths: np.ndarray, adapter: Adapter) -> SignalCache:
    """Clips of these lengths in seconds, in memory."""

    def maker(number: int) -> Callable[[], np.ndarray]:
        return lambda: clip(number, float(lengths[number]))

    rows = [Recording(f"{i:05d}", (0,), "train", make=maker(i)) for i in range(len(lengths))]
    manifest = Manifest("clips", "speech", ("clip",), tuple(rows), "1", synthetic=True)
    signals = SignalCache(manifest, adapter, progress=False)
    signals.ensure(np.arange(len(rows)))
    return signals


def first_pass(
    signals: SignalCache, front_end: nn.Module, encoder: nn.Module
) -> Callable[[], Callable[[], object]]:
    """Prepares an empty cache, and gives what fills it."""
    rows = np.arange(len(signals.manifest))

    def prepare() -> Callable[[], object]:
        cache = EmbeddingCache(signals, front_end, encoder, rows=rows, settings=[], progress=False)
        return lambda: cache.ensure(rows)

    return prepare


@torch.no_grad()
def whole(extractor: Any, encoder: Any, batch: Batch) -> torch.Tensor:
    clips = [c[: int(n)].numpy() for c, n in zip(batch.inputs[:, 0], batch.lengths, strict=True)]
    features = extractor(clips, sampling_rate=RATE, return_tensors="pt").input_features
    return encoder(features).last_hidden_state


@torch.no_grad()
def cut(front_end: nn.Module, encoder: nn.Module, batch: Batch) -> torch.Tensor:
    features = front_end(batch)
    return encoder(features.values, features.lengths).tokens


def main() -> None:
    torch.set_num_threads(1)
    try:
        folder = whisper()
    except UserError as missing:
        print(json.dumps({"skipped": str(missing)}))
        return
    from transformers import WhisperFeatureExtractor, WhisperModel

    quick = "--quick" in sys.argv
    short, digits, long, repeats = (2, 64, 8, 1) if quick else (8, 640, 64, 5)
    with quiet_transformers():
        extractor = WhisperFeatureExtractor.from_pretrained(folder)
        peer = WhisperModel.from_pretrained(folder, dtype=torch.float32).encoder.eval()
    adapter = SpeechConfig(sample_rate=RATE).build()
    config = PretrainedConfig(checkpoint=WHISPER, window="cut")
    tower = config.front_end(adapter), config.build(adapter).eval()
    batch = decoded(np.full(short, SHORT), adapter).gather(np.arange(short))
    sets = {"first_pass": digit_lengths(digits), "first_pass_5s": np.full(long, 5.0)}
    work = {
        "whole: transformers": lambda: lambda: whole(extractor, peer, batch),
        "cut: ours": lambda: lambda: cut(*tower, batch),
        **{name: first_pass(decoded(s, adapter), *tower) for name, s in sets.items()},
    }
    seconds = time_all(work, repeats=repeats, clock=time.process_time)
    counts = {
        "whole: transformers": short,
        "cut: ours": short,
        **{n: len(s) for n, s in sets.items()},
    }
    each = {name: [t / counts[name] for t in times] for name, times in seconds.items()}
    rates = {name: round(1 / statistics.median(each[name]), 1) for name in sets}
    figures = {
        "cut_over_full": ratio(seconds, "whole: transformers", "cut: ours"),
        "clips_per_second": rates["first_pass"],
        "clips_per_second_5s": rates["first_pass_5s"],
    }
    title = f"Whisper tiny.en, one thread (ms a clip; whole and cut: of {SHORT} s)"
    print_figures(title, each, figures)


if __name__ == "__main__":
    main()
