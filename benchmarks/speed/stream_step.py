"""A training step through the strategy against a bare PyTorch loop and against Avalanche.

Same model (compact, width 96), same signals (0.5 s of noise at 16 kHz, in memory), same batches of
32 (replay: and 32 from a memory of 200), AdamW. Timed: the training on one experience.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.speed.harness import noise_manifest, print_figures, ratio, time_all
from continual.classifier import Classifier
from continual.learner import LEARNERS, LearnerContext
from continual.scenarios import SCENARIOS, Stream
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.strategy import LearnerStrategy
from multimodal.batch import Batch
from multimodal.encoders.compact import CompactEncoder
from multimodal.modalities.speech import SpeechConfig
from multimodal.signals import SignalCache

BATCH, MEMORY, MEMORY_BATCH = 32, 200, 32


class Bench:
    """Everything the alternatives share; ``epochs`` sets how many steps one run takes."""

    def __init__(self, *, epochs: int) -> None:
        self.epochs, self.classes = epochs, 4
        self.manifest, self.adapter = noise_manifest(classes=4, train=160), SpeechConfig().build()
        self.signals = SignalCache(self.manifest, self.adapter, progress=False)
        config: Any = SCENARIOS.parse({"name": "class_incremental", "num_experiences": 2})
        self.stream: Stream = config.build(self.manifest, 0)
        self.rows = [torch.as_tensor(e.train) for e in self.stream.experiences]
        everything = self.signals.gather(torch.arange(len(self.manifest)))
        self.inputs, self.labels = everything.inputs, everything.labels
        self.steps = epochs * -(-len(self.rows[1]) // BATCH)

    def model(self) -> Classifier:
        torch.manual_seed(0)
        encoder = CompactEncoder(self.adapter.channels)
        model = Classifier(self.adapter.front_end(), encoder, self.classes)
        model.expose(range(self.classes))
        return model

    def ours(self, learner_name: str) -> Callable[[], object]:
        """The second experience through LearnerStrategy."""
        config: Any = LEARNERS.parse(learner_name)
        learner = config.build(LearnerContext(self.model(), seed=0))
        strategy = LearnerStrategy(
            learner=learner,
            stream=self.stream,
            gather=self.signals.gather,
            optimizer=torch.optim.AdamW(learner.model.parameters(), 1e-3),
            seed=0,
            train_mb_size=BATCH,
            train_epochs=self.epochs,
        )
        benchmark = as_benchmark(self.stream, self.signals.gather)
        strategy.position.experience = 1
        if learner.memory is not None:
            first = np.random.default_rng(0).permutation(self.rows[0].numpy())
            learner.memory.update(first, self.manifest.labels[first])
        return lambda: strategy.train(benchmark.train_stream[1], eval_streams=[])

    def bare(self, *, replay: bool) -> Callable[[], object]:
        """The same steps in plain PyTorch."""
        model = self.model()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        memory = self.rows[0][torch.randperm(len(self.rows[0]))[:MEMORY]]

        def work() -> None:
            model.train()
            for _ in range(self.epochs):
                order = self.rows[1][torch.randperm(len(self.rows[1]))]
                for rows in order.split(BATCH):
                    if replay:
                        drawn = memory[torch.randperm(MEMORY)[:MEMORY_BATCH]]
                        rows = torch.cat([rows, drawn])
                    logits = model(as_batch(self.inputs[rows]))
                    loss = nn.functional.cross_entropy(logits, self.labels[rows])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()

        return work

    def avalanche(self, *, replay: bool) -> Callable[[], object]:
        """The same experience through Avalanche's own Naive or Replay."""
        from avalanche.benchmarks import benchmark_from_datasets
        from avalanche.benchmarks.utils import as_classification_dataset
        from avalanche.training.supervised import Naive, Replay

        tensors = [(self.inputs[r], self.labels[r]) for r in self.rows]
        datasets = [as_classification_dataset(_Tensors(x, y)) for x, y in tensors]  # pyright: ignore
        stream = benchmark_from_datasets(train=datasets).streams["train"]
        model = _TensorModel(self.model())
        kind: Any = Replay if replay else Naive
        strategy = kind(
            model=model,
            optimizer=torch.optim.AdamW(model.parameters(), 1e-3),
            criterion=nn.CrossEntropyLoss(),
            train_mb_size=BATCH,
            train_epochs=self.epochs,
            evaluator=None,
            **({"mem_size": MEMORY} if replay else {}),  # a memory batch is as large as a batch
        )
        if replay:
            strategy.train_epochs = 1
            strategy.train(stream[0], eval_streams=[])
            strategy.train_epochs = self.epochs
        return lambda: strategy.train(stream[1], eval_streams=[])


def as_batch(inputs: Tensor) -> Batch:
    """Signals of full length as a Batch; labels and indices are not used by a model."""
    lengths = torch.full((len(inputs),), inputs.shape[-1])
    return Batch(inputs, lengths, lengths, lengths)


class _TensorModel(nn.Module):
    """The classifier as Avalanche's strategies call it."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor) -> Tensor:
        return self.model(as_batch(inputs))


class _Tensors(torch.utils.data.TensorDataset):
    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        super().__init__(inputs, labels)
        self.targets = labels.tolist()


def main() -> None:
    quick = "--quick" in sys.argv
    warnings.filterwarnings("ignore", message="No loggers specified|no QP solver found")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="avalanche")
    bench = Bench(epochs=1 if quick else 4)
    seconds = time_all(
        {
            "finetune, ours": lambda: bench.ours("finetune"),
            "finetune, bare loop": lambda: bench.bare(replay=False),
            "finetune, Avalanche Naive": lambda: bench.avalanche(replay=False),
            "replay, ours": lambda: bench.ours("replay"),
            "replay, bare loop": lambda: bench.bare(replay=True),
            "replay, Avalanche Replay": lambda: bench.avalanche(replay=True),
        },
        repeats=2 if quick else 7,
    )
    figures = {
        "finetune_vs_bare": ratio(seconds, "finetune, ours", "finetune, bare loop"),
        "replay_vs_bare": ratio(seconds, "replay, ours", "replay, bare loop"),
        "finetune_vs_avalanche": ratio(seconds, "finetune, ours", "finetune, Avalanche Naive"),
        "replay_vs_avalanche": ratio(seconds, "replay, ours", "replay, Avalanche Replay"),
    }
    print_figures("one training step", seconds, figures, per=bench.steps)


if __name__ == "__main__":
    main()
