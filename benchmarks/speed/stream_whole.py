"""A whole class-incremental run against Avalanche's own strategies on precomputed features.

40 classes in 10 experiences, 7,200 clips of one second as WAV files. Ours: what ``medley bench``
does from the first step to the last evaluation, journal and checkpoints included. The peer: the
same encoder, data, batches, epochs and memory, its features computed and normalised beforehand.
Both in turn in one process, in CPU seconds of one thread. Memory: the highest of a process that
does our run alone, imports and decoding included (Linux).
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.epochs_run import EpochsRun
from benchmarks.runs.machine import peak_memory
from benchmarks.speed.harness import RATE, print_figures, ratio
from continual.evaluation import Evaluator
from multimodal.encoders.compact import CompactEncoder
from multimodal.training.optim import parameter_groups

LEARNERS, MEMORY = ("replay", "er_ace", "joint"), 400
Seconds = dict[str, list[float]]


def write_clips(root: Path, classes: int, train: int, test: int) -> None:
    """Noise: what a run costs does not depend on what is said."""
    for split, first, count in (("train", 0, train), ("test", train, test)):
        for label in range(classes):
            folder = root / split / f"class_{label:02d}"
            folder.mkdir(parents=True)
            for i in range(first, first + count):
                noise = np.random.default_rng([label, i]).normal(0, 0.1, RATE)
                soundfile.write(folder / f"{i:04d}.wav", noise, RATE)


def config(learner: str, root: str, output: str, *, experiences: int, epochs: int) -> RunConfig:
    sizes = {} if learner == "joint" else {"memory_size": MEMORY, "memory_batch_size": 32}
    data: dict[str, Any] = {
        "experiment": "stream_whole",
        "dataset": {"name": "folder", "root": root},
        "scenario": {"name": "class_incremental", "num_experiences": experiences},
        "learners": [{"name": learner, **sizes}],
        "training": {"epochs": epochs, "device": "cpu", "threads": 1},
        "tracking": {"store": "none", "log_models": False},
        "output_dir": output,
    }
    return RunConfig.parse(data)


@dataclass(frozen=True)
class TimedEvaluator(Evaluator):
    spent: list[float] = field(default_factory=list)

    def test(self, met: int | None = None) -> tuple[list[float], dict[str, Any]]:
        start = time.process_time()
        found = super().test(met)
        self.spent.append(time.process_time() - start)
        return found


class Timed(EpochsRun):
    """A run that notes what its training, evaluations and checkpoints take together."""

    spent = 0.0

    def train(self) -> None:
        self.evaluator = TimedEvaluator(self.learner, self.stream, self.read_tests)
        start = time.process_time()
        super().train()
        self.spent = time.process_time() - start

    @property
    def parts(self) -> tuple[float, float]:
        """All but the evaluations, and these."""
        assert isinstance(self.evaluator, TimedEvaluator)
        evaluation = sum(self.evaluator.spent)
        return self.spent - evaluation, evaluation


class Peer(nn.Module):
    """The encoder and a head, on features (N, bands, frames) of full length."""

    def __init__(self, bands: int, classes: int) -> None:
        super().__init__()
        self.encoder = CompactEncoder(bands)
        self.head = nn.Linear(self.encoder.width, classes)

    def forward(self, features: Tensor) -> Tensor:
        lengths = torch.full((len(features),), features.shape[-1])
        return self.head(self.encoder(features, lengths).pooled)


class Tensors(torch.utils.data.TensorDataset):
    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        super().__init__(inputs, labels)
        self.targets = labels.tolist()


class Bench:
    """One dataset; ``ours`` and ``avalanche`` give (training, evaluation) in CPU seconds."""

    def __init__(self, root: str, *, experiences: int, epochs: int) -> None:
        self.root, self.settings = root, {"experiences": experiences, "epochs": epochs}
        with tempfile.TemporaryDirectory() as output:
            made = Cells(config("replay", root, output, **self.settings))
        self.data, self.stream = made.data, made.streams[0]
        batch = self.data.signals.gather(np.arange(len(self.data.manifest)))
        self.features = self.data.adapter.front_end()(batch).values
        self.labels = batch.labels

    def ours(self, learner: str) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as output:
            settings = config(learner, self.root, output, **self.settings)
            run = Timed(settings, self.data, self.stream)
            run.execute()
        return run.parts

    def avalanche(self, learner: str) -> tuple[float, float]:
        from avalanche.benchmarks import benchmark_from_datasets
        from avalanche.benchmarks.utils import as_classification_dataset

        parts = {
            "train": [e.train for e in self.stream.experiences],
            "test": [e.test for e in self.stream.experiences],
        }
        streams = {
            name: [
                as_classification_dataset(Tensors(self.features[r], self.labels[r]))  # pyright: ignore
                for r in rows
            ]
            for name, rows in parts.items()
        }
        benchmark: Any = benchmark_from_datasets(**streams)
        strategy = self._strategy(learner)
        training = evaluation = 0.0
        trained = benchmark.train_stream
        with contextlib.redirect_stderr(io.StringIO()):  # its deprecations, in every step
            for experience in [trained] if learner == "joint" else trained:
                start = time.process_time()
                strategy.train(experience)
                between = time.process_time()
                strategy.eval(benchmark.test_stream)
                training += between - start
                evaluation += time.process_time() - between
        return training, evaluation

    def _strategy(self, learner: str) -> Any:
        from avalanche.evaluation.metrics import accuracy_metrics
        from avalanche.training.plugins import EvaluationPlugin
        from avalanche.training.supervised import ER_ACE, JointTraining, Replay

        torch.manual_seed(1)
        model = Peer(self.features.shape[1], int(self.labels.max()) + 1)
        kinds: dict[str, Any] = {"replay": Replay, "er_ace": ER_ACE, "joint": JointTraining}
        more = {"replay": {"mem_size": MEMORY}, "er_ace": {"mem_size": MEMORY}, "joint": {}}
        if learner == "er_ace":
            more[learner]["batch_size_mem"] = 32  # that of Replay is as large as a batch
        return kinds[learner](
            model=model,
            optimizer=torch.optim.AdamW(parameter_groups(model, 0.01), 1e-3),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=32,
            train_epochs=self.settings["epochs"],
            eval_mb_size=256,
            evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
            **more[learner],
        )


def peak(root: str, settings: dict[str, int]) -> int:
    """Bytes, of a process of its own."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as output:
        Cells(config("replay", root, output, **settings)).run_cell(0)
    return peak_memory(torch.device("cpu"))["process"]


def measure(bench: Bench, learner: str, repeats: int) -> tuple[Seconds, dict[str, float]]:
    """Seconds of the parts of both, and their ratios."""
    names = [f"{learner}, {who}, {part}" for who in ("ours", "Avalanche") for part in PARTS]
    seconds: Seconds = {name: [] for name in names}
    for _ in range(repeats):
        for who, work in (("ours", bench.ours), ("Avalanche", bench.avalanche)):
            found = work(learner)
            for part, value in zip(PARTS, (*found, sum(found)), strict=True):
                seconds[f"{learner}, {who}, {part}"].append(value)
    figures = {
        f"{learner}{key}_over_avalanche": ratio(
            seconds, f"{learner}, ours, {part}", f"{learner}, Avalanche, {part}"
        )
        for part, key in zip(PARTS, ("_training", "_evaluation", ""), strict=True)
    }
    return seconds, figures


PARTS = ("training", "evaluation", "all")


def main() -> None:
    quick = "--quick" in sys.argv
    warnings.filterwarnings("ignore", message="No loggers specified|no QP solver found")
    torch.set_num_threads(1)
    settings = {"experiences": 2 if quick else 10, "epochs": 1 if quick else 2}
    classes, train, test = (4, 24, 6) if quick else (40, 144, 36)
    seconds: Seconds = {}
    figures: dict[str, object] = {"clips": classes * (train + test)}
    with tempfile.TemporaryDirectory() as root:
        write_clips(Path(root), classes, train, test)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            figures["peak_mib"] = round(pool.apply(peak, (root, settings)) / 2**20)
        bench = Bench(root, **settings)
        for learner in LEARNERS:
            more, found = measure(bench, learner, 1 if quick else 3)
            seconds, figures = seconds | more, figures | found
    print_figures("a whole stream", seconds, figures)


if __name__ == "__main__":
    main()
