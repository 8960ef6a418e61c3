"""One cell from start to end, killed and resumed, and things registered outside the tree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import load_config, validate
from benchmarks.results.result import Result
from multimodal.errors import UserError
from tests.toy import toy_data

REPOSITORY = Path(__file__).parents[4]


def make(tmp_path: Path, **changes: object) -> Cells:
    data = toy_data(output_dir=str(tmp_path), **changes)
    return Cells(validate(RunConfig, data, source="toy"))


def numbers(folder: Path) -> tuple[dict[str, Any], list[Any]]:
    """Metrics of a run folder, and its step metrics without their times."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    steps = [(line["step"], line["metrics"]) for line in map(json.loads, lines)]
    return Result.load(folder).metrics, steps


def test_a_run_leaves_a_complete_result(tmp_path) -> None:
    grid = make(tmp_path, learners=["replay"])
    result = grid.run_cell(0)
    folder = grid.cells[0].folder
    assert Result.load(folder) == result
    assert len(result.metrics["accuracy_matrix"]) == 2
    assert sum(map(sum, result.metrics["confusion_matrix"])) == 16
    assert result.dataset["content_hash"] == grid.manifest.content_hash
    assert result.dataset["split_rule"] == "by speaker"
    assert [e["num_train"] for e in result.experiences] == [16, 16]
    assert result.hardware["device"] == "cpu"
    assert result.packages["torch"]
    assert result.seconds > 0
    assert result.peak_memory_bytes["process"] > 1e6
    kept = RunConfig.parse(yaml.safe_load((folder / "config.yaml").read_text()))
    assert kept.hash == result.config_hash == folder.name


def test_the_same_seed_gives_the_same_numbers_and_another_one_others(tmp_path) -> None:
    a, b, c = (
        make(tmp_path / name, seeds=[seed], learners=["er_ace"])
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    for grid in (a, b, c):
        grid.run_cell(0)
    same = numbers(a.cells[0].folder)
    assert same == numbers(b.cells[0].folder)
    assert same[1] != numbers(c.cells[0].folder)[1]


@pytest.mark.parametrize("learner", ["majority", "joint", "linear_probe", "cumulative"])
def test_undefined_metrics_are_none(tmp_path, learner: str) -> None:
    metrics = make(tmp_path, learners=[learner]).run_cell(0).metrics
    assert metrics["forward_transfer"] is None  # classes never met cannot be named
    assert (metrics["forgetting"] is None) == (learner == "joint")
    assert len(metrics["accuracy_matrix"]) == (1 if learner == "joint" else 2)


def test_forward_transfer_of_a_domain_incremental_stream(tmp_path) -> None:
    grid = make(
        tmp_path,
        dataset={"name": "toy", "shared_groups": True},
        scenario="domain_incremental",
        training={"epochs": 12, "batch_size": 8, "device": "cpu", "learning_rate": 3e-3},
    )
    transfer = grid.run_cell(0).metrics["forward_transfer"]
    assert transfer is not None
    assert transfer > 0.3  # the tones of the first speaker are those of the next


def test_validation_is_measured_where_it_is_held_out(tmp_path) -> None:
    scenario = {"name": "class_incremental", "num_experiences": 2, "validation_fraction": 0.25}
    result = make(tmp_path, scenario=scenario).run_cell(0)
    assert len(result.metrics["validation_accuracy"]) == 2
    assert all(0 <= v <= 1 for v in result.metrics["validation_accuracy"])
    assert [e["num_train"] for e in result.experiences] == [12, 12]


def test_quick_is_two_experiences_of_one_epoch(tmp_path) -> None:
    scenario = {"name": "class_incremental", "num_experiences": 4}
    grid = make(tmp_path, scenario=scenario, quick=True, learners=["finetune", "cumulative"])
    assert len(grid.run_cell(0).experiences) == 2
    assert len(numbers(grid.cells[0].folder)[1]) == 4
    assert grid.run_cell(1).quick


def test_a_stop_signal_saves_the_step_and_the_same_command_goes_on(tmp_path) -> None:
    whole = make(tmp_path / "whole", learners=["replay"])
    whole.run_cell(0)
    expected = numbers(whole.cells[0].folder)

    class StopAt:
        def __init__(self, step: int) -> None:
            self.at = step

        def begin(self, total_steps: int, done_steps: int) -> None: ...
        def experience_done(
            self, index: int, count: int, measure: str, scores: list[float]
        ) -> None: ...
        def step(self, strategy: Any) -> None:
            if strategy.position.total_steps == self.at:
                os.kill(os.getpid(), signal.SIGTERM)

    for step in (1, 5, 7):
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "cut", learners=["replay"]).run_cell(0, StopAt(step))
    again = make(tmp_path / "cut", learners=["replay"])
    again.run_cell(0)
    assert numbers(again.cells[0].folder) == expected


def test_kill_9_in_the_third_experience_then_the_same_command(tmp_path) -> None:
    """Killed without warning between two checkpoints; resumed metrics are bit-identical."""
    config = toy_data(
        dataset={"name": "toy", "num_classes": 8},
        scenario={"name": "class_incremental", "num_experiences": 4},
        learners=["replay"],
        training={"epochs": 3, "batch_size": 4, "device": "cpu", "checkpoint_every": 3},
    )
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    program = textwrap.dedent("""
        import os, signal, sys
        import tests.toy
        from benchmarks.commands.bench import epochs_run as run
        from benchmarks.cli import main

        stop = int(sys.argv.pop(1))
        after_step = run.EpochsRun.after_step

        def kill(self, strategy):
            after_step(self, strategy)
            if strategy.position.total_steps == stop:
                os.kill(os.getpid(), signal.SIGKILL)

        run.EpochsRun.after_step = kill
        main()
    """)

    steps = 12  # 16 recordings, batches of 4, 3 epochs
    words = [str(2 * steps + 7), "bench", str(path), f"output_dir={tmp_path / 'cut'}"]
    killed = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=REPOSITORY, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL
    assert not list((tmp_path / "cut").glob("toy/*/result.json"))
    for out in ("cut", "whole"):
        place = f"output_dir={tmp_path / out}"
        Cells(load_config(path, [place], model=RunConfig)).run_cell(0)
    (cut,), (whole,) = ((tmp_path / out).glob("toy/*/") for out in ("cut", "whole"))
    assert numbers(cut) == numbers(whole)


def test_two_processes_cannot_train_in_one_folder(tmp_path) -> None:
    from benchmarks.runs.workspace import run_lock

    grid = make(tmp_path)
    grid.cells[0].folder.mkdir(parents=True)
    with run_lock(grid.cells[0].folder), pytest.raises(UserError, match="another process"):
        grid.run_cell(0)


def test_a_learner_and_a_dataset_from_outside_run_by_the_command(tmp_path, monkeypatch) -> None:
    """The plug-in contract: one module of the user's, named in MEDLEY_PLUGINS."""
    (tmp_path / "my_methods.py").write_text(
        textwrap.dedent("""
        import numpy as np
        import torch

        from continual.learners import LEARNERS, ClassifierLearner, LearnerConfig
        from multimodal.datasets import DATASETS, DatasetConfig
        from multimodal.objectives import OBJECTIVES, Loss
        from multimodal.recordings import Manifest, Recording
        from multimodal.registry import Config

        @OBJECTIVES.register("squared")
        class SquaredConfig(Config):
            weight: float = 1.0

            def build(self):
                return lambda a, b: Loss(self.weight * ((a - b) ** 2).mean(), {})

        @LEARNERS.register("regression")
        class RegressionConfig(LearnerConfig):
            objective: str = "squared"

            def build(self, context):
                learner = Regression(context.model)
                learner.objective = OBJECTIVES.parse(self.objective).build()
                return learner

        class Regression(ClassifierLearner):
            def loss(self, batch, memory_batch):
                logits = self.model.head(self.model.embed(batch))
                target = torch.nn.functional.one_hot(batch.labels, logits.shape[1]).float()
                return self.objective(logits, target)._replace(outputs=logits)

        @DATASETS.register("clicks")
        class ClicksConfig(DatasetConfig):
            synthetic = True

            def build(self, root):
                def click(label):
                    signal = np.zeros((1, 3200), np.float32)
                    signal[:, :: 40 * (label + 1)] = 0.5
                    return signal

                rows = [
                    Recording(f"{split}/{c}/{i}", (c,), split, make=lambda c=c: click(c))
                    for split in ("train", "test") for c in range(3) for i in range(6)
                ]
                return Manifest("clicks", "speech", ("a", "b", "c"), tuple(rows), "1")
    """)
    )
    config = toy_data(dataset="clicks", learners=["regression", "finetune"])
    config["scenario"] = {"name": "class_incremental", "num_experiences": 3}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    environment = {**os.environ, "MEDLEY_PLUGINS": "my_methods", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cli", "bench", "mine.yaml"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "regression" in done.stdout
    assert len(list(tmp_path.glob("runs/toy/*/result.json"))) == 2


@pytest.mark.slow
@pytest.mark.realdata
def test_fsdd_learns_and_forgets(tmp_path, real_data) -> None:
    """A short version of configs/bench/fsdd_class_incremental.yaml on the real recordings."""
    from benchmarks.config.loading import load_config

    overrides = [
        f"data_root={real_data}",
        f"output_dir={tmp_path}",
        "tracking.store=none",
        "seeds=[1]",
        "scenario.num_experiences=2",
        "training.epochs=1",
        "training.device=cpu",
        "learners=[finetune, {name: joint, epochs: 2}]",
    ]
    start = time.perf_counter()
    grid = Cells(
        load_config(
            REPOSITORY / "configs/bench/fsdd_class_incremental.yaml", overrides, model=RunConfig
        )
    )
    finetune, joint = (grid.run_cell(i).metrics for i in range(2))
    assert joint["last_accuracy"] > 0.6, time.perf_counter() - start
    assert finetune["accuracy_matrix"][1][0] < 0.2
    assert finetune["accuracy_matrix"][0][0] > 0.6
