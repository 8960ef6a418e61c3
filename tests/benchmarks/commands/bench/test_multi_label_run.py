"""Runs on multi-label data: what learners get, metrics, test sets, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.learner import build_learner
from benchmarks.runs.data import open_data
from continual.evaluation import Evaluator
from continual.scenarios import SCENARIOS, Stream
from multimodal.errors import UserError
from multimodal.evaluation.multi_label import auroc
from multimodal.recordings import Manifest
from tests.toy import toy_chords, toy_data


def class_incremental(data: Manifest, count: int, seed: int = 0) -> Stream:
    config = SCENARIOS.parse({"name": "class_incremental", "num_experiences": count})
    return config.build(data, seed)  # type: ignore[attr-defined]


def test_the_learner_gets_targets_and_hears_of_exposed_classes_only() -> None:
    grid = Cells(RunConfig.parse(toy_data(dataset="toy_chords", learners=["finetune"])))
    stream, config = grid.streams[0], grid.cells[0]
    learner = build_learner(config, grid.data, torch.device("cpu"))
    batch = grid.data.signals.gather(stream.experiences[0].train)
    assert batch.labels.shape == (len(batch), 4)
    first = set(stream.experiences[0].classes)
    learner.model.expose(first)  # type: ignore[operator]
    learner.loss(batch, None).value.backward()
    head = learner.model.head.weight.grad  # type: ignore[union-attr]
    moved = {c for c in range(4) if head[c].abs().sum() > 0}  # type: ignore[index]
    assert moved == first


@pytest.mark.parametrize("learner", ["replay", "joint", "majority", "linear_probe"])
def test_a_multi_label_run_has_auroc_metrics(learner: str, tmp_path) -> None:
    data = toy_data(dataset="toy_chords", learners=[learner], output_dir=str(tmp_path))
    data["training"] = {**data["training"], "epochs": 25, "learning_rate": 3e-3}  # type: ignore[dict-item]
    metrics = Cells(RunConfig.parse(data)).run_cell(0).metrics
    assert "accuracy_matrix" not in metrics
    assert "confusion_matrix" not in metrics
    assert len(metrics["auroc_matrix"]) == (1 if learner == "joint" else 2)
    assert set(metrics["per_class_auroc"]) == {f"tone_{c}" for c in range(4)}
    assert metrics["num_scored_classes"] == 4
    if learner == "majority":
        assert metrics["macro_auroc"] == 0.5
    if learner == "joint":
        assert metrics["macro_auroc"] > 0.8
        assert metrics["mean_average_precision"] > 0.8
    else:
        # Classes still to come score alike everywhere: chance.
        assert metrics["auroc_matrix"][0][1] == 0.5


def test_er_ace_refuses_multi_label_data(tmp_path) -> None:
    data = toy_data(dataset="toy_chords", learners=["er_ace"], output_dir=str(tmp_path))
    with pytest.raises(UserError, match="er_ace"):
        Cells(RunConfig.parse(data))


def test_a_test_set_scores_its_own_classes(tmp_path) -> None:
    config = RunConfig.parse(toy_data(dataset="toy_chords", output_dir=str(tmp_path)))
    manifest = toy_chords()
    stream, data = class_incremental(manifest, 2), open_data(config, manifest)
    learner = build_learner(config, data, torch.device("cpu"))
    learner.model.expose(range(4))  # type: ignore[operator]
    evaluator = Evaluator(learner, stream, lambda rows: iter([data.signals.gather(rows)]))
    scores, details = evaluator.test()
    test = manifest.indices("test")
    with torch.no_grad():
        logits = learner.model.eval()(data.signals.gather(test)).numpy()
    areas = auroc(logits, manifest.targets[test])
    expected = [float(np.mean(areas[list(e.classes)])) for e in stream.experiences]
    np.testing.assert_allclose(scores, expected)
    np.testing.assert_allclose(details["macro_auroc"], areas.mean())


def test_a_memory_that_is_too_small_for_herding_is_refused_at_the_start(tmp_path) -> None:
    learner = {"name": "replay", "policy": "herding", "memory_size": 4}
    data = toy_data(dataset="toy_chords", learners=[learner], output_dir=str(tmp_path))
    with pytest.raises(UserError, match="memory_size=4"):
        Cells(RunConfig.parse(data))


def test_scores_that_are_no_numbers_name_the_setting(tmp_path) -> None:
    config = RunConfig.parse(toy_data(dataset="toy_chords", output_dir=str(tmp_path)))
    manifest = toy_chords()
    stream, data = class_incremental(manifest, 2), open_data(config, manifest)
    learner = build_learner(config, data, torch.device("cpu"))
    learner.model.head.weight.data.fill_(float("nan"))  # type: ignore[union-attr]
    evaluator = Evaluator(learner, stream, lambda rows: iter([data.signals.gather(rows)]))
    with pytest.raises(UserError, match="learning_rate"):
        evaluator.test()
