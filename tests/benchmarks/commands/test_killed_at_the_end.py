"""A process that is killed as soon as its result is written has lost nothing of the run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from benchmarks.results.journal import Journal, Line
from benchmarks.results.result import Result

COMMANDS = {
    "bench": ("tiny.yaml", "tiny"),
    "align": ("align.yaml", "tones"),
    "finetune": ("tune.yaml", "tuned"),
}
TIMED = {"recordings_per_second", "data_wait_share"}  # of the machine, not of the run


def lines_of(place: Path, out: str, experiment: str) -> list[tuple[int, dict[str, float]]]:
    (result,) = place.glob(f"{out}/{experiment}/*/result.json")
    found, end = Journal(result.with_name("metrics.jsonl")).read_from(0)
    assert end == result.with_name("metrics.jsonl").stat().st_size
    return [_untimed(line) for line in found]


def _untimed(line: Line) -> tuple[int, dict[str, float]]:
    return line.step, {key: v for key, v in line.metrics.items() if key not in TIMED}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_journal_is_whole_when_the_result_is_there(
    command: str, medley, tuned, monkeypatch
) -> None:
    file, experiment = COMMANDS[command]
    words = [command, file, "training.checkpoint_every=3"]
    assert medley(*words, "output_dir=whole").code == 0
    keep = Result.save

    def save(self: Result, folder: Path) -> None:
        keep(self, folder)
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        Result.save = save  # type: ignore[method-assign]
        try:
            medley(*words, "output_dir=killed")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    expected = lines_of(tuned, "whole", experiment)
    assert len(expected) > 2
    assert lines_of(tuned, "killed", experiment) == expected
    outcome = medley(*words, "output_dir=killed")
    assert outcome.code == 0
    assert "done before" in outcome.err
    assert lines_of(tuned, "killed", experiment) == expected
