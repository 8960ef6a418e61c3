"""Made-up results for the tests of reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results.result import Result
from continual import metrics


def make_result(
    learner: str = "replay",
    seed: int = 0,
    *,
    matrix: list[list[float]] | None = None,
    num_test: tuple[int, ...] = (30, 20, 10),
    classes: tuple[str, ...] = ("zero", "one", "two", "three", "four", "five"),
    **changes: Any,
) -> Result:
    """A result as a run writes it; without ``matrix`` a random one of T = len(num_test)."""
    steps, random = len(num_test), np.random.default_rng([seed, len(learner)])
    if matrix is None:
        drawn = random.uniform(0.2, 0.9, (steps, steps))
        matrix = [[round(float(a), 4) for a in row] for row in drawn]
    counts = random.integers(0, 20, (len(classes), len(classes)))
    per_class = np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
    shares = np.array_split(np.array(classes), steps)
    result = Result(
        command="bench",
        experiment="digits",
        config_hash=f"{learner[:4]}{seed:08d}",
        learner=learner,
        scenario="class_incremental",
        modality="speech",
        seed=seed,
        quick=False,
        dataset={
            "name": "fsdd",
            "version": "1.0.10",
            "content_hash": "0123456789abcdef",
            "split_rule": "official: index 0-4 test",
            "licence": "CC BY-SA 4.0",
            "synthetic": False,
            "group_overlap": "the official split shares speakers",
        },
        class_names=list(classes),
        experiences=[
            {"name": f"experience {i}", "classes": c.tolist(), "num_train": 100, "num_test": n}
            for i, (c, n) in enumerate(zip(shares, num_test, strict=True))
        ],
        metrics={
            **metrics.summary(matrix, num_test),
            "accuracy_matrix": matrix,
            "per_class_accuracy": dict(zip(classes, per_class.tolist(), strict=True)),
            "confusion_matrix": counts.tolist(),
        },
        config={
            "experiment": "digits",
            "dataset": {"name": "fsdd"},
            "scenario": {"name": "class_incremental", "experiences": steps},
            "learners": [{"name": learner}],
            "seeds": [seed],
            "output_dir": "runs",
        },
        hardware={"processor": "Some CPU", "cores": 2, "device": "cpu"},
        packages={"python": "3.11.2", "torch": "2.11.0"},
        git_commit="abcdef123456",
        started=f"2026-01-0{seed + 1}T00:00:00+00:00",
        seconds=10.0 + seed,
        peak_memory_bytes={"process": 300 * 2**20},
    )
    return replace(result, **changes)


def save(result: Result, root: Path) -> Path:
    folder = root / result.experiment / result.config_hash
    folder.mkdir(parents=True)
    result.save(folder)
    return folder


JOINT = make_result("joint", matrix=[[0.9, 0.8, 0.7]])
