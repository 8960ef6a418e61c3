"""The reports on wording against one zero-shot evaluation a wording."""

from __future__ import annotations

import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.evaluation.class_vectors import class_vectors
from multimodal.evaluation.prompts import Prompts, load_prompts
from multimodal.evaluation.robustness import spelling_robustness, template_robustness
from multimodal.evaluation.zero_shot import ZeroShot, zero_shot
from tests.multimodal.evaluation.towers import constant, hashed

NAMES = ("dog", "sea waves", "Siren", "baby_cry")


@pytest.fixture
def signals() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(60, 8))


LABELS = np.arange(60) % 4


def alone(signals: np.ndarray, prompts: Prompts) -> ZeroShot:
    return zero_shot(signals, LABELS, class_vectors(NAMES, prompts, hashed), replicates=0)


@pytest.mark.parametrize("file", ["audio", "speech"])  # without and with the bare label
def test_templates(signals: np.ndarray, file: str) -> None:
    prompts = load_prompts(file)
    report = template_robustness(signals, LABELS, NAMES, prompts, hashed)
    singles = [t for t in prompts.templates if t != "{}"]
    each = [alone(signals, Prompts(templates=(t,))) for t in singles]
    accuracies = [found.metrics["zero_shot_top1"] for found in each]
    assert report.top1 == dict(zip(singles, accuracies, strict=True))
    assert report.worst == singles[int(np.argmin(accuracies))]
    changes = np.mean(
        [len(set(column)) > 1 for column in zip(*(e.predictions for e in each), strict=True)]
    )
    bare = alone(signals, Prompts(templates=("{}",))).metrics["zero_shot_top1"]
    assert report.metrics == pytest.approx(
        {
            "zero_shot_top1_template_mean": np.mean(accuracies),
            "zero_shot_top1_template_min": min(accuracies),
            "zero_shot_top1_template_max": max(accuracies),
            "zero_shot_top1_template_std": np.std(accuracies),
            "zero_shot_template_changes": changes,
            "zero_shot_top1_bare_label": bare,
            "zero_shot_top1_ensemble": alone(signals, prompts).metrics["zero_shot_top1"],
        }
    )


def test_spellings(signals: np.ndarray) -> None:
    report = spelling_robustness(signals, LABELS, NAMES, load_prompts("audio"), hashed)
    texts = {
        "spaces": ["dog", "sea waves", "siren", "baby cry"],
        "underscores": ["dog", "sea_waves", "siren", "baby_cry"],
        "capitalised": ["Dog", "Sea waves", "Siren", "Baby cry"],
    }
    for rule, words in texts.items():
        vectors = hashed([f"This is a sound of {w}." for w in words]).double().numpy()
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        assert report.top1[rule] == np.mean((signals @ vectors.T).argmax(axis=1) == LABELS)
    assert report.metrics["zero_shot_top1_spelling_mean"] == pytest.approx(
        np.mean(list(report.top1.values()))
    )


@pytest.mark.parametrize("report", [template_robustness, spelling_robustness])
def test_a_tower_that_ignores_its_input_has_no_spread(report) -> None:
    signals = np.random.default_rng(0).normal(size=(60, 3))
    found = report(signals, LABELS, NAMES, load_prompts("audio"), constant)
    assert set(found.metrics.values()) == {0.0}


def test_a_perfect_tower_has_no_spread_either() -> None:
    def perfect(texts):
        return hashed([next(n for n in ("dog", "cat") if n in t.lower()) for t in texts])

    signals = hashed(["dog", "cat", "dog"])
    found = template_robustness(signals, [0, 1, 0], ["dog", "cat"], load_prompts("audio"), perfect)
    assert found.metrics["zero_shot_top1_template_min"] == 1.0
    assert found.metrics["zero_shot_top1_template_std"] == 0.0
    assert found.metrics["zero_shot_template_changes"] == 0.0
    assert found.metrics["zero_shot_top1_ensemble"] == 1.0


def test_bad_input_is_refused(signals: np.ndarray) -> None:
    few = Prompts(templates=("{}", *(f"{i} {{}}" for i in range(7))))
    with pytest.raises(UserError, match="at least 8 templates besides the bare label, got 7"):
        template_robustness(signals, LABELS, NAMES, few, hashed)
    signals[3, 2] = np.nan
    names = [f"{i}.wav" for i in range(60)]
    with pytest.raises(UserError, match=r"1 of 60 recording embeddings .* '3\.wav'"):
        template_robustness(signals, LABELS, NAMES, load_prompts("audio"), hashed, recordings=names)
    with pytest.raises(UserError, match="label 3 is outside the 3 classes"):
        spelling_robustness(np.ones((60, 8)), LABELS, NAMES[:3], load_prompts("audio"), hashed)
