"""What LoRA saves against full fine-tuning, one thread: memory of the trained state, and time.

A step of the fit loop (features, forward, backward, clipping, AdamW) of a classifier on the
packaged Whisper tiny.en (window: cut) and on a compact encoder, over clips as long as spoken
digits. State: the bytes of gradients and of AdamW's two moments after a step, counted on the
tensors themselves. "last block": adapters in the last transformer block alone, so the backward pass
ends there; the forward pass of the blocks below is still computed at every step. Times are those of
the processor (``process_time``).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.speed.harness import RATE, print_figures, ratio, time_all
from benchmarks.speed.towers import decoded, digit_lengths
from multimodal.encoders import EncoderConfig
from multimodal.encoders.compact import CompactConfig
from multimodal.encoders.lora import LoraConfig
from multimodal.encoders.pretrained import PretrainedConfig
from multimodal.errors import UserError
from multimodal.hub.packaged import WHISPER, whisper
from multimodal.modalities import Adapter
from multimodal.modalities.speech import SpeechConfig
from multimodal.models.classify_task import ClassifyTask, LinearClassifier
from multimodal.signals import SignalCache
from multimodal.training.config import FitConfig
from multimodal.training.fit import Fit

BATCH, CLASSES = 16, 10
LAST = ("3.self_attn.q_proj", "3.self_attn.v_proj")  # of Whisper tiny's four blocks


def fit_of(config: EncoderConfig, adapter: Adapter, signals: SignalCache) -> Fit:
    """A fit that takes as many steps as one likes: its rows are one batch."""
    torch.manual_seed(0)
    encoder: Any = config.build(adapter)
    head = nn.Linear(encoder.width, CLASSES)
    model = LinearClassifier(config.front_end(adapter), encoder, head)
    rows = np.arange(len(signals.manifest))
    task = ClassifyTask(model, signals, rows % CLASSES)
    training = FitConfig(batch_size=len(rows), device="cpu", learning_rate=1e-4, log_every=10**6)
    return Fit(task, training, rows=rows, lengths=signals.lengths(rows), seed=0)


def steps(fit: Fit, count: int) -> Callable[[], Callable[[], object]]:
    """Prepares nothing, and gives so many steps."""

    def run() -> None:
        fit.module.train()
        for _ in range(count):
            fit._train_on(fit.rows)

    return lambda: run


def state_bytes(fit: Fit) -> int:
    """Of gradients and of AdamW's moments, after a step."""
    gradients = [p.grad for p in fit.module.parameters() if p.grad is not None]
    moments = [
        tensor
        for state in fit.optimizer.state.values()
        for name, tensor in state.items()
        if name != "step"
    ]
    return sum(t.numel() * t.element_size() for t in (*gradients, *moments))


def encoders() -> dict[str, EncoderConfig]:
    """Row -> encoder; the packaged tower only where it is installed."""
    compact = CompactConfig()
    made: dict[str, EncoderConfig] = {
        "compact, full": compact,
        "compact, lora": LoraConfig(base=compact),
    }
    try:
        whisper()
    except UserError as missing:
        print(missing)
        return made
    tower = PretrainedConfig(checkpoint=WHISPER, window="cut")
    whole = tower.model_copy(update={"train": "all"})
    return made | {
        "whisper, full": whole,
        "whisper, lora": LoraConfig(base=tower),
        "whisper, dora": LoraConfig(base=tower, method="dora"),
        "whisper, lora, last block": LoraConfig(base=tower, target_modules=LAST),
    }


def main() -> None:
    torch.set_num_threads(1)
    count, repeats = (1, 1) if "--quick" in sys.argv else (3, 7)
    adapter = SpeechConfig(sample_rate=RATE).build()
    signals = decoded(digit_lengths(BATCH), adapter)
    fits = {name: fit_of(config, adapter, signals) for name, config in encoders().items()}
    work = {name: steps(fit, count) for name, fit in fits.items()}
    seconds = time_all(work, repeats=repeats, clock=time.process_time)
    bytes_of = {name: state_bytes(fit) for name, fit in fits.items()}
    for name, size in bytes_of.items():
        trained = sum(p.numel() for p in fits[name].module.parameters() if p.requires_grad)
        print(f"{name}: {trained:,} trained parameters, {size / 2**20:.2f} MiB of state")
    base = "whisper" if "whisper, full" in fits else "compact"
    full, lora = f"{base}, full", f"{base}, lora"
    figures: dict[str, object] = {
        "lora_over_full_state": round(bytes_of[lora] / bytes_of[full], 4),
        "lora_over_full_time": ratio(seconds, lora, full),
        "compact_lora_over_full_state": round(
            bytes_of["compact, lora"] / bytes_of["compact, full"], 4
        ),
        "compact_lora_over_full_time": ratio(seconds, "compact, lora", "compact, full"),
    }
    if base == "whisper":
        figures["lora_last_block_over_full_time"] = ratio(
            seconds, "whisper, lora, last block", full
        )
    title = f"a step of {BATCH} clips of spoken digits' length, one thread (ms)"
    print_figures(title, seconds, figures, per=count)


if __name__ == "__main__":
    main()
