"""An online step through our loop against a bare PyTorch loop and against Avalanche's own.

Model: an MLP 32-64-10 on features in memory, batches of 32, one Adam step a batch, nothing else, so
what is measured is the loop. Memory: 2,000 recordings in a reservoir, 32 drawn a step. Avalanche:
``split_online_stream`` with one experience a batch, and ``ReplayPlugin`` (over 200 steps). Then:
does a step stay as fast over a stream of 100,000; MVP's gradient similarity in closed form against
a backward pass a recording (batch 64, 100 classes, width 768); a whitened head against a plain one
on embeddings of width 96; and what share of a run 50 anytime evaluations take.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.online_run import OnlineRun
from benchmarks.config.loading import validate
from benchmarks.runs.data import Data
from benchmarks.speed.harness import noise_manifest, print_figures, ratio, time_all
from benchmarks.speed.online_peers import (
    BATCH,
    CLASSES,
    HIDDEN,
    WIDTH,
    InMemory,
    avalanche,
    bare,
)
from continual.anytime import Anytime
from continual.classifier import Classifier
from continual.learner import LEARNERS, LearnerContext
from continual.online import OnlineStrategy
from continual.scenarios import SCENARIOS, Stream
from continual.scenarios.avalanche_benchmark import as_benchmark
from multimodal.batch import Batch, Encoded, Features
from multimodal.modalities.speech import SpeechConfig
from multimodal.objectives.mvp import gradient_similarity
from multimodal.signals import SignalCache

MEMORY, LONG = 2000, 100_000


class _FrontEnd(nn.Module):
    def forward(self, batch: Batch) -> Features:
        return Features(batch.inputs, batch.lengths)


class _Mlp(nn.Module):
    width = HIDDEN

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(WIDTH, HIDDEN)

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        hidden = self.layer(features).relu()
        return Encoded(hidden, lengths, hidden)


class Bench:
    """What the loops share: a stream of ``count`` recordings, ``data``; and our loop over it."""

    def __init__(self, count: int) -> None:
        self.manifest = noise_manifest(classes=CLASSES, train=count // CLASSES, test=1)
        config: Any = SCENARIOS.parse({"name": "si_blurry", "num_tasks": 2, "online_iter": 1})
        self.stream: Stream = config.build(self.manifest, 1)
        features = torch.randn(len(self.manifest), WIDTH)
        labels = torch.as_tensor(self.manifest.labels)
        tasks = [torch.as_tensor(e.train) for e in self.stream.experiences]
        self.data = InMemory(features, labels, tasks)
        self.lengths = torch.ones(len(self.manifest), dtype=torch.int64)
        self.steps = sum(-(-len(rows) // BATCH) for rows in tasks)

    def gather(self, rows: Tensor) -> Batch:
        return Batch(self.data.features[rows], self.lengths[rows], self.data.labels[rows], rows)

    def ours(self, memory: int, after_step: Any = None) -> Callable[[], object]:
        torch.manual_seed(0)
        name: Any = {"name": "er", "memory_size": memory} if memory else "finetune"
        config: Any = LEARNERS.parse(name)
        learner = config.build(LearnerContext(Classifier(_FrontEnd(), _Mlp(), CLASSES), seed=0))
        strategy = OnlineStrategy(
            learner=learner,
            stream=self.stream,
            gather=self.gather,
            optimizer=torch.optim.Adam(learner.model.parameters(), 5e-3),
            seed=0,
            train_mb_size=BATCH,
            after_step=after_step,
        )
        benchmark = as_benchmark(self.stream, self.gather)

        def work() -> None:
            for task in benchmark.train_stream:
                strategy.train(task, eval_streams=[])

        return work


def growth(count: int) -> float:
    """Median step of the last tenth of a long stream over that of the first, with the memory."""
    times: list[float] = []
    Bench(count).ours(MEMORY, after_step=lambda _: times.append(time.perf_counter()))()
    steps, tenth = np.diff(times), len(times) // 10
    return round(float(np.median(steps[-tenth:]) / np.median(steps[:tenth])), 3)


def similarity(repeats: int) -> dict[str, float]:
    """Closed form and a backward pass a recording: how much faster, how different."""
    torch.manual_seed(0)
    head, features = nn.Linear(768, 100), torch.randn(64, 768)
    labels, factor = torch.randint(0, 100, (64,)), 2 * torch.randn(64, 100).sigmoid()

    logits = (head(features) * factor).detach()  # a training step has them anyway

    def closed() -> Tensor:
        return gradient_similarity(features, logits, labels, factor)

    def loop() -> Tensor:
        (whole,) = torch.autograd.grad(
            cross_entropy(head(features) * factor, labels), [head.weight]
        )
        found = []
        for i in range(64):
            one = cross_entropy(head(features[i : i + 1]) * factor[i : i + 1], labels[i : i + 1])
            (gradient,) = torch.autograd.grad(one, [head.weight])
            y = labels[i]
            found.append(1 - torch.cosine_similarity(gradient[y], whole[y], dim=0))
        return torch.stack(found)

    seconds = time_all({"closed": lambda: closed, "loop": lambda: loop}, repeats=repeats)
    difference = float((closed() - loop()).abs().max())
    return {"gsf_speedup": ratio(seconds, "loop", "closed"), "gsf_max_difference": difference}


class _Frozen(nn.Module):
    """Stands for an encoder whose embeddings are cached."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        return Encoded(features, lengths, features)


def white_head(width: int, batches: int, repeats: int) -> float:
    """A stream of batches with three Adam steps each: whitened head over plain one."""
    torch.manual_seed(0)
    x, y = torch.randn(batches * BATCH, width), torch.randint(0, CLASSES, (batches * BATCH,))
    parts = [
        Batch(x[rows], torch.ones(BATCH, dtype=torch.int64), y[rows], rows, embeddings=x[rows])
        for rows in torch.arange(len(x)).split(BATCH)
    ]

    def loop(whiten: bool) -> Callable[[], object]:
        config: Any = LEARNERS.parse({"name": "linear_probe", "head": {"whiten": whiten}})
        model = Classifier(_FrontEnd(), _Frozen(width), CLASSES)
        learner = config.build(LearnerContext(model, seed=0))
        optimizer = torch.optim.Adam(model.head.parameters(), 5e-3)

        def work() -> None:
            for batch in parts:
                learner.meet(batch.indices, batch.labels)
                learner.arrive(batch)
                for _ in range(3):
                    optimizer.zero_grad()
                    learner.loss(batch, None).value.backward()
                    optimizer.step()

        return work

    works = {"plain": lambda: loop(False), "white": lambda: loop(True)}
    return ratio(time_all(works, repeats=repeats), "white", "plain")


def anytime_share(train: int, repeats: int) -> dict[str, float]:
    """Share of 50 evaluations in a run of ER on a frozen encoder, its embeddings new or cached."""
    manifest = noise_manifest(classes=CLASSES, train=train // CLASSES, test=train // 50)
    adapter, shares = SpeechConfig().build(), {"anytime_share": [], "anytime_share_cached": []}
    signals = SignalCache(manifest, adapter, progress=False)
    signals.ensure(np.arange(len(manifest)))
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(repeats):
            data = Data(manifest, adapter, signals)
            for name in shares:
                config = _run_config(f"{folder}/{turn}/{name}")
                scenario: Any = config.scenario
                run = OnlineRun(config, data, scenario.build(manifest, 1))
                shares[name].append(_share(run))
    return {name: round(statistics.median(values), 4) for name, values in shares.items()}


def _run_config(output_dir: str) -> RunConfig:
    data = {
        "experiment": "anytime",
        "dataset": "synthetic_speech",
        "scenario": {"name": "si_blurry", "num_tasks": 2},
        "encoder": {"name": "compact", "train": "none"},
        "learners": ["er"],
        "training": {"batch_size": 64, "device": "cpu", "weight_decay": 0},
        "tracking": {"store": "none"},
        "output_dir": output_dir,
    }
    return validate(RunConfig, data, source="online_step")


def _share(run: OnlineRun) -> float:
    spent, point = [0.0], Anytime.point

    def timed(self: Anytime, count: int) -> Any:
        start = time.perf_counter()
        found = point(self, count)
        spent[0] += time.perf_counter() - start
        return found

    Anytime.point = timed  # pyright: ignore[reportAttributeAccessIssue]
    try:
        start = time.perf_counter()
        Path(run.config.output_dir).mkdir(parents=True)
        run.execute()
        return spent[0] / (time.perf_counter() - start)
    finally:
        Anytime.point = point


def main() -> None:
    quick = "--quick" in sys.argv
    warnings.filterwarnings("ignore", message="No loggers specified|no QP solver found")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="avalanche")
    # Avalanche's replay step becomes slower with every step, so it gets a shorter stream.
    bench, short = Bench(3200 if quick else 16_000), Bench(1600 if quick else 6400)
    seconds = time_all(
        {
            "bare": lambda: bare(bench.data),
            "bare_reservoir_2000": lambda: bare(bench.data, MEMORY),
            "ours": lambda: bench.ours(0),
            "ours_reservoir_2000": lambda: bench.ours(MEMORY),
            "avalanche_online": lambda: avalanche(short.data),
            "avalanche_online_replay": lambda: avalanche(short.data, MEMORY),
        },
        repeats=2 if quick else 5,
    )
    for name, values in seconds.items():
        steps = short.steps if "avalanche" in name else bench.steps
        seconds[name] = [value / steps for value in values]
    medians = {k: round(1000 * statistics.median(v), 4) for k, v in seconds.items()}
    figures = {
        **medians,
        "ours_over_bare": ratio(seconds, "ours", "bare"),
        "ours_reservoir_2000_over_bare": ratio(seconds, "ours_reservoir_2000", "bare"),
        "ours_over_bare_reservoir_2000": ratio(
            seconds, "ours_reservoir_2000", "bare_reservoir_2000"
        ),
        "avalanche_online_over_ours": ratio(seconds, "avalanche_online", "ours"),
        "avalanche_replay_over_ours": ratio(
            seconds, "avalanche_online_replay", "ours_reservoir_2000"
        ),
        "last_over_first_tenth": growth(10_000 if quick else LONG),
        **similarity(2 if quick else 7),
        "whitened_over_plain": white_head(96, 50 if quick else 500, 2 if quick else 5),
        **anytime_share(500 if quick else 4000, 1 if quick else 3),
    }
    print_figures("one online step", seconds, figures)


if __name__ == "__main__":
    main()
