"""Avalanche's own strategies on our streams: what they read, and that they learn."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from avalanche.evaluation.metrics import accuracy_metrics
from avalanche.training import supervised
from avalanche.training.plugins import EvaluationPlugin
from torch import nn

from continual.scenarios import SCENARIOS
from continual.scenarios.avalanche_benchmark import as_benchmark
from continual.scenarios.avalanche_tensors import TensorTower
from multimodal.batch import Batch
from multimodal.encoders.compact import CompactEncoder
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.speech import SpeechConfig
from multimodal.recordings import Manifest, Recording
from multimodal.signals import SignalCache
from tests.toy import toy_chords, toy_manifest

STREAMS: dict[str, dict[str, Any]] = {
    "class_incremental": {"num_experiences": 2},
    "domain_incremental": {},
    "si_blurry": {"num_tasks": 2, "stochastic": False},
}
STRATEGIES: dict[str, dict[str, Any]] = {
    "Naive": {},
    "Replay": {"mem_size": 16},
    "DER": {"mem_size": 16, "batch_size_mem": 8},
    "ER_ACE": {"mem_size": 16, "batch_size_mem": 8},
    "LwF": {"alpha": 0.5, "temperature": 2.0},
    "EWC": {"ewc_lambda": 0.1},
    "AGEM": {"patterns_per_exp": 8, "sample_size": 8},
    "MAS": {"lambda_reg": 0.1},
    "MIR": {"mem_size": 16, "batch_size_mem": 8, "subsample": 16},
    "GDumb": {"mem_size": 16},
    "StreamingLDA": {"input_size": 16, "num_classes": 4, "output_layer_name": "features"},
}
REMEMBER = ("Replay", "DER", "ER_ACE", "GDumb", "StreamingLDA")


class Silent:
    """A logger."""

    def log_metrics(self, values: Any) -> None:
        pass


@pytest.fixture(scope="module")
def tones() -> SimpleNamespace:
    """Tones of different lengths, of speakers who stand on both sides of the split."""
    rows = tuple(replace(r, group=r.group.split("-")[1]) for r in toy_manifest(groups=2))
    names = tuple(f"tone_{c}" for c in range(4))
    manifest = Manifest("toy", "speech", names, rows, "1", group_overlap="speakers are shared")
    adapter = SpeechConfig().build()
    return SimpleNamespace(
        manifest=manifest, adapter=adapter, signals=SignalCache(manifest, adapter, progress=False)
    )


def stream_of(name: str, manifest: Manifest) -> Any:
    config: Any = SCENARIOS.parse({"name": name, **STREAMS[name]})
    return config.build(manifest, 0)


def model_of(adapter: Any) -> nn.Sequential:
    torch.manual_seed(0)
    encoder = CompactEncoder(adapter.channels, width=16, depth=1, heads=2, dropout=0.0)
    return nn.Sequential(OrderedDict(features=TensorTower(adapter, encoder), head=nn.Linear(16, 4)))


def make(name: str, model: nn.Module, epochs: int = 8) -> Any:
    """One of Avalanche's strategies as its users make it."""
    parts: dict[str, Any] = {
        "model": model,
        "optimizer": torch.optim.Adam(model.parameters(), lr=1e-2),
        "criterion": nn.CrossEntropyLoss(),
        "train_mb_size": 8,
        "train_epochs": epochs,
        "eval_mb_size": 16,
        "evaluator": EvaluationPlugin(
            accuracy_metrics(experience=True, stream=True), loggers=[Silent()]
        ),
        **STRATEGIES[name],
    }
    if name == "StreamingLDA":
        parts["slda_model"] = parts.pop("model")
        del parts["optimizer"]
    return getattr(supervised, name)(**parts)


def accuracies(strategy: Any, benchmark: Any) -> list[float]:
    found = strategy.eval(benchmark.test_stream)
    return [v for k, v in sorted(found.items()) if k.startswith("Top1_Acc_Exp")]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_learns(name: str, tones) -> None:
    """Above chance (1/2 within an experience): what it met last, and with a memory all of it."""
    stream = stream_of("class_incremental", tones.manifest)
    benchmark = as_benchmark(stream, tones.signals.gather, tensors=True)
    strategy = make(name, model_of(tones.adapter))
    torch.manual_seed(0)
    first, second = benchmark.train_stream
    strategy.train(first, eval_streams=[])
    assert accuracies(strategy, benchmark)[0] > 0.6
    strategy.train(second, eval_streams=[])
    past, last = accuracies(strategy, benchmark)
    assert last > 0.6 or name in ("LwF", "MAS", "MIR")
    assert past > 0.6 or name not in REMEMBER


@pytest.mark.parametrize("scenario", ["domain_incremental", "si_blurry"])
@pytest.mark.parametrize("name", ["Replay", "DER"])
def test_every_scenario_is_learned(name: str, scenario: str, tones) -> None:
    """Far above chance, 1/4."""
    stream = stream_of(scenario, tones.manifest)
    benchmark = as_benchmark(stream, tones.signals.gather, tensors=True)
    strategy = make(name, model_of(tones.adapter), epochs=6)
    torch.manual_seed(0)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[])
    assert accuracies(strategy, benchmark)[-1] > 0.6
    online = stream.online is not None
    classes = [set(e.classes_in_this_experience) for e in benchmark.train_stream]
    assert classes == [set(e.classes) for e in stream.experiences]
    assert len(benchmark.train_stream) == 2
    assert [len(e.dataset) for e in benchmark.test_stream] == [8, 16 if online else 8]


def test_the_order_of_an_online_stream_is_kept(tones) -> None:
    """With shuffle=False, as the docstring says."""
    stream = stream_of("si_blurry", tones.manifest)
    benchmark = as_benchmark(stream, tones.signals.gather, tensors=True)
    met: list[torch.Tensor] = []

    class Watch(nn.Linear):
        def forward(self, signals: torch.Tensor) -> torch.Tensor:
            met.extend(signals)
            return super().forward(signals[:, 0, : self.in_features])

    strategy = make("Naive", Watch(10, 4), epochs=1)
    for experience in benchmark.train_stream:
        strategy.train(experience, eval_streams=[], shuffle=False)
    rows = np.concatenate([e.train for e in stream.experiences])
    expected = tones.signals.gather(rows)
    assert len(met) == len(rows)
    for got, signal, length in zip(met, expected.inputs, expected.lengths, strict=True):
        assert torch.equal(got[:, :length], signal[:, :length])
        assert not got[:, length:].any()


class TestElements:
    """``[tensor, label, 0]``, of one shape."""

    def test_they_are_the_signals_padded_to_the_longest(self, tones) -> None:
        stream = stream_of("class_incremental", tones.manifest)
        benchmark = as_benchmark(stream, tones.signals.gather, tensors=True)
        longest = int(tones.signals.lengths(stream.rows).max())
        for part in ("train", "test"):
            for task, own in zip(benchmark.streams[part], stream.experiences, strict=True):
                rows = getattr(own, part)
                assert len(task.dataset) == len(rows)
                for (signal, label, task_label), row in zip(task.dataset, rows, strict=True):
                    canonical = tones.adapter.load(tones.manifest.recordings[row])
                    assert signal.shape == (1, longest)
                    assert torch.equal(signal[:, : canonical.shape[1]], canonical)
                    assert not signal[:, canonical.shape[1] :].any()
                    assert (label, task_label) == (tones.manifest.labels[row], 0)
        dataset = benchmark.train_stream[0].dataset
        signals, labels, tasks = dataset.collate_fn([dataset[0], dataset[1]])
        assert signals.shape == (2, 1, longest)
        assert labels.dtype == tasks.dtype == torch.int64

    def test_a_length_cuts_and_pads(self, tones) -> None:
        stream = stream_of("class_incremental", tones.manifest)
        for length in (100, 5000):
            benchmark = as_benchmark(stream, tones.signals.gather, tensors=True, length=length)
            signal = benchmark.train_stream[0].dataset[0][0]
            row = stream.experiences[0].train[0]
            canonical = tones.adapter.load(tones.manifest.recordings[row])
            assert signal.shape == (1, length)
            kept = min(length, canonical.shape[1])
            assert torch.equal(signal[:, :kept], canonical[:, :kept])

    def test_each_recording_is_decoded_once(self, tones, monkeypatch) -> None:
        loads: list[str] = []
        load = type(tones.adapter).load

        def counted(self: Any, recording: Recording) -> torch.Tensor:
            loads.append(recording.uid)
            return load(self, recording)

        monkeypatch.setattr(type(tones.adapter), "load", counted)
        signals = SignalCache(tones.manifest, tones.adapter, progress=False)
        stream = stream_of("class_incremental", tones.manifest)
        benchmark = as_benchmark(stream, signals.gather, tensors=True)
        strategy = make("Replay", model_of(tones.adapter), epochs=2)
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[])
        assert sorted(loads) == sorted(tones.manifest.recordings[r].uid for r in stream.rows)

    def test_embeddings_stand_in_the_place_of_signals(self, tones) -> None:
        stream = stream_of("class_incremental", tones.manifest)
        table = torch.randn(len(tones.manifest), 7, generator=torch.Generator().manual_seed(0))

        def gather(rows: torch.Tensor) -> Batch:
            return replace(tones.signals.annotations(rows.numpy()), embeddings=table[rows])

        benchmark = as_benchmark(stream, gather, tensors=True)
        dataset = benchmark.train_stream[1].dataset
        row = stream.experiences[1].train[3]
        assert torch.equal(dataset[3][0], table[row])
        with pytest.raises(UserError, match=r"length=9\): .*leave it out .*one shape"):
            as_benchmark(stream, gather, tensors=True, length=9)

    @pytest.mark.parametrize("modality", ["audio", "speech", "ecg", "xray", "video"])
    def test_a_tower_reads_padded_tensors_as_batches(self, modality: str) -> None:
        """Of every modality: as if each recording had come in its own length."""
        config: Any = MODALITIES.parse(modality)
        adapter = config.build()
        shapes = {
            "audio": [(1, 9000), (1, 12000)],
            "speech": [(1, 4000), (1, 6000)],
            "ecg": [(12, 700), (12, 1000)],
            "xray": [(1, 224, 224)] * 2,
            "video": [(8, 3, 32, 32), (12, 3, 32, 32)],
        }[modality]
        rows = tuple(
            Recording(f"{split}{i}", (i,), split, make=lambda i=i: signal_of(shapes[i], i))
            for i in range(2)
            for split in ("train", "test")
        )
        manifest = Manifest("noise", modality, ("a", "b"), rows, "1", split_rule="any")
        signals = SignalCache(manifest, adapter, progress=False)
        config = SCENARIOS.parse({"name": "class_incremental", "num_experiences": 1})
        stream = config.build(manifest, 0)
        dataset = as_benchmark(stream, signals.gather, tensors=True).train_stream[0].dataset
        padded = torch.stack([element[0] for element in dataset])
        tower = TensorTower(
            adapter, CompactEncoder(adapter.channels, axes=adapter.axes, width=8, depth=1, heads=2)
        ).eval()
        batch = signals.gather(stream.experiences[0].train)
        assert torch.equal(tower._lengths(padded), batch.lengths)
        assert torch.allclose(tower(padded), tower.encode(batch), atol=1e-6)
        assert not torch.allclose(*tower(padded))


def signal_of(shape: tuple[int, ...], seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).random(shape)
    return (noise * 255).astype(np.uint8) if len(shape) == 4 else noise.astype(np.float32)


class TestRefusals:
    def test_several_labels(self) -> None:
        manifest, adapter = toy_chords(), SpeechConfig().build()
        signals = SignalCache(manifest, adapter, progress=False)
        stream = stream_of("class_incremental", manifest)
        with pytest.raises(UserError, match=r"tensors=True\): .* 'chords' have several labels"):
            as_benchmark(stream, signals.gather, tensors=True)

    def test_a_length_that_means_nothing(self, tones) -> None:
        stream = stream_of("class_incremental", tones.manifest)
        with pytest.raises(UserError, match="a length goes with tensors=True"):
            as_benchmark(stream, tones.signals.gather, length=8)
        with pytest.raises(UserError, match="give at least 1 step"):
            as_benchmark(stream, tones.signals.gather, tensors=True, length=0)

    @pytest.mark.parametrize("name", ["Naive", "Replay", "ER_ACE"])
    def test_rows_are_not_data(self, name: str, tones) -> None:
        """Avalanche's strategies on the benchmark of LearnerStrategy: one line, at the start."""
        stream = stream_of("class_incremental", tones.manifest)
        strategy = make(name, nn.Embedding(len(tones.manifest), 4))
        with pytest.raises(UserError, match=r"rows of a manifest.*tensors=True"):
            strategy.train(as_benchmark(stream, tones.signals.gather).train_stream[0])

    def test_tensors_are_not_rows(self, data, stream, make_learner, make_strategy) -> None:
        strategy, _ = make_strategy(make_learner("finetune"))
        benchmark = as_benchmark(stream, data.signals.gather, tensors=True)
        with pytest.raises(UserError, match=r"no rows of a manifest.*without tensors"):
            strategy.train(benchmark.train_stream[0], eval_streams=[])
        with pytest.raises(UserError, match=r"no rows of a manifest.*without tensors"):
            strategy.eval(benchmark.test_stream)

    def test_another_experience_than_the_next(self, make_learner, make_strategy) -> None:
        strategy, benchmark = make_strategy(make_learner("finetune"))
        with pytest.raises(UserError, match="experience given is not number 1 of the 2"):
            strategy.train(benchmark.train_stream[1], eval_streams=[])
