"""How a run tells classes to come from those it met: in result and journal, and only if asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from benchmarks.runs import machine, session
from multimodal.errors import UserError
from tests.toy import toy_data

MET = {"unknown": "met"}
BLURRY = {
    **{"name": "si_blurry", "num_tasks": 2, "min_task_samples": 1, "eval_period": 10},
    **{"disjoint_class_ratio": 1.0, "blurry_sample_ratio": 0.0},
}


@pytest.fixture(autouse=True)
def no_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "draw_pictures", lambda *_: [])
    monkeypatch.setattr(session, "write_html", lambda _, path: path)
    monkeypatch.setattr(machine, "git_commit", lambda: None)


def make(folder: Path, **changes: Any) -> Cells:
    data = toy_data(output_dir=str(folder), evaluation=MET)
    return Cells(validate(RunConfig, {**data, **changes}, source="toy"))


class Stop:
    """Ends a run after so many steps, as a power cut would."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def begin(self, total_steps: int, done_steps: int) -> None: ...

    def step(self, strategy: Any, /) -> None:
        self.left -= 1
        if not self.left:
            raise RuntimeError("stopped")

    def experience_done(
        self, index: int, count: int, measure: str, scores: list[float]
    ) -> None: ...


def test_a_config_that_does_not_ask_is_what_it_was() -> None:
    plain = RunConfig.parse(toy_data())
    assert "evaluation" not in plain.dump()
    assert RunConfig.parse(toy_data(evaluation={})).hash == plain.hash
    assert RunConfig.parse(toy_data(evaluation=MET)).hash != plain.hash


def test_it_stands_in_result_and_journal_and_goes_on_exactly(tmp_path) -> None:
    scenario = {"name": "class_incremental", "num_experiences": 4}
    changes: dict[str, Any] = {"scenario": scenario, "evaluation": {"unknown": "kept"}}
    changes["learners"] = [{"name": "palm", "memory_size": 6, "projection": 8}]
    cells = make(tmp_path / "whole", **changes)
    metrics = cells.run_cell(0).metrics
    for name in ("unknown_auroc", "unknown_fpr95"):
        series = metrics[f"{name}_by_experience"]
        assert [value is None for value in series] == [False, False, False, True]
        assert all(0 <= value <= 1 for value in series[:3])
        assert metrics[name] == pytest.approx(sum(series[:3]) / 3)
        lines = (cells.cells[0].folder / "metrics.jsonl").read_text().splitlines()
        told = [json.loads(line)["metrics"].get(name) for line in lines]
        assert [value for value in told if value is not None] == series[:3]
    with pytest.raises(RuntimeError, match="stopped"):
        make(tmp_path / "cut", **changes).run_cell(0, Stop(5))
    assert make(tmp_path / "cut", **changes).run_cell(0).metrics == metrics


def test_asking_changes_nothing_else(tmp_path) -> None:
    asked, plain = (
        make(tmp_path / name, evaluation=evaluation).run_cell(0).metrics
        for name, evaluation in (("asked", MET), ("plain", {}))
    )
    assert {k: v for k, v in asked.items() if not k.startswith("unknown_")} == plain


@pytest.mark.parametrize("name", ["majority", "joint", "l2p"])
def test_it_is_none_without_embeddings_of_a_tower_or_without_unknown_classes(
    name, tmp_path
) -> None:
    metrics = make(tmp_path, learners=[name]).run_cell(0).metrics
    assert metrics["unknown_auroc"] is None
    assert set(metrics["unknown_fpr95_by_experience"]) == {None}


def test_a_frozen_tower_and_a_stream_met_once(tmp_path) -> None:
    metrics = make(tmp_path, learners=["slda"], scenario=BLURRY).run_cell(0).metrics
    first, last = metrics["unknown_auroc_by_experience"]
    assert 0 <= first <= 1
    assert last is None
    assert metrics["unknown_auroc"] == first


def test_what_has_no_unknown_class_is_refused_at_once(tmp_path) -> None:
    shared = {"name": "toy", "shared_groups": True}
    with pytest.raises(UserError, match=r"evaluation.unknown=met: the first experience shows") as e:
        make(tmp_path, dataset=shared, scenario={"name": "domain_incremental"})
    assert "\n" not in str(e.value)
    with pytest.raises(UserError, match=r"evaluation.unknown=met: recordings of dataset 'chords'"):
        make(tmp_path, dataset="toy_chords")
    with pytest.raises(UserError, match=r"evaluation.unknown"):
        make(tmp_path, evaluation={"unknown": True})
