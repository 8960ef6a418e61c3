"""Online streams from config to report: records, resumption, warm-up, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from benchmarks.reports.page import write_html
from benchmarks.reports.tables import summarise
from benchmarks.reports.terminal import print_table
from benchmarks.results.result import Result
from multimodal.errors import UserError
from tests.toy import toy_data

STREAM = {"name": "si_blurry", "num_tasks": 2, "online_iter": 2, "eval_period": 7}


def make(tmp_path: Path, **changes: Any) -> Cells:
    data = toy_data(scenario=STREAM, output_dir=str(tmp_path))
    return Cells(validate(RunConfig, {**data, **changes}, source="toy"))


def numbers(folder: Path) -> tuple[dict[str, Any], list[Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return Result.load(folder).metrics, [(x["step"], x["metrics"]) for x in map(json.loads, lines)]


def test_a_result_holds_raw_counts_and_what_was_drawn(tmp_path) -> None:
    grid = make(tmp_path, learners=["er"])
    result = grid.run_cell(0)
    metrics, folder = result.metrics, grid.cells[0].folder
    points = metrics["anytime"]
    assert len(points["periodic"]) == len(range(7, 32, 7))
    assert [t["count"] for t in points["tasks"]][-1] == points["at_end"]["count"] == 32
    values = [sum(p["correct"]) / sum(p["total"]) for p in points["periodic"]]
    assert metrics["a_auc"] == pytest.approx(np.mean(values))
    assert metrics["a_last"] == sum(points["at_end"]["correct"]) / 16
    assert np.trace(metrics["confusion_matrix"]) / 16 == metrics["a_last"]
    drawn = json.loads((folder / "stream.json").read_text())
    assert drawn == json.loads(json.dumps(result.stream))
    assert np.array(drawn["matrix"]).sum() == 32
    assert [e["num_train"] for e in result.experiences] == np.array(drawn["matrix"]).sum(0).tolist()
    (row,) = summarise([result])
    assert row.values["a_auc"] is not None
    assert "forgetting" not in row.values


@pytest.mark.parametrize(
    "learner", ["er", "lwf", {"name": "rm", "memory_epochs": 2}, "clib", "mvp_r", "slda"]
)
def test_stopped_anywhere_and_gone_on_is_the_same(tmp_path, learner) -> None:
    class Stop:
        def __init__(self, step: int) -> None:
            self.left = step

        def begin(self, total_steps: int, done_steps: int) -> None: ...
        def experience_done(self, index: int, count: int, measure: str, scores: list) -> None: ...
        def step(self, strategy: Any) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    fields = {"learners": [learner], "training": {"batch_size": 5, "checkpoint_every": 1}}
    whole = make(tmp_path / "whole", **fields)
    whole.run_cell(0)
    cut = make(tmp_path / "cut", **fields)
    stops = 0
    while stops < 50:
        try:
            cut.run_cell(0, Stop(3))  # type: ignore[arg-type]
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops >= 2
    assert numbers(whole.cells[0].folder) == numbers(cut.cells[0].folder)


def test_evaluating_often_changes_no_number(tmp_path) -> None:
    ends = []
    for period in (1, 1000):
        learners = [{"name": "mvp_r", "memory_size": 8}]
        grid = make(tmp_path, learners=learners, scenario={**STREAM, "eval_period": period})
        metrics = grid.run_cell(0).metrics
        ends.append((metrics["anytime"]["tasks"], metrics["confusion_matrix"]))
    assert ends[0] == ends[1]
    assert metrics["a_auc"] is None  # a stream shorter than its period


def test_joint_is_tested_once_at_the_end(tmp_path) -> None:
    metrics = make(tmp_path, learners=["joint"]).run_cell(0).metrics
    assert (metrics["a_auc"], metrics["a_avg"], metrics["f_last"]) == (None, None, None)
    assert 0 <= metrics["a_last"] <= 1


def test_multi_label_streams_are_scored_by_auroc(tmp_path) -> None:
    learners = ["er", "mvp_r", "lwf", "ewcpp", "clib", "derpp", {"name": "rls", "hidden": 30}]
    learners += ["majority", "l2p", "joint"]
    for learner in learners:
        result = make(tmp_path, dataset="toy_chords", learners=[learner]).run_cell(0)
        assert 0 <= result.metrics["a_last"] <= 1
        assert result.metrics["a_last"] == pytest.approx(result.metrics["macro_auroc"])
        assert "a_auc_balanced" not in result.metrics
    write_html([result], tmp_path / "page.html")
    for learner in ("slda", "er_ace"):
        with pytest.raises(UserError, match="several labels"):
            make(tmp_path, dataset="toy_chords", learners=[learner])
    with pytest.raises(UserError, match="batch_class_mask"):
        make(tmp_path, dataset="toy_chords", learners=[{"name": "er", "batch_class_mask": True}])


def test_quick_is_two_tasks(tmp_path) -> None:
    data = {"name": "toy", "num_classes": 8, "train": 20}
    scenario = {"name": "si_blurry", "num_tasks": 4, "min_task_samples": 1}
    result = make(tmp_path, dataset=data, scenario=scenario, quick=True).run_cell(0)
    assert result.quick
    assert len(result.experiences) == len(result.stream["tasks"]) == 2


def test_the_page_shows_curves_and_draws(tmp_path, capsys) -> None:
    from rich.console import Console

    grid = make(tmp_path, learners=["er", "slda", "joint"], seeds=[1, 2])
    results = [grid.run_cell(i) for i in range(6)]
    page = write_html(results, tmp_path / "page.html").read_text()
    assert "Accuracy, overall, on the classes exposed so far" in page
    assert "evaluation (every 7 recordings)" in page
    for seed in (1, 2):
        assert f"seed {seed}: " in page
    print_table(results, Console(width=120))
    assert "A_AUC" in capsys.readouterr().out


def test_learners_that_do_not_fit_are_refused_before_anything_runs(tmp_path) -> None:
    with pytest.raises(UserError, match="'replay' comes back"):
        make(tmp_path, learners=["replay"])
    with pytest.raises(UserError, match="epochs has no meaning"):
        make(tmp_path, learners=[{"name": "er", "epochs": 3}])


def test_the_encoder_is_warmed_up_once_and_frozen(tmp_path, capsys) -> None:
    fields = {
        "learners": ["linear_probe", "slda", "mvp", {"name": "finetune", "train_encoder": True}],
        "encoder": {"name": "compact", "width": 16, "depth": 1, "heads": 2, "train": "none"},
        "warm_up": {"dataset": {"name": "toy", "num_classes": 3}, "epochs": 1},
    }
    grid = make(tmp_path, **fields)
    results = [grid.run_cell(i) for i in range(4)]
    folders = [p for p in (tmp_path / "warm_up").iterdir() if p.is_dir()]
    assert len(folders) == 1
    warm = Result.load(folders[0])
    assert warm.learner == "joint"
    again = make(tmp_path / "again", **fields)
    assert [again.run_cell(i).metrics for i in range(4)] == [r.metrics for r in results]
    weights = folders[0] / "models" / "experience_01.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    capsys.readouterr()
    make(tmp_path, **fields, seeds=[2]).run_cell(0)
    assert "was cleared, and is made again" in capsys.readouterr().err
    assert weights.read_bytes() == before


def test_a_warm_up_of_another_modality_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match="holds ecg recordings"):
        make(tmp_path, warm_up={"dataset": "synthetic_ecg"})


def test_a_regression_on_unknown_labels_is_refused_before_it_runs(tmp_path, monkeypatch) -> None:
    from dataclasses import replace

    from tests import toy

    whole = toy.toy_chords()
    rows = tuple(
        replace(r, unknown=(3,)) if r.uid.startswith("train") and 3 not in r.labels else r
        for r in whole
    )
    monkeypatch.setattr(toy, "toy_chords", lambda: replace(whole, recordings=rows))
    with pytest.raises(UserError, match="some labels of dataset 'chords' are unknown"):
        make(tmp_path, dataset="toy_chords", learners=["rls"])
    result = make(tmp_path, dataset="toy_chords", learners=["mvp_r"]).run_cell(0)
    assert 0 <= result.metrics["a_last"] <= 1
