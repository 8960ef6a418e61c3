"""Every block of docs/extending.md runs, in the tree and outside it as the page says."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from jaxtyping import TypeCheckError, install_import_hook

from benchmarks import cli
from benchmarks.config.loading import command_configs, commands_of
from benchmarks.results.files import find_results
from continual.learner import LEARNERS
from multimodal.batch import Batch
from multimodal.datasets import DATASETS
from multimodal.objectives import OBJECTIVES
from multimodal.registry import PLUGIN_VARIABLE
from tests.docs_page import FENCE, PAGE, Scores, Section, Workshop
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import RATE, tone

SECTIONS = ("A dataset", "A command", "An objective", "A learner", "A text-aligned learner")
CLASSES = ("bell", "dog", "heart", "rain")  # words that the tiny text encoder knows


@pytest.fixture(scope="module")
def text_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "bert"
    save_text_checkpoint(folder, "bert")
    return folder


@pytest.fixture
def workshop(tmp_path, text_checkpoint, monkeypatch, capsys) -> Iterator[Workshop]:
    for number, name in enumerate(CLASSES):
        (tmp_path / "clips" / name).mkdir(parents=True)
        for i in range(5):
            signal = tone(300.0 * (number + 1), 0.1 + 0.01 * i, 10 * number + i)[0]
            soundfile.write(tmp_path / "clips" / name / f"{i}.wav", signal, RATE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for variable in ("MEDLEY_DATA", "MLFLOW_TRACKING_URI", PLUGIN_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])  # plug-ins are searched in the working folder
    monkeypatch.setattr(cli.app, "registered_commands", [*cli.app.registered_commands])
    for registry in (DATASETS, OBJECTIVES, LEARNERS):
        registry.names()  # what is known without the page stays known afterwards
        monkeypatch.setattr(registry, "_configs", dict(registry._configs))
        monkeypatch.setattr(registry, "_loaded", False)
    place = Workshop(tmp_path, text_checkpoint, monkeypatch, capsys)
    yield place
    place.forget()


# ---- the page -------------------------------------------------------------------------------


def test_no_block_is_outside_the_sections() -> None:
    sections = [Section(heading) for heading in SECTIONS]
    text = PAGE.read_text("utf-8")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == list(SECTIONS)
    assert not FENCE.search(text.partition("\n## ")[0])
    assert text.count("\n```") == 2 * len(FENCE.findall(text))
    assert all(section.commands and len(section.files) >= 2 for section in sections)


def test_what_the_page_says_is_there_is_there() -> None:
    """Files and folders that it names, but those that its examples would add."""
    places = r"`((?:benchmarks|configs|continual|multimodal|tests)/[\w/.]*)`"
    named = set(re.findall(places, PAGE.read_text("utf-8")))
    new = {"tests/benchmarks/commands/test_count.py", "configs/count/NAME.yaml"}
    new |= {
        "tests/multimodal/datasets/test_sessions.py",
        "tests/multimodal/objectives/test_hinge.py",
        "tests/continual/test_focal.py",
        "tests/continual/test_prompt_softmax.py",
    }
    assert new <= named
    for name in sorted(named - new):
        assert (PAGE.parents[1] / name).exists(), name
    for name in new:
        assert not (PAGE.parents[1] / name).exists(), name


# ---- a dataset ------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [False, True])
def test_the_dataset_is_read(workshop: Workshop, outside: bool) -> None:
    section = Section("A dataset")
    workshop.write(section, outside=outside)
    workshop.run_page(section, outside=outside)
    results = {result.learner: result for result in find_results(workshop.folder / "runs")}
    assert sorted(results) == ["finetune", "majority"]
    assert results["majority"].metrics["last_accuracy"] == 0.25
    rule = results["majority"].dataset["split_rule"]
    assert rule == f"sessions from {4 if outside else 3} on test"
    config: Any = DATASETS.parse({"name": "sessions", "test_from": 3})
    manifest = config.build(Path("clips"))
    rows = [(r.uid, r.labels, r.split, r.group) for r in manifest]
    assert len(rows) == 20
    assert rows[2] == ("bell/2.wav", (0,), "train", "session 2")
    assert rows[3] == ("bell/3.wav", (0,), "test", "session 3")


def test_the_dataset_refuses_other_names(workshop: Workshop) -> None:
    workshop.write(Section("A dataset"), outside=False)
    (workshop.folder / "clips/bell/last.wav").touch()
    outcome = workshop.run(["medley", "bench", "sessions.yaml"])
    assert outcome.code == 2
    assert "bell/last.wav: a recording is called after its session" in outcome.err


# ---- a command ------------------------------------------------------------------------------


def test_the_command_counts(workshop: Workshop) -> None:
    section = Section("A command")
    workshop.write(section, outside=False)
    workshop.run_page(section, outside=False)
    (workshop.folder / "my.yaml").write_text(section.files["count.yaml"])
    helped = workshop.run(["medley", "count", "--help"])
    assert helped.code == 0
    example = re.search(r"Example: (medley count .*)", helped.out)
    assert example
    outcome = workshop.run(shlex.split(example[1].replace("FOLDER", "clips").strip(" │")))
    assert outcome.out.split() == ["train", "16", "test", "4"]


def test_the_command_refuses_what_is_wrong(workshop: Workshop) -> None:
    workshop.write(Section("A command"), outside=False)
    outcome = workshop.run(["medley", "count", "count.yaml", "spilts=[train]", "dataset.seed=x"])
    assert outcome.code == 2
    wrong, unknown = sorted(outcome.err.splitlines())
    assert "count.yaml: dataset.seed" in wrong
    assert "spilts: unknown key; did you mean 'splits'?" in unknown
    other = workshop.run(["medley", "bench", "count.yaml"])
    assert other.code == 2
    assert "a config of `medley count`, not of `medley bench`" in other.err


def test_the_command_is_known_by_its_marker_and_forgotten_afterwards(workshop: Workshop) -> None:
    workshop.write(Section("A command"), outside=False)
    assert commands_of({"splits": ["train"]}) == ["count"]
    schema = workshop.run(["medley", "config", "schema", "count"])
    assert '"splits"' in schema.out
    workshop.forget()
    workshop.patch.undo()
    assert "count" not in command_configs()


# ---- an objective ---------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [False, True])
def test_the_objective_trains(workshop: Workshop, outside: bool) -> None:
    section = Section("An objective")
    workshop.write(section, outside=outside)
    workshop.run_page(section, outside=outside)
    results = {result.learner: result for result in find_results(workshop.folder / "runs")}
    assert sorted(results) == ["clip", "hinge"]
    assert 0 <= results["hinge"].metrics["zero_shot_top1"] <= 1
    assert results["hinge"].config["objectives"][0]["margin"] == (0.5 if outside else 0.3)
    refused = workshop.run(["medley", "align", "align.yaml", "objectives.0.tile=4"])
    assert refused.code == 2
    assert "objective 'hinge' holds the similarity matrix" in refused.err


def hinge_oracle(a: np.ndarray, b: np.ndarray, margin: float, ids: list[int]) -> float:
    """Pair by pair."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    total = 0.0
    for i, j in product(range(len(a)), repeat=2):
        if ids[i] != ids[j]:
            own = a[i] @ b[i]
            total += max(0.0, margin - own + a[i] @ b[j]) + max(0.0, margin - own + a[j] @ b[i])
    return total / len(a)


def test_the_objective_is_that_of_its_equation(workshop: Workshop) -> None:
    workshop.write(Section("An objective"), outside=False)
    with install_import_hook(workshop.imported[-1], "tests.shapes.only_shapes"):
        hinge = workshop.module().hinge
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 6, 3))
    inputs = [torch.tensor(x, requires_grad=True) for x in (a, b)]
    for margin, ids in product((0.2, 1.0), (None, [0, 1, 0, 2, 3, 1])):
        given = None if ids is None else torch.tensor(ids)
        expected = hinge_oracle(a, b, margin, list(range(6)) if ids is None else ids)
        for gather in (False, True):
            loss = hinge(*inputs, margin=margin, ids=given, gather=gather)
            assert loss.value.item() == pytest.approx(expected, rel=1e-12)
            assert expected > 0
        assert torch.autograd.gradcheck(lambda x, y: hinge(x, y, margin=1.0).value, inputs)
    apart = torch.eye(3)
    assert hinge(apart, apart, margin=0.2).value == 0  # all others are far enough
    with pytest.raises(TypeCheckError, match="ids"):
        hinge(*inputs, ids=torch.zeros(5, dtype=torch.int64))


# ---- a learner ------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [False, True])
def test_the_plain_learner_trains(workshop: Workshop, outside: bool) -> None:
    section = Section("A learner")
    workshop.write(section, outside=outside)
    workshop.run_page(section, outside=outside)
    results = find_results(workshop.folder / "runs")
    names = {f"{result.experiment} {result.learner}" for result in results}
    assert names >= {"focal finetune", "focal focal"}
    assert ("focal_blurry focal" in names) is not outside
    (own,) = (r for r in results if (r.experiment, r.learner) == ("focal", "focal"))
    assert 0 <= own.metrics["last_accuracy"] <= 1
    assert own.config["learners"][0]["gamma"] == (0.5 if outside else 2.0)


def test_the_plain_learner_is_that_of_its_equation(workshop: Workshop) -> None:
    """And one of gamma 0 has cross-entropy; a class that is not exposed has no part in it."""
    workshop.write(Section("A learner"), outside=False)
    logits = torch.tensor([[2.0, 0.5, float("-inf")], [0.0, 1.0, float("-inf")]])
    batch = Batch(torch.zeros(2, 1), torch.ones(2).long(), torch.tensor([0, 0]), torch.arange(2))
    own = np.exp([2.0, 0.0]) / np.exp([[2.0, 0.5], [0.0, 1.0]]).sum(1)
    for gamma in (0.0, 1.5):
        kind = workshop.module().FocalLearner
        learner = kind.__new__(kind)
        learner.gamma, learner.model = gamma, lambda both: logits
        loss = learner.loss(batch, None)
        expected = np.mean(-((1 - own) ** gamma) * np.log(own))
        assert loss.value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("outside", [False, True])
def test_the_learner_names_classes_to_come(workshop: Workshop, outside: bool) -> None:
    section = Section("A text-aligned learner")
    workshop.write(section, outside=outside)
    workshop.run_page(section, outside=outside)
    results = {result.learner: result for result in find_results(workshop.folder / "runs")}
    assert sorted(results) == ["finetune", "prompt_softmax"]
    metrics = results["prompt_softmax"].metrics
    assert 0 <= metrics["future_zero_shot_accuracy"] <= 1
    assert metrics["future_zero_shot_chance"] == 0.5
    assert 0 <= metrics["last_accuracy"] <= 1
    assert "future_zero_shot_accuracy" not in results["finetune"].metrics
    for journal in workshop.folder.glob("runs/*/*/metrics.jsonl"):
        assert "nan" not in journal.read_text().lower()


@pytest.mark.parametrize("memory", [False, True])
def test_the_learner_trains_on_exposed_classes_only(workshop: Workshop, memory: bool) -> None:
    """The loss is the equation's, and its gradients are numbers though classes are masked."""
    workshop.write(Section("A text-aligned learner"), outside=False)
    model = Scores()
    learner = workshop.module().PromptSoftmax(model)
    batch = Batch(torch.zeros(3, 1), torch.ones(3).long(), torch.tensor([0, 2, 2]), torch.arange(3))
    loss = learner.loss(batch, batch if memory else None)
    logits = 10 * model.cosines.detach().numpy()[:, [0, 2]]
    each = np.log(np.exp(logits).sum(1)) - logits[np.arange(3), [0, 1, 1]]
    assert loss.value.item() == pytest.approx(each.mean(), rel=1e-5)
    assert loss.outputs is not None
    assert loss.outputs.shape == (3, 4)
    loss.value.backward()
    for parameter in (model.cosines, model.aligned.log_scale):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()
