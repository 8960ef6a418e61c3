"""Scenes a second, and what CompA's objectives cost beside plain contrast; one thread.

Scenes: of noise in place of decoded clips, ten seconds long at 16 kHz, drawn once and rendered in
batches as training does. Objectives: forwards and backwards at batch 256, width 512, in float32,
hard negatives with 3 captions, modular contrast with 5 true and 5 false ones; also as many plain
contrasts as the modular one has true captions, main one included. Times are those of the processor.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed.harness import print_figures, ratio, time_all
from multimodal.composition.audio import clips_of, render
from multimodal.composition.draw import draw
from multimodal.composition.plan import ComposerConfig, Pool
from multimodal.objectives.compa import hard_negatives, modular
from multimodal.objectives.contrastive import info_nce

RATE, LABELS, POSITIVES, NEGATIVES = 16_000, 10, 5, 5
PLAIN, HARD, MODULAR, SIX = "plain", "hard negatives", "modular", "plain, one a true caption"


def scenes(count: int) -> tuple[Callable[[], Callable[[], object]], float]:
    """Rendering of ``count`` scenes, and their mean length in seconds."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(int(2.9 * RATE), int(3.2 * RATE), size=20 * LABELS)
    pool = Pool(
        labels=np.arange(len(lengths)) % LABELS,
        lengths=lengths,
        rate=RATE,
        names=tuple(f"sound {'abcdefghij'[i]}" for i in range(LABELS)),
    )
    clips = clips_of([rng.normal(size=n).astype(np.float32) for n in lengths.tolist()], RATE)
    config = ComposerConfig(expressions={"A+B+C": 1.0, "(A+B+C)*D": 1.0}, max_seconds=10.0)
    found = draw(pool, config, count)
    parts = np.array_split(np.arange(count), max(1, count // 64))

    def work() -> None:
        for rows in parts:
            render(found, rows, clips)

    return lambda: work, float(found.totals.mean() / RATE)


def objectives(batch: int, width: int) -> dict[str, Callable[[], Callable[[], object]]]:
    torch.manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, width, requires_grad=True)

    signals, texts, scale = drawn(batch), drawn(batch), torch.tensor(14.0, requires_grad=True)
    true, false = drawn(batch, POSITIVES), drawn(batch, NEGATIVES)

    def step(loss: Callable[[], Tensor]) -> Callable[[], Callable[[], object]]:
        return lambda: lambda: loss().backward()

    several = [drawn(batch) for _ in range(1 + POSITIVES)]
    return {
        PLAIN: step(lambda: info_nce(signals, texts, scale).value),
        HARD: step(lambda: hard_negatives(signals, texts, scale, negatives=false[:, :3]).value),
        MODULAR: step(
            lambda: modular(signals, texts, scale, positives=true, negatives=false).value
        ),
        SIX: step(lambda: sum_of(info_nce(signals, each, scale).value for each in several)),
    }


def sum_of(values: object) -> Tensor:
    return torch.stack(list(values)).sum()  # pyright: ignore[reportArgumentType]


def main() -> None:
    torch.set_num_threads(1)
    quick = "--quick" in sys.argv
    repeats, count = (1, 16) if quick else (15, 256)
    work, length = scenes(count)
    name = f"{count} scenes of {length:.1f} s"
    seconds = time_all({name: work}, repeats=repeats, clock=time.process_time)
    batch, width = (16, 32) if quick else (256, 512)
    seconds |= time_all(objectives(batch, width), repeats=repeats, clock=time.process_time)
    figures = {
        "scenes_per_second": round(count / statistics.median(seconds[name]), 1),
        "hard_negatives_over_plain": ratio(seconds, HARD, PLAIN),
        "modular_over_plain": ratio(seconds, MODULAR, PLAIN),
        "modular_over_plain_each": ratio(seconds, MODULAR, SIX),
    }
    print_figures(f"scenes at {RATE} Hz; losses at batch {batch}, width {width}", seconds, figures)


if __name__ == "__main__":
    main()
