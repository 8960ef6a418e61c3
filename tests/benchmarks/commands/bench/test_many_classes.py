"""Streams of thousands of classes: what a run keeps grows with them, not with their square."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tests.toy
from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from benchmarks.reports.page import write_html
from benchmarks.reports.pictures import draw_map
from benchmarks.results.files import load_result
from continual.scenarios import SCENARIOS
from continual.scenarios.si_blurry import realised
from tests.toy import toy_data, toy_manifest

CLASSES = 4_000
ONLINE = {"name": "si_blurry", "num_tasks": 2, "eval_period": 3000, "min_task_samples": 1}
STREAMS = [{"name": "class_incremental", "num_experiences": 2}, ONLINE]


def make(tmp_path: Path, **changes: Any) -> Cells:
    data = toy_data(output_dir=str(tmp_path), learners=["majority"])
    return Cells(validate(RunConfig, {**data, **changes}, source="toy"))


@pytest.mark.parametrize(
    "scenario",
    [STREAMS[0], pytest.param(STREAMS[1], marks=pytest.mark.slow)],
    ids=["epochs", "online"],
)
def test_nothing_is_as_large_as_the_square(tmp_path: Path, scenario: dict[str, Any]) -> None:
    dataset = {"name": "toy", "num_classes": CLASSES, "train": 1, "test": 1}
    cells = make(tmp_path, dataset=dataset, scenario=scenario)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        result = cells.run_cell(0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 2 * CLASSES**2  # bytes: no (C, C) table, of whatever numbers
    folder = cells.cells[0].folder
    sizes = {p.name: p.stat().st_size for p in folder.rglob("*") if p.is_file()}
    assert sizes["checkpoint.pt"] < 100_000 + 100 * CLASSES
    assert sizes["result.json"] < 100_000 + 200 * CLASSES
    assert sizes["report.html"] < 100_000 + 400 * CLASSES
    counted = np.array(result.metrics["confusion_cells"])
    assert counted[:, 2].sum() == CLASSES
    assert len(counted) == CLASSES  # the majority class, whatever the true one
    assert load_result(folder / "result.json").metrics["confusion_cells"] == counted.tolist()
    assert "frequent confusions of 3999" in (folder / "report.html").read_text()


def test_few_and_many_classes_tell_the_same_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = SCENARIOS.parse({"name": "si_blurry", "num_tasks": 3, "min_task_samples": 1})
    stream = config.build(toy_manifest(num_classes=12), 1)
    few = realised(stream)
    monkeypatch.setattr("continual.scenarios.si_blurry.DENSE_CELLS", 0)
    many = realised(stream)
    matrix, cells = np.array(few.pop("matrix")), np.array(many.pop("cells"))
    assert few == many
    assert np.array_equal(cells[:, :2], np.argwhere(matrix))
    assert np.array_equal(cells[:, 2], matrix[matrix > 0])
    monkeypatch.setattr("benchmarks.reports.pictures.MOST_PIXELS", 5)
    drawn = draw_map({**many, "cells": cells.tolist()}).axes[0].images[0].get_array()
    assert drawn.shape == (5, 3)
    assert np.array_equal(drawn.sum(0), matrix.sum(0))
    owned = [{*task["disjoint"], *task["blurry"]} for task in few["tasks"]]
    leaked = sum(
        count
        for name, row in zip(few["classes"], matrix, strict=True)
        for count, own in zip(row, owned, strict=True)
        if name not in own
    )
    assert few["leak_share"] == leaked / matrix.sum()


@pytest.mark.parametrize("scenario", STREAMS, ids=["epochs", "online"])
def test_the_majority_class_reads_no_signal(
    tmp_path: Path, scenario: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = make(tmp_path / "a", scenario=scenario, learners=["majority", "er"])
    metrics = expected.run_cell(0).metrics

    def refuse(*_: object) -> None:
        raise AssertionError("a signal was asked for")

    monkeypatch.setattr(tests.toy, "tone", refuse)
    alone = make(tmp_path / "b", scenario=scenario)
    assert alone.run_cell(0).metrics == metrics
    page = write_html([alone.run_cell(0)], tmp_path / "page.html").read_text()
    assert "majority" in page
