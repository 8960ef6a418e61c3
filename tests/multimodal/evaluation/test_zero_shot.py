"""Zero-shot classification against brute force, scikit-learn and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import binom
from sklearn.metrics import average_precision_score, recall_score, roc_auc_score

from multimodal.errors import UserError
from multimodal.evaluation import zero_shot as module
from multimodal.evaluation.class_vectors import ClassVectors, class_vectors
from multimodal.evaluation.embeddings import unit_rows
from multimodal.evaluation.prompts import Prompts
from multimodal.evaluation.zero_shot import ranked, zero_shot, zero_shot_multi_label
from tests.multimodal.evaluation.towers import by_table, constant, hashed

GRID = st.sampled_from([-1.0, 0.0, 1.0, 2.0])  # coarse, so that there are ties


def classes_of(vectors: np.ndarray) -> ClassVectors:
    names = tuple(f"class {c}" for c in range(len(vectors)))
    return ClassVectors(names, unit_rows(vectors), "none")


def pessimistic(scores: np.ndarray, own: int) -> int:
    others = np.delete(scores, own)
    return 1 + sum(other >= scores[own] - 1e-12 for other in others)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, (9, 2), elements=GRID),
    arrays(np.float64, (4, 2), elements=GRID),
    arrays(np.int64, 9, elements=st.integers(0, 3)),
)
def test_metrics_are_brute_force(signals, vectors, labels) -> None:
    found = zero_shot(signals, labels, classes_of(vectors), replicates=0)
    scores = unit_rows(signals).numpy() @ unit_rows(vectors).numpy().T
    ranks = np.array([pessimistic(s, own) for s, own in zip(scores, labels, strict=True)])
    np.testing.assert_array_equal(found.ranks, ranks)
    for row, answer in zip(scores, found.predictions, strict=True):
        assert answer == min(c for c in range(4) if row[c] >= row.max() - 1e-12)
    assert found.metrics["zero_shot_top1"] == np.mean(ranks == 1)
    right = np.where(ranks == 1, labels, 9)
    recall = recall_score(labels, right, average="macro", labels=np.unique(labels))
    assert found.metrics["zero_shot_mean_per_class_recall"] == pytest.approx(recall)
    assert found.metrics["zero_shot_chance"] == 0.25
    assert found.metrics["zero_shot_majority"] == np.bincount(labels).max() / 9
    assert "zero_shot_top5" not in found.metrics


def test_top5_needs_ten_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    signals, vectors = generator.normal(size=(200, 6)), generator.normal(size=(10, 6))
    labels = generator.integers(10, size=200)
    found = zero_shot(signals, labels, classes_of(vectors), replicates=200)
    scores = unit_rows(signals).numpy() @ unit_rows(vectors).numpy().T
    best = np.argsort(-scores, axis=1)[:, :5]
    assert found.metrics["zero_shot_top5"] == np.mean((best == labels[:, None]).any(axis=1))
    for key, (low, high) in found.intervals.items():
        assert low <= found.metrics[key] <= high
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 70)  # blocks of seven recordings
    again = zero_shot(signals, labels, classes_of(vectors), replicates=200)
    assert again.metrics == found.metrics
    assert again.intervals == found.intervals


def test_a_collapsed_model_scores_nothing() -> None:
    classes = class_vectors([f"c{i}" for i in range(12)], Prompts(templates=("{}",)), constant)
    signals = np.random.default_rng(0).normal(size=(40, 3))
    found = zero_shot(signals, np.arange(40) % 12, classes)
    assert found.metrics["zero_shot_top1"] == 0
    assert found.metrics["zero_shot_top5"] == 0
    assert (found.ranks == 12).all()
    assert any("prompt or checkpoint collapse: 'c0' gets 100%" in w for w in found.warnings)


def test_random_embeddings_are_at_chance() -> None:
    generator = np.random.default_rng(1)
    labels = np.arange(2_000) % 50
    found = zero_shot(
        generator.normal(size=(2_000, 64)), labels, classes_of(generator.normal(size=(50, 64)))
    )
    low, high = binom.interval(0.999, 2_000, 1 / 50)
    assert low <= found.metrics["zero_shot_top1"] * 2_000 <= high


def test_classes_without_recordings_are_told() -> None:
    found = zero_shot(np.eye(3)[:2], [0, 1], classes_of(np.eye(3)), replicates=0)
    assert found.warnings == ("1 of 3 classes have no recording here: class 2",)
    assert found.metrics["zero_shot_mean_per_class_recall"] == 1.0


def test_permuted_classes_give_permuted_answers() -> None:
    generator = np.random.default_rng(2)
    signals, vectors = generator.normal(size=(30, 4)), generator.normal(size=(6, 4))
    labels, order = generator.integers(6, size=30), generator.permutation(6)
    first = zero_shot(signals, labels, classes_of(vectors), replicates=0)
    place = np.argsort(order)
    second = zero_shot(signals, place[labels], classes_of(vectors[order]), replicates=0)
    assert np.array_equal(order[second.predictions], first.predictions)
    assert np.array_equal(second.ranks, first.ranks)
    assert second.metrics == pytest.approx(first.metrics)


def test_an_ensemble_is_the_mean_of_unit_vectors() -> None:
    table = {"a dog": [2.0, 0.0], "the dog": [0.0, 5.0], "a cat": [1.0, 0.0], "the cat": [1.0, 0.0]}
    prompts = Prompts(templates=("a {}", "the {}"))
    classes = class_vectors(["dog", "cat"], prompts, by_table(table))
    half = np.sqrt(0.5)
    np.testing.assert_allclose(classes.vectors, [[half, half], [1.0, 0.0]])
    assert classes.prompts == prompts.hash


def test_an_ensemble_of_one_is_the_single_and_the_order_of_templates_does_not_matter() -> None:
    names = ["dog", "rain", "siren"]
    one = class_vectors(names, Prompts(templates=("a {}",)), hashed)
    torch.testing.assert_close(one.vectors, unit_rows(hashed([f"a {n}" for n in names])))
    ways = [("a {}", "b {}", "{}"), ("{}", "a {}", "b {}")]
    first, second = (class_vectors(names, Prompts(templates=w), hashed).vectors for w in ways)
    torch.testing.assert_close(first, second)


def test_class_vectors_come_back_from_a_file(tmp_path: Path) -> None:
    classes = class_vectors(["dog", "räin"], Prompts(templates=("a {}",)), hashed)
    classes.save(tmp_path / "classes.safetensors")
    again = ClassVectors.load(tmp_path / "classes.safetensors")
    assert again.class_names == ("dog", "räin")
    assert torch.equal(again.vectors, classes.vectors)
    assert again.prompts == classes.prompts


@pytest.mark.parametrize("contents", [None, b"", b"no tensors"])
def test_files_without_class_vectors_are_named(tmp_path: Path, contents: bytes | None) -> None:
    file = tmp_path / "classes.safetensors"
    if contents is not None:
        file.write_bytes(contents)
    with pytest.raises(UserError, match=r"classes\.safetensors: no class vectors"):
        ClassVectors.load(file)


def test_files_of_other_tensors_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "classes.safetensors"
    ClassVectors(("a", "b"), torch.zeros(3, 2), "none").save(file)
    with pytest.raises(UserError, match="2 names, vectors"):
        ClassVectors.load(file)


CELLS = st.sampled_from([0.0, 1.0, np.nan])


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, (12, 2), elements=GRID),
    arrays(np.float64, (12, 3), elements=CELLS),
)
def test_multi_label_metrics_are_the_peers(signals, targets) -> None:
    classes = classes_of(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    found = zero_shot_multi_label(signals, targets, classes, replicates=5)
    scores = (unit_rows(signals).numpy() @ classes.vectors.numpy().T).round(12)
    precisions, areas, chances = [], [], []
    for c in range(3):
        known = ~np.isnan(targets[:, c])
        target, score = targets[known, c], scores[known, c]
        if 0 < target.sum() < len(target):
            precisions.append(average_precision_score(target, score))
            areas.append(roc_auc_score(target, score))
            chances.append(target.mean())
    assert found.metrics["num_scored_classes"] == len(precisions)
    if precisions:
        assert found.metrics["mean_average_precision"] == pytest.approx(np.mean(precisions))
        assert found.metrics["macro_auroc"] == pytest.approx(np.mean(areas))
        assert found.metrics["mean_average_precision_chance"] == pytest.approx(np.mean(chances))
    else:
        assert found.metrics["mean_average_precision"] is None
        assert found.intervals == {}


def test_the_interval_of_average_precision_is_plain_resampling() -> None:
    generator = np.random.default_rng(0)
    signals = generator.normal(size=(60, 2))
    targets = (signals + generator.normal(size=(60, 2)) > 0).astype(float)
    found = zero_shot_multi_label(signals, targets, classes_of(np.eye(2)), replicates=100, seed=4)
    rows = np.random.default_rng(4).integers(60, size=(100, 60))
    samples = [
        np.mean([average_precision_score(targets[r, c], found.scores[r, c]) for c in range(2)])
        for r in rows
    ]
    expected = np.quantile(samples, [0.025, 0.975])
    np.testing.assert_allclose(found.intervals["mean_average_precision"], expected)


def test_a_collapsed_model_ranks_at_chance_in_multi_label_data() -> None:
    generator = np.random.default_rng(0)
    signals = np.repeat(generator.normal(size=(1, 37)), 91, axis=0)
    targets = (generator.random((91, 5)) < 0.3).astype(float)
    found = zero_shot_multi_label(
        signals, targets, classes_of(generator.normal(size=(5, 37))), replicates=0
    )
    assert found.metrics["macro_auroc"] == 0.5
    chance = found.metrics["mean_average_precision_chance"]
    assert found.metrics["mean_average_precision"] == pytest.approx(chance)


def test_bad_input_is_refused() -> None:
    classes = classes_of(np.eye(2))
    signals = np.array([[1.0, 0.0], [np.nan, 0.0]])
    with pytest.raises(UserError, match=r"'b\.wav'"):
        zero_shot(signals, [0, 1], classes, recordings=["a.wav", "b.wav"])
    with pytest.raises(UserError, match=r"'b\.wav'"):
        zero_shot_multi_label(signals, np.eye(2), classes, recordings=["a.wav", "b.wav"])
    with pytest.raises(UserError, match="3 embedding dimensions and texts 2"):
        zero_shot(np.eye(3), [0, 1, 1], classes)
    with pytest.raises(UserError, match="label 2 is outside the 2 classes"):
        zero_shot(np.eye(2), [0, 2], classes)
    with pytest.raises(UserError, match=r"expected \(2, 2\), one row a recording"):
        zero_shot_multi_label(np.eye(2), [0, 1], classes)


@pytest.mark.parametrize("width", [1, 7, 64])
def test_equal_vectors_tie_whatever_their_place(width: int) -> None:
    # Products in blocks of other shapes round differently; ranks must not.
    generator = np.random.default_rng(width)
    signals = unit_rows(generator.normal(size=(101, width)))
    vectors = unit_rows(np.repeat(generator.normal(size=(1, width)), 53, axis=0))
    answers, ranks = ranked(signals, vectors, generator.integers(53, size=101))
    assert (ranks == 53).all()
    assert (answers == 0).all()
