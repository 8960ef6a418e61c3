"""The whole report of one set of recordings: its parts are the single evaluations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from multimodal.errors import UserError
from multimodal.evaluation.class_vectors import class_vectors
from multimodal.evaluation.diagnostics import diagnose_classes
from multimodal.evaluation.prompts import Prompts
from multimodal.evaluation.scores import Wanted, embedding_map, score
from multimodal.evaluation.zero_shot import zero_shot
from multimodal.recordings import Manifest, Recording
from tests.multimodal.evaluation.towers import hashed

NAMES = ("dog", "rain", "bell")
PROMPTS = Prompts(templates=("a {}.", *(f"{i} {{}}" for i in range(8))))
EVERY = Wanted((0, 1, 2))


def manifest_of(texts: bool = True) -> Manifest:
    rows = tuple(
        Recording(f"r{i:02d}", (i % 3,), "test", text=f"caption {i}" if texts else "")
        for i in range(12)
    )
    return Manifest("toy", "audio", NAMES, rows, "1")


@pytest.fixture
def embeddings() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    own = hashed([f"a {NAMES[i % 3]}." for i in range(12)])
    return own + 2 * torch.randn(12, 8, generator=random)


def test_parts_are_the_single_evaluations(embeddings) -> None:
    manifest, rows = manifest_of(), np.arange(12)
    scores = score(embeddings, hashed, manifest, rows, prompts=PROMPTS, wanted=EVERY)
    first = class_vectors(NAMES, PROMPTS.single("a {}."), hashed)
    expected = zero_shot(embeddings, manifest.labels, first)
    for key, value in expected.metrics.items():
        assert scores.metrics[key] == value
    assert scores.intervals["zero_shot_top1"] == expected.intervals["zero_shot_top1"]
    keys = ("zero_shot_top1_ensemble", "recall_at_1", "alignment", "signal_effective_rank")
    assert all(scores.metrics[key] is not None for key in keys)
    assert set(scores.details["top1_by_template"]) == set(PROMPTS.templates)
    cosines = normalize(embeddings.double(), dim=1) @ first.vectors.T
    expected_row = cosines[manifest.labels == 1].mean(0)
    np.testing.assert_allclose(scores.details["similarity"][1], expected_row, atol=1e-4)
    json.dumps(scores.details, allow_nan=False)


def test_candidates_leave_other_recordings_out_of_classification_only(embeddings) -> None:
    manifest, rows = manifest_of(), np.arange(12)
    wanted = Wanted((2, 0), ensemble=True)
    scores = score(embeddings, hashed, manifest, rows, prompts=PROMPTS, wanted=wanted)
    inside = np.flatnonzero(manifest.labels != 1)
    vectors = class_vectors(["bell", "dog"], PROMPTS, hashed)
    positions = np.where(manifest.labels[inside] == 2, 0, 1)
    expected = zero_shot(embeddings[inside], positions, vectors).metrics
    assert scores.metrics["zero_shot_top1"] == expected["zero_shot_top1"]
    assert scores.metrics["zero_shot_chance"] == 0.5
    assert scores.metrics["num_signals"] == 12


def test_parts_can_be_left_out_and_texts_may_be_missing(embeddings) -> None:
    wanted = Wanted((0, 1, 2), robustness=False, retrieval=False, diagnostics=False)
    few = score(embeddings, hashed, manifest_of(), np.arange(12), prompts=PROMPTS, wanted=wanted)
    assert not {"recall_at_1", "alignment", "zero_shot_top1_ensemble"} & set(few.metrics)
    bare = manifest_of(texts=False)
    scores = score(embeddings, hashed, bare, np.arange(12), prompts=PROMPTS, wanted=EVERY)
    assert "recall_at_1" not in scores.metrics
    one = Wanted((0,))
    found = score(embeddings, hashed, manifest_of(), np.arange(12), prompts=PROMPTS, wanted=one)
    assert "zero_shot_top1" not in found.metrics
    assert "recall_at_1" in found.metrics


def test_texts_and_classes_are_diagnosed_in_their_own_ways(embeddings) -> None:
    manifest, rows = manifest_of(), np.arange(12)
    found = score(embeddings, hashed, manifest, rows, prompts=PROMPTS, wanted=EVERY).metrics
    texts = hashed([f"caption {i}" for i in range(12)])
    cosines = (normalize(texts.double(), dim=1) @ normalize(embeddings.double(), dim=1).T).numpy()
    # Every caption with its own recording against every caption with every other one.
    right, wrong = np.diag(cosines), cosines[~np.eye(12, dtype=bool)]
    area = np.mean([(r > wrong) + 0.5 * (r == wrong) for r in right])
    assert found["pooled_auc"] == pytest.approx(area)
    labelled = Wanted((0, 1, 2), retrieval=False)
    other = score(embeddings, hashed, manifest, rows, prompts=PROMPTS, wanted=labelled).metrics
    vectors = class_vectors(NAMES, PROMPTS.single("a {}."), hashed).vectors
    expected = diagnose_classes(embeddings, manifest.labels, vectors).metrics
    assert {key: other[key] for key in expected} == expected
    assert not {"pooled_auc", "linear_separability"} & other.keys()
    assert found["centroid_distance"] != other["centroid_distance"]


def test_several_captions_of_one_signal_have_no_other_to_be_told_from(embeddings) -> None:
    recordings = tuple(
        Recording(f"r{i}", (0,), "test", path=Path("one.wav"), text=f"caption {i}")
        for i in range(5)
    )
    manifest, rows = Manifest("toy", "audio", NAMES, recordings, "1"), np.arange(5)
    found = score(
        embeddings[:5], hashed, manifest, rows, prompts=PROMPTS, wanted=Wanted(())
    ).metrics
    assert found["recall_at_1"] == 1
    assert "pooled_auc" not in found


def test_without_intervals_the_values_are_the_same(embeddings) -> None:
    manifest, rows = manifest_of(), np.arange(12)
    wanted = replace(EVERY, intervals=False)
    for of in (manifest, manifest_of(texts=False)):
        with_ = score(embeddings, hashed, of, rows, prompts=PROMPTS, wanted=EVERY)
        without = score(embeddings, hashed, of, rows, prompts=PROMPTS, wanted=wanted)
        assert without.metrics == with_.metrics
        assert with_.intervals
        assert without.intervals == {}


def test_phrases_are_reported_beside_the_names(embeddings) -> None:
    phrases = PROMPTS.model_copy(update={"phrases": {"dog": "hound", "rain": "wet", "bell": "x"}})
    scores = score(embeddings, hashed, manifest_of(), np.arange(12), prompts=phrases, wanted=EVERY)
    plain = score(embeddings, hashed, manifest_of(), np.arange(12), prompts=PROMPTS, wanted=EVERY)
    mechanical = scores.metrics["zero_shot_top1_mechanical"]
    assert mechanical == plain.metrics["zero_shot_top1"]


def test_nan_is_named_at_once(embeddings) -> None:
    embeddings[[3, 7]] = float("nan")
    with pytest.raises(UserError, match=r"2 of 12 .*'r03', 'r07'"):
        score(embeddings, hashed, manifest_of(), np.arange(12), prompts=PROMPTS, wanted=EVERY)


def test_map_shows_the_plane_in_which_classes_differ(embeddings) -> None:
    from sklearn.decomposition import PCA

    classes = class_vectors(NAMES, PROMPTS, hashed)
    signals, labels = normalize(embeddings.double(), dim=1), np.arange(12) % 3
    made = embedding_map(signals, labels, classes)
    means = torch.stack([signals[labels == c].mean(0) for c in range(3)])
    sides = [side - side.mean(0) for side in (means, classes.vectors)]
    plane = PCA(2).fit(torch.cat([side / side.norm() for side in sides]).numpy())
    np.testing.assert_allclose(made["explained"], plane.explained_variance_ratio_, atol=1e-3)
    ours = np.array([*[p[:2] for p in made["signals"]], *made["classes"]])
    centred = torch.cat([side - side.mean(0) for side in (signals, classes.vectors)])
    theirs = centred.numpy() @ plane.components_.T
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=2e-4)
    assert [p[2] for p in made["signals"]] == labels.tolist()
