"""``medley predict`` against the encoder alone on batches that are ready, one thread.

Files of a second of noise are named by a linear head on the packaged Whisper tiny.en (window: cut)
and on a compact encoder. ``predict_share``: the throughput of predict without decoding (batches,
model, rows) as a share of the model's own; ``decoding_share``: of all its time, what reading files
takes, so which of the two is the bottleneck.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

from benchmarks.commands.predict.inputs import Part
from benchmarks.commands.predict.model import Model, manifest_of
from benchmarks.commands.predict.opened import Answer, Opened
from benchmarks.speed.harness import RATE, print_figures, ratio, time_all
from multimodal.batch import Batch
from multimodal.encoders import EncoderConfig
from multimodal.encoders.compact import CompactConfig
from multimodal.encoders.pretrained import PretrainedConfig
from multimodal.errors import UserError
from multimodal.hub.packaged import WHISPER, whisper
from multimodal.loader import Loader
from multimodal.modalities.speech import SpeechConfig
from multimodal.models.classify_task import LinearClassifier
from multimodal.signals import SignalCache

CLASSES, BATCH = 10, 32


def opened(encoder: EncoderConfig) -> Opened:
    """A model that was never trained: how long it takes does not depend on that."""
    torch.manual_seed(0)
    config = SpeechConfig(sample_rate=RATE)
    adapter = config.build()
    built = encoder.build(adapter)
    model = LinearClassifier(encoder.front_end(adapter), built, nn.Linear(built.width, CLASSES))

    def answer(batch: Batch) -> Answer:
        shares = model.probabilities(batch)
        return Answer(shares.argmax(1), shares)

    return Opened(
        modality=config,
        adapter=adapter,
        class_names=tuple(map(str, range(CLASSES))),
        multi_label=False,
        module=model.eval(),
        answer=answer,
        tower=None,
        score=lambda batch, embeddings: model.head(embeddings),
        digest="",
        longest=None,
    )


def alone(found: Opened, parts: list[Part]) -> Callable[[], Callable[[], object]]:
    """The model on batches that lie in memory."""
    signals = SignalCache(manifest_of(found, parts), found.adapter)
    rows = np.arange(len(parts))
    signals.ensure(rows)
    lengths = signals.lengths(rows)
    batches = list(Loader(signals.gather, "cpu").alike(rows, BATCH, lengths))

    def run() -> None:
        with torch.inference_mode():
            for batch in batches:
                found.answer(batch)

    return lambda: run


def encoders() -> dict[str, EncoderConfig]:
    """The packaged tower only where it is installed."""
    try:
        whisper()
    except UserError as missing:
        print(missing)
        return {"compact": CompactConfig()}
    tower = PretrainedConfig(checkpoint=WHISPER, window="cut")
    return {"compact": CompactConfig(), "whisper": tower}


def main() -> None:
    torch.set_num_threads(1)
    count, repeats = (64, 1) if "--quick" in sys.argv else (192, 7)
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        for i in range(count):
            path = Path(folder, f"{i:03d}.wav")
            noise = np.random.default_rng(i).normal(0, 0.1, RATE).astype(np.float32)
            soundfile.write(path, noise, RATE)
            parts.append(Part(path, path.name))
        work, models = {}, {}
        for name, encoder in encoders().items():
            found = opened(encoder)
            models[name] = Model(found, torch.device("cpu"))
            work[f"{name}, model alone"] = alone(found, parts)
            work[f"{name}, predict"] = lambda m=models[name]: (
                lambda: list(m.stream(parts, batch_size=BATCH))
            )
        seconds = time_all(work, repeats=repeats)
    figures: dict[str, object] = {}
    for name, model in models.items():
        whole = sum(model.seconds.values())
        share = model.seconds["model"] / whole
        thinking = {**seconds, "thinking": [s * share for s in seconds[f"{name}, predict"]]}
        figures[f"{name}_predict_share"] = ratio(thinking, f"{name}, model alone", "thinking")
        figures[f"{name}_decoding_share"] = round(model.seconds["decoding"] / whole, 3)
    best = "whisper" if "whisper" in models else "compact"
    figures["predict_share"] = figures[f"{best}_predict_share"]
    print_figures(f"{count} files of 1 s, one thread (ms)", seconds, figures)


if __name__ == "__main__":
    main()
