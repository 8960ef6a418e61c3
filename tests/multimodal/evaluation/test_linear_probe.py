"""Probes against scikit-learn's own pipelines and brute force."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from multimodal.errors import UserError
from multimodal.evaluation import linear_probe as module
from multimodal.evaluation.embeddings import unit_rows
from multimodal.evaluation.linear_probe import (
    STRENGTHS,
    LabelledSet,
    knn,
    linear_probe,
    multi_label_probe,
)


def clouds(count: int, seed: int, spread: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """(count, 5) points about three centres, and which centre."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(3, size=count)
    centres = np.random.default_rng(99).normal(size=(3, 5))
    return 7 + 3 * (centres[labels] + spread * generator.normal(size=(count, 5))), labels


def some(count: int, seed: int) -> LabelledSet:
    return LabelledSet(*clouds(count, seed))


def test_the_linear_probe_is_scikit_learns() -> None:
    (x, y), (test_x, test_y) = clouds(120, 0), clouds(80, 1)
    x[:, 4] = 2.0  # a dead dimension
    found = linear_probe(LabelledSet(x, y), LabelledSet(test_x, test_y), 3, strength=0.3)
    peer = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1_000)).fit(x, y)
    assert np.array_equal(found.predictions, peer.predict(test_x))
    assert found.metrics["linear_probe_accuracy"] == peer.score(test_x, test_y)
    low, high = found.intervals["linear_probe_accuracy"]
    assert low < found.metrics["linear_probe_accuracy"] < high
    assert found.warnings == ()


def test_validation_chooses_the_strength() -> None:
    train, test, validation = some(40, 0), some(50, 1), some(60, 2)
    found = linear_probe(train, test, 3, validation=validation, replicates=0)
    scores = {}
    for strength in STRENGTHS:
        probe = linear_probe(train, validation, 3, strength=strength, replicates=0)
        scores[strength] = probe.metrics["linear_probe_accuracy"]
    chosen = found.settings["strength"]
    assert chosen == min(s for s in STRENGTHS if scores[s] == max(scores.values()))
    again = linear_probe(train, test, 3, strength=chosen, replicates=0)
    assert np.array_equal(found.predictions, again.predictions)


def test_classes_that_were_never_trained_on_are_wrong() -> None:
    x, y = clouds(60, 0)
    known = y < 2
    for probe in (linear_probe, knn):
        found = probe(LabelledSet(x[known], y[known]), LabelledSet(x, y), 3, replicates=0)
        assert set(found.predictions) <= {0, 1}
        right = [np.mean(found.predictions[y == c] == c) for c in range(3)]
        assert right[2] == 0
        key = f"{probe.__name__}_mean_per_class_recall"
        assert found.metrics[key] == pytest.approx(np.mean(right))


def test_an_early_stop_is_told() -> None:
    found = linear_probe(some(60, 0), some(20, 1), 3, strength=100.0, max_iterations=1)
    assert len(found.warnings) == 1
    assert "stopped after 1 iterations" in found.warnings[0]


@pytest.mark.parametrize("neighbours", [1, 5])
def test_nearest_neighbours_are_scikit_learns(neighbours: int) -> None:
    (x, y), (test_x, test_y) = clouds(70, 0), clouds(60, 1)
    binary, test_binary = y % 2, test_y % 2  # no ties of an odd number of votes
    found = knn(LabelledSet(x, binary), LabelledSet(test_x, test_binary), 2, neighbours=neighbours)
    peer = KNeighborsClassifier(neighbours, metric="cosine").fit(x, binary)
    assert np.array_equal(found.predictions, peer.predict(test_x))
    assert found.metrics["knn_accuracy"] == peer.score(test_x, test_binary)


GRID = st.sampled_from([-1.0, 0.0, 1.0, 2.0])  # coarse, so that there are ties


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, (8, 2), elements=GRID),
    arrays(np.float64, (3, 2), elements=GRID),
    st.integers(1, 8),
)
def test_ties_of_neighbours_and_votes_have_a_rule(memory, queries, neighbours: int) -> None:
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    test = LabelledSet(queries, [0, 1, 2])
    found = knn(LabelledSet(memory, labels), test, 3, neighbours=neighbours, replicates=0)
    cosines = (unit_rows(queries) @ unit_rows(memory).T).numpy().round(9)
    for row, answer in zip(cosines, found.predictions, strict=True):
        nearest = sorted(range(8), key=lambda i: (-row[i], i))[:neighbours]
        votes = Counter(labels[i] for i in nearest)
        closeness = {c: round(sum(row[i] for i in nearest if labels[i] == c), 8) for c in votes}
        assert answer == min(votes, key=lambda c: (-votes[c], -closeness[c], c))


def test_copies_of_one_recording_tie_whatever_their_place() -> None:
    generator = np.random.default_rng(0)
    memory = np.repeat(generator.normal(size=(1, 37)), 91, axis=0)
    labels = np.repeat([1, 0], [3, 88])
    test = LabelledSet(generator.normal(size=(23, 37)), np.zeros(23, dtype=int))
    found = knn(LabelledSet(memory, labels), test, 2, neighbours=3, replicates=0)
    assert (found.predictions == 1).all()  # the first three of equals


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = some(50, 0), some(33, 1)
    whole = knn(train, test, 3, neighbours=7, replicates=0).predictions
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", 200)  # four test recordings at a time
    assert np.array_equal(knn(train, test, 3, neighbours=7, replicates=0).predictions, whole)


@pytest.mark.parametrize("probe", [linear_probe, knn])
def test_bad_sets_are_refused(probe) -> None:
    train, test = some(30, 0), some(9, 1)
    broken = np.array(test.embeddings)
    broken[4, 1] = np.inf
    names = [f"{i}.wav" for i in range(9)]
    with pytest.raises(UserError, match=r"1 of 9 recording embeddings .*'4\.wav'"):
        probe(train, LabelledSet(broken, test.labels, names), 3)
    with pytest.raises(UserError, match=r"1 of 9 recording embeddings .*'4\.wav'"):
        probe(LabelledSet(broken, test.labels, names), test, 3)
    with pytest.raises(UserError, match="training embeddings have 5 dimensions, others 4"):
        probe(train, LabelledSet(broken[:4, :4], [0, 1, 2, 0]), 3)
    with pytest.raises(UserError, match="all 30 training recordings are of class 0"):
        probe(LabelledSet(train.embeddings, np.zeros(30, dtype=int)), test, 3)
    with pytest.raises(UserError, match="outside the 2 classes"):
        probe(train, test, 2)


def test_bad_settings_are_refused() -> None:
    train, test = some(30, 0), some(9, 1)
    with pytest.raises(UserError, match="neighbours is 31; give 1 to 30"):
        knn(train, test, 3, neighbours=31)
    with pytest.raises(UserError, match="neighbours is 0"):
        knn(train, test, 3, neighbours=0)
    with pytest.raises(UserError, match=r"strength is 0\.0"):
        linear_probe(train, test, 3, strength=0.0)


def test_a_multi_label_probe_asks_each_class_alone_and_leaves_unknown_labels_out() -> None:
    rng = np.random.default_rng(0)
    known = rng.integers(0, 2, (80, 3)).astype(float)
    features = np.concatenate(
        [known[:, :2] + rng.normal(0, 0.3, (80, 2)), rng.normal(size=(80, 2))], 1
    )
    known[:, 2] = 1.0  # only positives: nothing to learn
    known[::7, 0] = np.nan
    found = multi_label_probe(features[:60], known[:60], features[60:], known[60:]).areas
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    scores = peer.fit(features[:60], known[:60, 1]).decision_function(features[60:])
    assert found[1] == pytest.approx(roc_auc_score(known[60:, 1], scores))
    assert found[0] > 0.8
    assert np.isnan(found[2])
    shuffled = features[60:][rng.permutation(20)]
    null = multi_label_probe(features[:60], known[:60], shuffled, known[60:]).areas
    assert null[1] < 0.9


def test_the_interval_of_a_multi_label_probe_samples_patients() -> None:
    """That of recordings that each stand four times is as wide as that of one each."""
    rng = np.random.default_rng(3)
    known = rng.integers(0, 2, (90, 2)).astype(float)
    features = known + rng.normal(0, 0.8, (90, 2))
    train, own = (features[:50], known[:50]), (features[50:], known[50:])
    names = [f"p{i}" for i in range(40)]
    one = multi_label_probe(*train, *own, groups=names, replicates=300)
    low, high = one.intervals["macro_auroc"]
    assert low < one.areas.mean() < high
    often = [np.repeat(part, 4, axis=0) for part in own]
    four = multi_label_probe(*train, *often, groups=np.repeat(names, 4).tolist(), replicates=300)
    assert four.areas == pytest.approx(one.areas)
    assert four.intervals["macro_auroc"] == pytest.approx((low, high))
    apart = [f"{name} {i}" for i, name in enumerate(np.repeat(names, 4))]
    narrow = multi_label_probe(*train, *often, groups=apart, replicates=300)
    assert np.diff(narrow.intervals["macro_auroc"]) < 0.7 * (high - low)
    assert multi_label_probe(*train, *own).intervals == {}
