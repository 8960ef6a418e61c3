"""Multi-label metrics against their definitions and scikit-learn, and multi-label streams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.learner import build_learner
from benchmarks.runs.data import open_data
from continual.evaluation import Evaluator
from continual.scenarios import SCENARIOS, Stream
from multimodal.errors import UserError
from multimodal.evaluation.multi_label import auroc, average_precision, macro
from multimodal.recordings import Manifest, Recording
from tests.toy import toy_chords, toy_data

SCORES = st.sampled_from([-np.inf, -1.0, 0.0, 0.25, 0.5, 1.0])
CELLS = st.sampled_from([0.0, 1.0, np.nan])


def pairs(score: np.ndarray, target: np.ndarray) -> float:
    """AUROC by its definition: over all pairs of a positive and a negative."""
    wins = [(p > q) + 0.5 * (p == q) for p in score[target == 1] for q in score[target == 0]]
    return float(np.mean(wins)) if wins else np.nan


@settings(max_examples=80, deadline=None)
@given(arrays(np.float64, (12, 3), elements=SCORES), arrays(np.float64, (12, 3), elements=CELLS))
def test_auroc_and_average_precision_are_the_peers(scores, targets) -> None:
    areas, precisions = auroc(scores, targets), average_precision(scores, targets)
    for c in range(3):
        known = ~np.isnan(targets[:, c])
        score, target = scores[known, c], targets[known, c]
        np.testing.assert_allclose(areas[c], pairs(score, target), atol=1e-12)
        if 0 < target.sum() < len(target):
            finite = np.maximum(score, -9)  # scikit-learn takes no infinity
            np.testing.assert_allclose(areas[c], roc_auc_score(target, finite), atol=1e-12)
            peer = average_precision_score(target, finite)
            np.testing.assert_allclose(precisions[c], peer, atol=1e-12)
        else:
            assert np.isnan(areas[c])
            assert np.isnan(precisions[c])


def test_macro_leaves_undefined_classes_out() -> None:
    assert macro([0.5, np.nan, 1.0]) == 0.75
    assert macro([np.nan]) is None


def test_bad_scores_and_targets_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        auroc([[np.nan]], [[1.0]])
    with pytest.raises(ValueError, match=r"\(N, C\)"):
        auroc([[0.0, 1.0]], [[1.0]])
    with pytest.raises(ValueError, match="0, 1 or NaN"):
        average_precision([[0.0]], [[0.5]])


def manifest(*labels: tuple[int, ...], classes: int = 3, split: str = "train") -> Manifest:
    rows = [
        Recording(f"{i:02d}", own, split, make=lambda: np.zeros((1, 160), np.float32))
        for i, own in enumerate(labels)
    ]
    return Manifest("m", "speech", tuple("abc"[:classes]), tuple(rows), "1")


def test_the_main_label_is_the_one_with_the_fewest_recordings_so_far() -> None:
    # "a" never stands alone, yet it gets a recording.
    data = manifest((0, 1), (0, 1), (1,), (), (0, 1, 2))
    assert data.multi_label
    assert data.labels.tolist() == [0, 1, 1, -1, 2]
    assert data.targets.tolist() == [[1, 1, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sets(st.integers(0, 2), max_size=3), min_size=1, max_size=20))
def test_main_labels_are_labels(sets) -> None:
    data = manifest(*(tuple(sorted(s)) for s in sets))
    for main, own in zip(data.labels.tolist(), sets, strict=True):
        assert main in own if own else main == -1


def test_unknown_labels_are_nan_and_part_of_the_content() -> None:
    rows = [Recording("0", (0,), "train", unknown=(2,)), Recording("1", (1,), "train")]
    data = Manifest("m", "xray", ("a", "b", "c"), tuple(rows), "1")
    assert np.array_equal(data.targets, [[1, 0, np.nan], [0, 1, 0]], equal_nan=True)
    certain = Manifest("m", "xray", ("a", "b", "c"), (Recording("0", (0,), "train"), rows[1]), "1")
    assert data.content_hash != certain.content_hash
    assert data.multi_label
    assert not certain.multi_label


def class_incremental(data: Manifest, count: int, seed: int = 0) -> Stream:
    config = SCENARIOS.parse({"name": "class_incremental", "num_experiences": count})
    return config.build(data, seed)  # type: ignore[attr-defined]


def test_every_training_recording_stands_in_one_experience_and_all_are_tested_in_each() -> None:
    data = toy_chords()
    stream = class_incremental(data, 2)
    train = np.concatenate([e.train for e in stream.experiences])
    assert sorted(train.tolist()) == data.indices("train").tolist()
    for experience in stream.experiences:
        assert experience.test.tolist() == data.indices("test").tolist()
        main = set(data.labels[experience.train].tolist())
        assert main <= {*experience.classes, -1}
    bare = [int((data.labels[e.train] < 0).sum()) for e in stream.experiences]
    assert max(bare) - min(bare) <= 1
    assert sum(bare) > 0


def test_an_experience_without_a_class_that_can_be_scored_is_refused() -> None:
    rows = [Recording(str(i), (i,), "train") for i in range(3)]
    rows += [Recording("t0", (0, 1), "test"), Recording("t1", (0,), "test")]
    data = Manifest("m", "xray", ("a", "b", "c"), tuple(rows), "1")
    with pytest.raises(UserError, match="no test recording of class"):
        class_incremental(data, 3)


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


def test_main_labels_balance_within_a_split() -> None:
    rows = [Recording(f"a{i}", (0,), "test") for i in range(10)]
    rows += [Recording(f"b{i}", (0, 1), "train") for i in range(6)]
    data = Manifest("m", "xray", ("a", "b"), tuple(rows), "1")
    assert sorted(data.labels[data.indices("train")].tolist()) == [0, 0, 0, 1, 1, 1]


def test_an_experience_without_labels_is_refused() -> None:
    rows = [
        Recording(f"{s}{i}", (i,), s, group=f"g{i}") for i in range(2) for s in ("train", "test")
    ]
    rows += [Recording(f"n{s}", (), s, group="none") for s in ("train", "test")]
    data = Manifest("m", "xray", ("a", "b"), tuple(rows), "1", group_overlap="on purpose")
    config = SCENARIOS.parse("domain_incremental")
    with pytest.raises(UserError, match="none of its training recordings has a label"):
        config.build(data, 0)  # type: ignore[attr-defined]


def test_one_recording_without_labels_is_no_narrow_class() -> None:
    data = toy_chords(train=24)
    bare = [i for i in data.indices("train") if data.labels[i] < 0]
    data = data.select([i for i in range(len(data)) if i not in bare[1:]])
    config = SCENARIOS.parse(
        {"name": "class_incremental", "num_experiences": 2, "validation_fraction": 0.3}
    )
    stream = config.build(data, 0)  # type: ignore[attr-defined]
    assert len(stream.experiences[0].validation)


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
