"""A disk that is full, a quota, a disk that becomes read-only: one line, and nothing is lost.

Wherever a command stands when its disk refuses, it ends with one line that names the file and the
remedy; the same command goes on when there is room again, to the end of an undisturbed run.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.results.journal import Journal
from benchmarks.runs import checkpoint
from multimodal import files
from multimodal.files import EARLIER, TEMPORARY
from tests.benchmarks.commands.align.test_composed import WRITTEN
from tests.benchmarks.full_disk import Disk

NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
ZERO = """\
experiment: zero
dataset: {name: folder, root: clips, modality: speech}
model: {name: aligned, experiment: tones}
tracking: {store: none}
"""
COMMANDS = {
    "bench": "bench tiny.yaml training.checkpoint_every=1 training.log_every=1 training.epochs=2",
    "align": "align align.yaml training.checkpoint_every=1",
    "finetune": "finetune tune.yaml training.checkpoint_every=1",
    "zeroshot": "zeroshot zero.yaml",
}
OF = {"bench": "tiny", "align": "tones", "finetune": "tuned", "zeroshot": "zero"}
EARLY_AND_LATE = {
    "bench": (errno.ENOSPC, 0.9),
    "align": (errno.EDQUOT, 0.6),
    "finetune": (errno.EROFS, 0.5),
    "zeroshot": (errno.ENOSPC, 0.2),
}
# Of the machine, not of the run.
TIMED = {"recordings_per_second", "data_wait_share", "peak_memory_mib"}


class Begun(NamedTuple):
    """A working folder in which one command is to be run, on a disk that may refuse."""

    name: str
    place: Path
    medley: Any
    patch: pytest.MonkeyPatch

    def run(self, number: int = errno.ENOSPC, room: float = float("inf"), out: str = "runs") -> Any:
        """(what the command gave, bytes that it wrote)."""
        if self.name == "zeroshot":
            shutil.copytree(self.place / "aligned", self.place / out, dirs_exist_ok=True)
        with self.patch.context() as patch:
            disk = Disk(self.place, number, room).install(patch)
            words = [*COMMANDS[self.name].split(), "cache=disk", f"output_dir={out}"]
            return self.medley(*words), disk.written

    def end(self, out: str) -> tuple[Any, Any]:
        """Of the run: metrics, and lines of the journal."""
        (file,) = (self.place / out).glob(f"{OF[self.name]}/*/result.json")
        metrics = json.loads(file.read_text())["metrics"]
        lines, _ = Journal(file.with_name("metrics.jsonl")).read_from(0)
        return _untimed(metrics), [(line.step, _untimed(line.metrics)) for line in lines]


@pytest.fixture(params=COMMANDS)
def begun(request, medley, tuned, monkeypatch) -> Begun:
    (tuned / "zero.yaml").write_text(ZERO)
    if request.param == "zeroshot":
        assert medley("align", "align.yaml", "output_dir=aligned").code == 0
    return Begun(request.param, tuned, medley, monkeypatch)


def _untimed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMED}


def left_over(place: Path) -> list[str]:
    return [
        str(path)
        for path in place.rglob(".*")
        if TEMPORARY.fullmatch(path.name) or EARLIER.fullmatch(path.name)
    ]


def refused_and_repeated(begun: Begun, number: int, share: float, total: int, whole: Any) -> None:
    """At this share of all that the command writes."""
    out = f"runs_{number}_{round(1000 * share)}"
    outcome, _ = begun.run(number, share * total, out)
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert re.match(rf"error: {out}\S*: cannot (be written|write there) \(", line), line
    assert any(
        words in line for words in ("make room", "mend the permissions", "another output_dir")
    )
    if number != errno.EROFS:  # which does not let go of anything either
        assert not left_over(begun.place / out)
    for folder in (begun.place / out).glob("*/*/checkpoint"):
        checkpoint.load(folder)  # what was kept last is whole
    outcome, _ = begun.run(out=out)
    assert outcome.code == 0, outcome.err
    assert begun.end(out) == whole
    assert not left_over(begun.place / out)


def test_a_disk_that_refuses_costs_one_line(begun) -> None:
    outcome, total = begun.run(out="whole")
    assert outcome.code == 0, outcome.err
    number, share = EARLY_AND_LATE[begun.name]
    refused_and_repeated(begun, number, share, total, begun.end("whole"))


@pytest.mark.slow
def test_wherever_a_disk_refuses(begun) -> None:
    _, total = begun.run(out="whole")
    whole = begun.end("whole")
    for step in range(24):
        refused_and_repeated(begun, NUMBERS[step % 3], step / 24, total, whole)


# ---- commands that write what they make -----------------------------------------------------

MADE = (
    ("configs copy bench/own_folder made.yaml", "made.yaml"),
    ("merge runs/tuned --out made", "made"),
    ("predict runs/tuned clips --out made.csv", "made.csv"),
    ("predict runs/tuned clips --out made.parquet", "made.parquet"),
    ("explain runs/tuned clips/low/0.wav --out made", "made/explain.html"),
    ("report runs", "runs/tuned/report.html"),
    pytest.param(
        f"compose align.yaml --out made captions=text compose={WRITTEN.replace(' ', '')}",
        "made",
        marks=pytest.mark.slow,
    ),
)


@pytest.mark.parametrize(("command", "file"), MADE)
def test_what_a_command_makes_is_whole_or_not_there(
    command: str, file: str, medley, tuned, monkeypatch
) -> None:
    assert medley("finetune", "tune.yaml", "training.epochs=1").code == 0
    made, number = tuned / file, NUMBERS[len(file) % len(NUMBERS)]
    before = made.read_bytes() if made.is_file() else None
    with monkeypatch.context() as patch:
        Disk(tuned, number, room=100).install(patch)
        outcome = medley(*command.split())
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert re.search(r"cannot (be written|write there) \(", line), line
    assert (made.read_bytes() if made.is_file() else None) == before
    monkeypatch.setattr(files, "_lives", lambda process: False)  # the one that was refused
    assert medley(*command.split()).code == 0
    assert made.exists()
    assert not left_over(tuned)
