"""Tables for other programs: every number against the results that it was made of."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

from benchmarks.reports.exports import WRITERS, export
from benchmarks.reports.ranking import ranked
from benchmarks.results.result import Result
from multimodal.errors import UserError
from tests.benchmarks.fake_results import JOINT, make_result, save


def runs(seeds: int = 3) -> list[Result]:
    """Three learners that are known apart: er best, then replay, then finetune; and joint."""
    heights = {"finetune": 0.2, "er": 0.8, "replay": 0.5}
    found = []
    for name, height in heights.items():
        for seed in range(seeds):
            low = height - 0.01 * seed
            found.append(make_result(name, seed, matrix=[[height, 0, 0], [low] * 3, [low] * 3]))
    return [*found, JOINT]


def of(results: list[Result], learner: str, key: str) -> list[float]:
    return [r.metrics[key] for r in results if r.learner == learner]


# ---- ranking --------------------------------------------------------------------------------


def test_the_best_stand_first_and_bounds_do_not_compete() -> None:
    table = ranked(runs())
    assert table.key == "average_accuracy"
    assert [row.learner for row in table.competitors] == ["er", "replay", "finetune"]
    assert table.bounds == {"joint"}
    assert table.best("average_accuracy") == {"er"}
    means = [r.values["average_accuracy"].mean for r in table.rows if r.values["average_accuracy"]]
    assert means == sorted(means, reverse=True)


def test_less_forgetting_is_better() -> None:
    table = ranked(runs(), "forgetting")
    lost = [r.values["forgetting"].mean for r in table.rows if r.values["forgetting"]]
    assert lost == sorted(lost)
    assert table.rows[-1].learner == "joint"  # it has none
    assert table.best("forgetting") == {table.rows[0].learner}


def test_a_metric_that_is_not_there_is_named() -> None:
    assert ranked(runs(), "average accuracy").key == "average_accuracy"
    with pytest.raises(UserError, match="--sort: no metric 'average_acuracy' here; did you mean"):
        ranked(runs(), "average_acuracy")
    with pytest.raises(UserError, match="no metric 'a_auc'"):
        ranked(runs(), "a_auc")


# ---- formats --------------------------------------------------------------------------------


def test_csv_and_json_hold_the_numbers_themselves() -> None:
    results = runs()
    (table,) = json.loads(export(results, "json"))
    lines = list(csv.DictReader(io.StringIO(export(results, "csv"))))
    assert [row["learner"] for row in table["rows"]] == [line["learner"] for line in lines]
    for row, line in zip(table["rows"], lines, strict=True):
        values = of(results, row["learner"], "average_accuracy")
        found = row["metrics"]["average_accuracy"]
        assert found["seeds"] == values
        assert found["mean"] == pytest.approx(np.mean(values))
        assert float(line["average_accuracy"]) == found["mean"]
        assert row["upper_bound"] == (row["learner"] == "joint") == (line["upper_bound"] == "True")
        assert [int(s) for s in line["seeds"].split()] == row["seeds"]
        if len(values) > 1:
            half = scipy.stats.sem(values) * scipy.stats.t.ppf(0.975, df=len(values) - 1)
            assert float(line["average_accuracy_half_width"]) == pytest.approx(half)
            assert found["half_width"] == pytest.approx(half)


def cells(markdown: str) -> list[list[str]]:
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_markdown_has_the_best_in_bold() -> None:
    results = runs()
    head, rule, *rows = cells(export(results, "markdown"))
    assert len({len(row) for row in (head, rule, *rows)}) == 1
    place = head.index("average accuracy ↑")
    assert "forgetting ↓" in head
    shown = {row[0]: row[place] for row in rows}
    mean = 100 * np.mean(of(results, "er", "average_accuracy"))
    assert re.fullmatch(rf"\*\*{mean:.1f} ± \d+\.\d\*\*", shown["er"])
    assert "**" not in "".join(
        shown[name] for name in ("replay", "finetune", "joint (upper bound)")
    )
    assert [row[-1] for row in rows] == [str(3 if n != "joint (upper bound)" else 1) for n in shown]


def test_below_three_seeds_the_seeds_stand_there() -> None:
    results = runs(seeds=2)
    head, _, *rows = cells(export(results, "markdown"))
    own = {row[0]: row[head.index("average accuracy ↑")] for row in rows}["replay"]
    first, second = (f"{100 * v:.1f}" for v in of(results, "replay", "average_accuracy"))
    mean = f"{100 * np.mean(of(results, 'replay', 'average_accuracy')):.1f}"
    assert own == f"{mean} ({first}; {second})"
    assert "seeds in brackets" in export(results, "markdown")
    assert "±" not in own


def test_latex_is_escaped_and_balanced() -> None:
    results = [replace(r, experiment="a_b & 50%") for r in runs()]
    text = export(results, "latex")
    assert r"a\_b \& 50\%" in text
    assert text.count("{") == text.count("}")
    assert not re.search(r"(?<!\\)[&%_#]", re.sub(r" & |% needs.*", "", text))
    (columns,) = re.findall(r"begin\{tabular\}\{(\w+)\}", text)
    body = text.partition("\\toprule")[2].partition("\\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {row.count(" & ") + 1 for row in rows} == {len(columns)}
    (er,) = [row for row in rows if row.startswith("er &")]
    assert er.count(r"\textbf") >= 1
    assert "±" not in text


@pytest.mark.parametrize("form", WRITERS)
def test_each_group_has_its_table(form: Any) -> None:
    other = [replace(r, experiment="other") for r in runs()]
    text = export([*runs(), *other], form)
    assert "other" in text
    if form == "csv":
        assert len(text.splitlines()) == 1 + 2 * 4
    if form == "json":
        assert [len(table["rows"]) for table in json.loads(text)] == [4, 4]


# ---- the command ----------------------------------------------------------------------------


@pytest.fixture
def kept(tmp_path) -> Path:
    for result in runs():
        save(result, tmp_path / "runs")
    return tmp_path / "runs"


def test_report_prints_a_format_and_writes_nothing(medley, kept) -> None:
    before = sorted(kept.rglob("*"))
    outcome = medley("report", "runs", "--format", "json", "--sort", "forgetting")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)[0]["sorted_by"] == "forgetting"
    assert sorted(kept.rglob("*")) == before
    assert medley("report", "--format", "pdf").err.startswith("error: --format: no format 'pdf'")
    assert "--sort: no metric" in medley("report", "--sort", "beauty").err


def test_the_terminal_table_may_be_sorted(medley, kept) -> None:
    out = medley("report", "--sort", "average_accuracy").out
    places = [out.index(f" {name} ") for name in ("er", "replay", "finetune")]
    assert places == sorted(places)


def test_two_rows_beside_each_other(medley, kept) -> None:
    outcome = medley("report", "--compare", "er", "replay")
    assert outcome.code == 0, outcome.err
    (line,) = [line for line in outcome.out.splitlines() if "average accuracy" in line]
    er, replay = (of(runs(), name, "average_accuracy") for name in ("er", "replay"))
    assert f"{100 * np.mean(er):.1f} ±" in line
    apart = f"{100 * np.mean(np.subtract(replay, er)):.1f}".replace("-", "−")
    assert f"{apart} ±" in line
    assert "learner" in outcome.out
    assert "3 shared seeds" in outcome.out


def test_two_runs_by_their_hashes(medley, kept) -> None:
    outcome = medley("report", "--compare", "er00000000", "er00000001")
    assert outcome.code == 0, outcome.err
    assert "(none)" in outcome.out  # they differ by seed only
    assert "no row 'nobody' here" in medley("report", "--compare", "er", "nobody").err
    assert medley("report", "--compare", "er", "replay", "--format", "csv").code == 2
