"""``medley bench`` in processes beside each other makes what one process makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.several import Several
from benchmarks.runs import many
from multimodal.errors import UserError
from tests.toy import toy_data


def results(folder: str) -> dict[str, Any]:
    """Hash -> metrics and journal, without times."""
    found = {}
    for file in Path(folder).glob("tiny/*/result.json"):
        lines = (file.parent / "metrics.jsonl").read_text().splitlines()
        journal = [(x["step"], x["metrics"]) for x in map(json.loads, lines)]
        found[file.parent.name] = (json.loads(file.read_text())["metrics"], journal)
    return found


def test_processes_give_the_lines_and_numbers_of_one(medley, tiny) -> None:
    words = ["bench", "tiny.yaml", "learners=[finetune, replay]", "seeds=[1,2]"]
    alone = medley(*words, "output_dir=alone")
    assert alone.code == 0, alone
    beside = medley(*words, "output_dir=beside", "--workers", "2")
    assert beside.code == 0, beside
    assert results("alone") == results("beside")
    assert len(results("alone")) == 4
    for name in ("finetune seed 1", "finetune seed 2", "replay seed 1", "replay seed 2"):
        assert beside.err.count(f"{name}: experience 2/2  test accuracy %") == 1
        assert alone.err.count(f"{name}: experience 2/2  test accuracy %") == 1
    again = medley(*words, "output_dir=beside", "workers=2")
    assert again.err.count("done before, result reused") == 4
    assert again.code == 0


def test_a_cell_that_fails_is_told_when_the_others_are_done(medley, tiny) -> None:
    words = ["learners=[majority, finetune]", "training.learning_rate=1e30", "--workers", "2"]
    outcome = medley("bench", "tiny.yaml", *words)
    assert outcome.code == 2, outcome
    (line,) = [x for x in outcome.err.splitlines() if x.startswith("error: ")]
    assert "lower training.learning_rate" in line
    assert len(results("runs")) == 1


def test_workers_are_no_part_of_a_runs_identity() -> None:
    one, other = (RunConfig.parse(toy_data(**more)) for more in ({}, {"workers": 4}))
    assert one.hash == other.hash
    assert "workers" not in one.dump()
    again = RunConfig.parse(yaml.safe_load(other.to_yaml()))
    assert (again.workers, again.hash) == (4, one.hash)


def test_how_many_processes_run(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("MEDLEY_WORKERS", raising=False)
    monkeypatch.setattr(many, "cores", lambda: 8)
    monkeypatch.setattr(many, "fitting", lambda wanted, memory: wanted)

    def count(cells: int, flag: int | None = None, **more: Any) -> int:
        data = toy_data(seeds=list(range(cells)), output_dir=str(tmp_path), learners=["majority"])
        config = RunConfig.parse({**data, **more})
        return Several.checked([config], flag).workers

    assert [count(cells) for cells in (1, 2, 3, 4, 7)] == [1, 1, 1, 2, 3]
    assert count(40) == 8
    assert count(6, quick=True) == 1
    assert count(6, 5) == count(6, workers=5) == 5
    assert count(3, 5) == 3
    assert count(6, 1, workers=5) == 1
    monkeypatch.setenv("MEDLEY_WORKERS", "3")
    assert count(6) == 3
    monkeypatch.setenv("MEDLEY_WORKERS", "several")
    with pytest.raises(UserError, match="MEDLEY_WORKERS=several: give a whole number"):
        count(6)
