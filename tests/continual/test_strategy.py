from __future__ import annotations

import numpy as np
import pytest
import torch

from continual.evaluation import evaluating, predict
from continual.strategy import Position
from tests.continual.random_states import random_states, restore


def weights(learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in learner.model.parameters()])


def train(strategy, benchmark) -> None:
    for experience in list(benchmark.train_stream)[strategy.position.experience :]:
        strategy.train(experience, eval_streams=[])


def test_equals_a_bare_loop_bit_for_bit(data, stream, make_learner, make_strategy) -> None:
    learner = make_learner("finetune")
    strategy, benchmark = make_strategy(learner)
    torch.manual_seed(5)
    train(strategy, benchmark)

    other = make_learner("finetune").model
    optimizer = torch.optim.AdamW(other.parameters(), lr=3e-3)
    torch.manual_seed(5)
    other.train()
    exposed: set[int] = set()
    for index, experience in enumerate(stream.experiences):
        optimizer.state.clear()
        exposed |= set(experience.classes)
        hidden = [c for c in range(4) if c not in exposed]
        for epoch in range(2):
            key = np.random.SeedSequence([1, index, epoch]).generate_state(1)
            order = torch.randperm(
                len(experience.train), generator=torch.Generator().manual_seed(int(key[0]))
            )
            for rows in torch.as_tensor(experience.train)[order].split(6):
                batch = data.signals.gather(rows)
                optimizer.zero_grad()
                logits = other.head(other.embed(batch))
                logits[:, hidden] = float("-inf")
                torch.nn.functional.cross_entropy(logits, batch.labels).backward()
                optimizer.step()
    assert torch.equal(weights(learner), torch.cat([p.flatten() for p in other.parameters()]))


def test_every_training_row_is_seen_once_an_epoch(make_learner, make_strategy) -> None:
    learner = make_learner("finetune")
    seen: list[int] = []
    strategy, benchmark = make_strategy(
        learner, after_step=lambda s: seen.extend(s.mbatch[0].indices.tolist())
    )
    train(strategy, benchmark)
    first, second = (sorted(r.tolist()) for r in strategy.rows)
    assert sorted(seen[: 2 * len(first)]) == sorted(first * 2)
    assert sorted(seen[2 * len(first) :]) == sorted(second * 2)
    assert strategy.position == Position(2, 0, 0, total_steps=12)


@pytest.mark.parametrize(
    "name", ["finetune", "replay", "er_ace", "clib", "linear_probe", "cumulative"]
)
@pytest.mark.parametrize("stop", [1, 3, 6, 7, 10])
def test_resumed_training_equals_uninterrupted(name, stop, make_learner, make_strategy) -> None:
    def finish(learner, after_step, state=None) -> torch.Tensor:
        strategy, benchmark = make_strategy(learner, after_step=after_step)
        if state is not None:
            learner.load_state_dict(state["learner"])
            strategy.resume(Position(**state["position"]), state["optimizer"])
            restore(state["random"])
        train(strategy, benchmark)
        return weights(learner)

    saved: dict = {}

    def snapshot(strategy) -> None:
        from copy import deepcopy
        from dataclasses import asdict

        if strategy.position.total_steps == stop:
            saved.update(
                learner=deepcopy(strategy.learner.state_dict()),
                optimizer=deepcopy(strategy.optimizer.state_dict()),
                position=asdict(strategy.position),
                random=random_states(),
            )

    torch.manual_seed(5)
    whole = finish(make_learner(name), snapshot)
    assert saved
    torch.manual_seed(99)
    assert torch.equal(whole, finish(make_learner(name), None, saved))


def test_evaluation_leaves_training_state_alone(data, make_learner, make_strategy) -> None:
    learner = make_learner("linear_probe")
    strategy, _ = make_strategy(learner)
    learner.model.train()
    learner.model.encoder.eval()
    before = {m: m.training for m in learner.model.modules()}
    state = torch.get_rng_state()
    first = predict(learner, strategy.batches(np.arange(10))).labels.numpy()
    again = predict(learner, strategy.batches(np.arange(10))).labels.numpy()
    assert np.array_equal(first, again)
    assert {m: m.training for m in learner.model.modules()} == before
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(RuntimeError, match="boom"), evaluating(learner):
        raise RuntimeError("boom")
    assert {m: m.training for m in learner.model.modules()} == before


def test_memory_recordings_are_gathered_beside_the_stream(make_learner, make_strategy) -> None:
    learner = make_learner("replay", memory_size=5, memory_batch_size=3)
    sizes: list[tuple[int, int | None]] = []
    loss = learner.loss
    learner.loss = lambda batch, memory: (  # type: ignore[method-assign]
        sizes.append((len(batch), None if memory is None else len(memory))),
        loss(batch, memory),
    )[1]
    strategy, benchmark = make_strategy(learner)
    train(strategy, benchmark)
    half = len(sizes) // 2
    assert {m for _, m in sizes[:half]} == {None}
    assert {m for _, m in sizes[half:]} == {3}
    assert len(learner.memory) == 5


class TestAvalanche:
    """Avalanche's own plugins, metrics and loggers on our strategy."""

    def test_its_ewc_and_lwf_plugins_change_the_result(self, make_learner, make_strategy) -> None:
        from avalanche.training.plugins import EWCPlugin, LwFPlugin

        results = []
        for plugins in ([], [EWCPlugin(ewc_lambda=100.0)], [LwFPlugin(alpha=5.0)]):
            learner = make_learner("finetune")
            strategy, benchmark = make_strategy(learner, plugins=plugins)
            torch.manual_seed(5)
            strategy.train(benchmark.train_stream[0], eval_streams=[])
            first = weights(learner)
            strategy.train(benchmark.train_stream[1], eval_streams=[])
            results.append((first, weights(learner)))
        plain, ewc, lwf = results
        assert torch.equal(plain[0], ewc[0])
        assert not torch.equal(plain[1], ewc[1])
        assert not torch.equal(plain[1], lwf[1])
        moved = [(last - first).norm() for first, last in results]
        assert moved[1] < moved[0], "the EWC penalty holds the weights back"

    def test_its_evaluation_plugin_and_csv_logger_work(
        self, tmp_path, data, stream, make_learner, make_strategy
    ) -> None:
        from avalanche.evaluation.metrics import accuracy_metrics, loss_metrics
        from avalanche.logging import CSVLogger
        from avalanche.training.plugins import EvaluationPlugin

        logger = CSVLogger(log_folder=str(tmp_path))
        evaluator = EvaluationPlugin(
            accuracy_metrics(minibatch=True, epoch=True, experience=True, stream=True),
            loss_metrics(experience=True),
            loggers=[logger],
        )
        learner = make_learner("replay")
        strategy, benchmark = make_strategy(learner, evaluator=evaluator)
        for experience in benchmark.train_stream:
            strategy.train(experience, eval_streams=[])
            last = strategy.eval(benchmark.test_stream)
        logger.close()
        rows = np.concatenate([e.test for e in stream.experiences])
        predicted = predict(learner, strategy.batches(rows)).labels.numpy()
        ours = np.mean(predicted == data.manifest.labels[rows])
        theirs = last["Top1_Acc_Stream/eval_phase/test_stream"]
        assert theirs == pytest.approx(float(ours))
        lines = (tmp_path / "eval_results.csv").read_text().splitlines()
        assert len(lines) == 1 + 2 * 2
        assert (tmp_path / "training_results.csv").read_text().count("\n") > 2

    def test_class_timeline_and_element_format(self, data, stream, make_strategy, make_learner):
        _, benchmark = make_strategy(make_learner("finetune"))
        first, second = benchmark.train_stream
        assert set(first.classes_in_this_experience) == set(stream.experiences[0].classes)
        assert set(second.previous_classes) == set(stream.experiences[0].classes)
        dataset = second.dataset
        batch, labels, _ = dataset.collate_fn([dataset[0], dataset[1]])
        assert batch.indices.tolist() == stream.experiences[1].train[:2].tolist()
        assert torch.equal(labels, batch.labels)

    def test_its_interactive_logger_evaluates(self, make_strategy, make_learner, capsys):
        from avalanche.evaluation.metrics import accuracy_metrics
        from avalanche.logging import InteractiveLogger
        from avalanche.training.plugins import EvaluationPlugin

        evaluator = EvaluationPlugin(accuracy_metrics(stream=True), loggers=[InteractiveLogger()])
        strategy, benchmark = make_strategy(make_learner("majority"), evaluator=evaluator)
        strategy.eval(benchmark.test_stream)
        assert "Top1_Acc_Stream/eval_phase/test_stream" in capsys.readouterr().out
