"""Tasks of ``medley finetune`` beside one label a recording: several labels, texts; the scores."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from benchmarks.commands.finetune.command import run_finetune
from benchmarks.commands.finetune.scoring import (
    best_thresholds,
    multi_label_scores,
    single_label_scores,
)
from benchmarks.results.model_folder import open_model
from benchmarks.results.result import Result
from benchmarks.tracking.store import connect
from multimodal.batch import Batch
from multimodal.evaluation import multi_label
from multimodal.recordings import Manifest
from tests.benchmarks.commands.finetune_text import results
from tests.toy import ToyChordsConfig, toy_chords


def test_scores_of_one_label() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.2, 0.4, 0.4], [0.1, 0.1, 0.8]])
    found = single_label_scores(scores, np.array([0, 0, 2, 2]), ("a", "b", "c"), seed=0)
    assert found.metrics["accuracy"] == 0.5  # the tie counts against us
    assert found.metrics["mean_per_class_recall"] == 0.5
    assert found.metrics["majority_accuracy"] == 0.5
    assert found.metrics["per_class_accuracy"] == {"a": 0.5, "b": None, "c": 0.5}
    low, high = found.intervals["accuracy"]
    assert low <= 0.5 <= high
    # Of two speakers, one always right: a sample has 0, 1 or 2 of that one.
    labels, groups = np.array([0, 1, 0, 1]), ["x", "y", "x", "y"]
    found = single_label_scores(
        scores[[0, 0, 0, 0]], labels, ("a", "b", "c"), seed=0, groups=groups
    )
    assert found.intervals["accuracy"] == (0, 1)
    assert found.details == {"resampled": "groups", "num_groups": 2}


def test_scores_of_several_labels_leave_unknown_ones_out() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(2, size=(40, 3)).astype(np.float64)
    targets[rng.random((40, 3)) < 0.3] = np.nan
    targets[:, 2] = 0
    scores = rng.random((40, 3))
    found = multi_label_scores(scores, targets, ("a", "b", "c"), seed=0)
    areas = multi_label.auroc(scores, targets)
    assert found.metrics["macro_auroc"] == pytest.approx(np.nanmean(areas))
    assert found.metrics["num_scored_classes"] == 2
    assert found.metrics["per_class_auroc"]["c"] is None  # pyright: ignore
    assert found.intervals.keys() == {"macro_auroc", "mean_average_precision"}
    known = ~np.isnan(targets[:, :2])
    prevalence = (targets[:, :2] == 1).sum(0) / known.sum(0)
    chance = found.metrics["mean_average_precision_chance"]
    assert chance == pytest.approx(prevalence.mean())
    assert found.details == {"resampled": "recordings"}
    groups = [f"patient {i // 10}" for i in range(40)]
    found = multi_label_scores(scores, targets, ("a", "b", "c"), seed=0, groups=groups)
    assert found.details == {"resampled": "groups", "num_groups": 4}
    nothing = multi_label_scores(scores, np.full((40, 3), np.nan), ("a", "b", "c"), seed=0)
    assert nothing.metrics["macro_auroc"] is None


def test_thresholds_are_those_of_the_best_f1() -> None:
    rng = np.random.default_rng(1)
    scores = rng.random((30, 2))
    targets = (scores + rng.normal(0, 0.3, (30, 2)) > 0.6).astype(np.float64)
    targets[::5, 0] = np.nan
    found = best_thresholds(scores, targets)

    def f1(threshold: float, c: int) -> float:
        known = ~np.isnan(targets[:, c])
        said, true = scores[known, c] >= threshold, targets[known, c] == 1
        return 2 * (said & true).sum() / (said.sum() + true.sum())

    for c in range(2):
        best = max(f1(t, c) for t in np.linspace(0, 1, 2001))
        assert f1(found[c], c) == pytest.approx(best)
    assert best_thresholds(scores[:, :1], np.ones((30, 1))) == (0.5,)
    # Of scores below 0 and with ties; a class that all have is said from the lowest on.
    below = np.array([[-0.5, -0.5], [-0.5, -0.9], [-0.1, -0.9], [-0.1, -0.9]])
    truth = np.array([[0, 1], [0, 0], [1, 1], [1, 1.0]])
    found = best_thresholds(below, truth, lowest=-1.0)
    assert found == pytest.approx((-0.3, -0.95))
    nothing = best_thresholds(below, 0 * truth, lowest=-1.0, otherwise=below.mean(0))
    assert nothing == pytest.approx(below.mean(0))


@pytest.fixture
def chords(medley, tmp_path, monkeypatch) -> Path:
    """``chords.yaml``: several labels a recording, some unknown."""

    def build(self: ToyChordsConfig, root: Path) -> Manifest:
        manifest = toy_chords()
        rows = [
            dataclasses.replace(r, unknown=() if 3 in r.labels or i % 3 else (3,))
            for i, r in enumerate(manifest.recordings)
        ]
        return dataclasses.replace(manifest, recordings=tuple(rows))

    monkeypatch.setattr(ToyChordsConfig, "build", build)
    config = {
        "experiment": "tuned",
        "dataset": "toy_chords",
        "encoder": {"name": "compact", "width": 16, "depth": 1, "heads": 2},
        "methods": ["full"],
        "validation_fraction": 0.25,
        "training": {"epochs": 8, "batch_size": 8, "device": "cpu", "learning_rate": 0.01},
        "tracking": {"store": "none"},
    }
    (tmp_path / "chords.yaml").write_text(yaml.safe_dump(config))
    return tmp_path


@pytest.mark.parametrize("weight", [[], ["pos_weight=true"]])
def test_several_labels(medley, chords, weight: list[str]) -> None:
    outcome = medley("finetune", "chords.yaml", *weight)
    assert outcome.code == 0, outcome.err
    assert "macro" in outcome.out
    (result,) = results(chords).values()
    assert result.metrics["macro_auroc"] > 0.55
    opened = open_model(chords / "runs/tuned" / result.config_hash)
    assert opened.multi_label
    assert opened.thresholds is not None
    assert len(opened.thresholds) == 4
    assert all(0 < t < 1 for t in opened.thresholds)


def test_an_encoder_is_aligned_with_texts(medley, tuned) -> None:
    words = ["task=align", "texts.captions=labels", "methods=[lora,full]", "seeds=[1]"]
    outcome = medley("finetune", "tune.yaml", *words, "validation_fraction=0.25")
    assert outcome.code == 0, outcome.err
    assert "zero-shot" in outcome.out
    for result in results(tuned).values():
        opened = open_model(tuned / "runs/tuned" / result.config_hash)
        assert opened.facts.task == "align"
        assert set(opened.facts.texts) == {"high", "low"}
        accuracy = _accuracy(opened, tuned)
        assert accuracy == pytest.approx(result.metrics["zero_shot_top1"])
        assert result.scenario == "alignment"
    outcome = medley("finetune", "tune.yaml", "task=align")
    assert outcome.code == 2
    assert "empty caption" in outcome.err


@pytest.mark.parametrize("held", [0.25, 0])
def test_texts_of_several_labels_at_a_low_temperature(chords, monkeypatch, held: float) -> None:
    """0.5 is where a class begins, although every cosine is far above 0."""
    spoken = toy_chords()
    texts = [" and ".join(spoken.class_names[c] for c in r.labels) or "noise" for r in spoken]
    rows = (dataclasses.replace(r, text=t) for r, t in zip(spoken, texts, strict=True))
    manifest = dataclasses.replace(spoken, recordings=tuple(rows))
    monkeypatch.setattr(ToyChordsConfig, "build", lambda self, root: manifest)
    objective = "{name: more, temperature: 0.01, false_negatives: multi_positive}"
    words = ["task=align", f"texts.objective={objective}"]
    words += [f"validation_fraction={held}"] * (not held)  # the config holds a quarter out
    run_finetune(chords / "chords.yaml", [*words, "output_dir=here", "methods=[head]"])
    (file,) = chords.glob("here/tuned/*/result.json")
    opened = open_model(file.parent)
    assert opened.thresholds == (0.5,) * 4
    adapter, train = opened.adapter, manifest.indices("train")
    signals = torch.stack([adapter.load(manifest.recordings[r])[0] for r in train])[:, None]
    length = torch.full((len(train),), signals.shape[2])
    shares = opened.predict_scores(Batch(signals, length, 0 * length, 0 * length))
    said, true = shares.numpy() >= 0.5, manifest.targets[train] == 1
    assert said.any(0).all()
    assert (~said).any()
    if not held:  # chosen on these very recordings
        f1 = 2 * (said & true).sum(0) / (said.sum(0) + true.sum(0))
        always = 2 * true.sum(0) / (len(true) + true.sum(0))
        assert (f1 >= always).all()
        assert (f1 > always).any()


def _accuracy(model: Any, place: Path) -> float:
    from benchmarks.commands.finetune.config import FinetuneConfig
    from benchmarks.config.loading import load_config
    from benchmarks.runs.data import open_data, read_manifest

    manifest = read_manifest(config := load_config(place / "tune.yaml", model=FinetuneConfig))
    rows = manifest.indices("test")
    scores = model.predict_scores(open_data(config, manifest).signals.gather(rows))
    torch.testing.assert_close(scores.sum(1), torch.ones(len(rows)))
    return float((scores.argmax(1).numpy() == manifest.labels[rows]).mean())


def test_the_store_has_the_model_and_its_name(medley, tuned, empty_store) -> None:
    (tuned / "runs").mkdir()
    (tuned / "runs/mlflow.db").write_bytes(empty_store.read_bytes())
    words = ["tracking={store: mlflow}", "register_as=tones_lora", "seeds=[1,2]"]
    outcome = medley("finetune", "tune.yaml", *words)
    assert outcome.code == 0, outcome.err
    assert "registered as tones_lora version 2" in outcome.out
    again = medley("finetune", "tune.yaml", *words)
    assert "registered as tones_lora version 2" in again.out
    client = connect(f"sqlite:///{tuned}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("tuned").experiment_id
    models = client.search_logged_models([experiment])
    assert len(models) == 2
    names = {a.path for a in client.list_logged_model_artifacts(models[0].model_id)}
    assert {"medley.json", "adapter_model.safetensors", "head.safetensors", "README.md"} <= names
    versions = client.search_model_versions("name = 'tones_lora'")
    assert {v.tags["medley.seed"] for v in versions} == {"1", "2"}


def test_what_it_cost_on_other_data(medley, tuned) -> None:
    """A frozen encoder costs nothing; before is the same for every method."""
    words = ["methods=[head,full]", "training.learning_rate=0.05", "training.epochs=6"]
    other = "evaluate_also=[{name: toy, num_classes: 4},toy_chords]"
    outcome = medley("finetune", "tune.yaml", *words, other)
    assert outcome.code == 0, outcome.err
    assert "other" in outcome.out
    found = results(tuned)
    paid = {
        n: (r.metrics["other_accuracy_before"], r.metrics["other_accuracy_after"])
        for n, r in found.items()
    }
    assert paid["head"][0] == paid["head"][1] == paid["full"][0]
    details = found["full"].evaluation["other_data"]
    assert set(details) == {"toy", "chords"}
    areas = [found["full"].metrics[f"other_auroc_{when}"] for when in ("before", "after")]
    assert areas == [details["chords"][when][0] for when in ("before", "after")]
    assert all(low <= value <= high for value, low, high in details["chords"].values())
    assert found["head"].metrics["other_auroc_after"] == areas[0] != areas[1]
    assert "evaluate_also.toy" in (found["full"].inputs or {})


def test_it_is_called_from_python(tuned, medley) -> None:
    run_finetune(tuned / "tune.yaml", ["output_dir=here", "quick=true"])
    (file,) = tuned.glob("here/tuned/*/result.json")
    assert Result.load(file.parent).quick
