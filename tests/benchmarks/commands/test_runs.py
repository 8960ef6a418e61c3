"""``medley runs list``: what each run folder is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.runs.workspace import run_lock
from tests.benchmarks.fake_results import make_result, save

CONFIG = """\
experiment: digits
dataset: {name: fsdd}
learners: [{name: er, memory_size: 200}]
seeds: [7]
"""


@pytest.fixture
def kept(tmp_path) -> Path:
    for size, seed in ((100, 1), (500, 1), (500, 2)):
        run = make_result("replay", seed, config_hash=f"{size}-{seed}")
        learners = [{"name": "replay", "memory_size": size}]
        save(replace(run, config={**run.config, "learners": learners}), tmp_path / "runs")
    begun = tmp_path / "runs" / "digits" / "begun0000000"
    begun.mkdir()
    (begun / "config.yaml").write_text(CONFIG)
    return tmp_path / "runs"


def rows(out: str) -> dict[str, list[str]]:
    lines = [line for line in out.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_every_run_is_told_apart(medley, kept) -> None:
    outcome = medley("runs", "list")
    assert outcome.code == 0, outcome.err
    found = rows(outcome.out)
    for size, seed in ((100, 1), (500, 1), (500, 2)):
        learner, data, own, state, score = found[f"{size}-{seed}"]
        assert (learner, data, own) == (f"replay (memory_size={size})", "fsdd", str(seed))
        mean = 100 * make_result("replay", seed).metrics["average_accuracy"]
        assert (state, score) == ("done", f"average accuracy {mean:.1f}")
    assert found["begun0000000"][:4] == ["er", "fsdd", "7", "stopped"]
    assert outcome.out.endswith("4 runs: 3 done, 1 stopped.\n")


def test_what_a_process_is_at_is_running(medley, kept) -> None:
    with run_lock(kept / "digits" / "begun0000000"):
        found = rows(medley("runs", "list", "runs/digits").out)
    assert found["begun0000000"][3] == "running"


def test_what_is_damaged_is_told_and_the_others_too(medley, kept) -> None:
    (kept / "digits" / "500-1" / "result.json").write_text("{")
    (kept / "digits" / "begun0000000" / "config.yaml").write_text("[")
    outcome = medley("runs", "list")
    assert outcome.code == 0, outcome.err
    found = rows(outcome.out)
    assert found["500-1"][3] == found["begun0000000"][3] == "damaged"
    assert found["500-2"][3] == "done"


def test_one_run_and_none(medley, kept) -> None:
    assert list(rows(medley("runs", "list", "runs/digits/500-2").out)) == ["500-2"]
    outcome = medley("runs", "list", "nowhere")
    assert outcome.code == 2
    assert outcome.err.startswith("error: nowhere: no run in it")


def test_nothing_is_cut_on_a_narrow_terminal(medley, kept, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    out = medley("runs", "list").out
    assert "…" not in out
    assert "begun0000000" in out
