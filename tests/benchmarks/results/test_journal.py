"""The journal keeps every line, cuts back to a checkpoint, and shows complete lines only."""

from __future__ import annotations

import json
import math
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.results import journal as module
from benchmarks.results.journal import Journal
from multimodal.errors import UserError

METRICS = st.dictionaries(st.text(max_size=8), st.floats(), max_size=4)
ENTRIES = st.lists(st.tuples(METRICS, st.integers(0, 2**40)), max_size=12)


def same(a: dict[str, float], b: dict[str, float]) -> bool:
    return a.keys() == b.keys() and all(a[k] == b[k] or (a[k] != a[k] and b[k] != b[k]) for k in a)


@settings(max_examples=25, deadline=None)
@given(ENTRIES)
def test_reads_back_what_was_written_in_strict_json(entries):
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "run" / "metrics.jsonl")
        before = time.time()
        for metrics, step in entries:
            journal.write(metrics, step)
        size = journal.flush()
        lines, end = journal.read_from(0)
        journal.close()
        assert end == size == (journal.path.stat().st_size if entries else 0)
        assert [line.step for line in lines] == [step for _, step in entries]
        assert all(same(a.metrics, b[0]) for a, b in zip(lines, entries, strict=True))
        assert all(before * 1000 - 1 <= x.time <= time.time() * 1000 for x in lines)
        if entries:
            for text in journal.path.read_text("utf-8").split("\n")[:-1]:
                json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))


def test_line_format(tmp_path):
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.write({"loss": 0.5, "x": math.nan, "y": math.inf, "z": -math.inf}, 7)
    journal.close()
    line = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert line["step"] == 7
    assert line["metrics"] == {"loss": 0.5, "x": "nan", "y": "inf", "z": "-inf"}
    assert isinstance(line["time"], int)


def test_truncate_drops_everything_after_the_checkpoint(tmp_path):
    journal = Journal(tmp_path / "metrics.jsonl")
    journal.write({"a": 1.0}, 1)
    offset = journal.flush()
    journal.write({"a": 2.0}, 2)
    journal.close()

    resumed = Journal(tmp_path / "metrics.jsonl")
    resumed.truncate(offset)
    resumed.write({"a": 3.0}, 2)
    resumed.flush()
    assert [(x.step, x.metrics["a"]) for x in resumed.read_from(0)[0]] == [(1, 1.0), (2, 3.0)]


def test_truncate_refuses_a_file_shorter_than_its_checkpoint(tmp_path):
    journal = Journal(tmp_path / "metrics.jsonl")
    with pytest.raises(UserError, match=r"metrics\.jsonl: has 0 bytes.*made at 5.*run folder"):
        journal.truncate(5)


def test_truncate_to_zero_makes_no_file(tmp_path):
    Journal(tmp_path / "metrics.jsonl").truncate(0)
    assert list(tmp_path.iterdir()) == []


def test_a_half_line_is_not_read_and_not_continued(tmp_path):
    path = tmp_path / "metrics.jsonl"
    journal = Journal(path)
    journal.write({"a": 1.0}, 1)
    end = journal.flush()
    journal.close()
    with path.open("ab") as file:
        file.write(b'{"step":2,"ti')
    assert Journal(path).read_from(end) == ([], end)
    again = Journal(path)
    again.write({"a": 3.0}, 3)
    again.close()
    assert [x.step for x in again.read_from(0)[0]] == [1, 3]


def test_reading_goes_on_in_bounded_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_READ_BYTES", 100)
    journal = Journal(tmp_path / "metrics.jsonl")
    for step in range(50):
        journal.write({"name" * (40 if step == 20 else 1): float(step)}, step)
    size = journal.flush()
    steps, offset, reads = [], 0, 0
    while offset < size:
        lines, offset = journal.read_from(offset)
        steps += [x.step for x in lines]
        reads += 1
    assert steps == list(range(50))
    assert reads > 10


@pytest.mark.parametrize("count", [0, 1, 17, 50, 60])
def test_after_line(tmp_path, monkeypatch, count):
    monkeypatch.setattr(module, "_READ_BYTES", 200)
    journal = Journal(tmp_path / "metrics.jsonl")
    ends = [0]
    for step in range(50):
        journal.write({"a": step / 3}, step)
        ends.append(journal.flush())
    assert journal.after_line(count) == (ends[min(count, 50)], max(count - 50, 0))


@pytest.mark.parametrize(
    "text", ["nonsense", '{"step": 1}', "[1]", '{"step":1,"time":2,"metrics":3}']
)
def test_a_foreign_line_is_named(tmp_path, text):
    path = tmp_path / "metrics.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl: after byte 0.*not a line"):
        Journal(path).read_from(0)
