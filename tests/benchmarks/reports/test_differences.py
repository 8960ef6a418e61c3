"""Paired differences: against the closed form, over shared seeds only, shown where they belong."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy.stats import ttest_rel

from benchmarks.cli import main
from benchmarks.reports.differences import COMPARED, differences
from benchmarks.reports.page import write_html
from benchmarks.reports.terminal import print_table
from benchmarks.results.result import Result
from tests.benchmarks.fake_results import make_result, save

T = {2: 12.7062, 3: 4.30265, 4: 3.18245}  # n -> the quantile of Student's t at 0.975, of a table
CLIP, CWCL = [0.50, 0.70, 0.60], [0.51, 0.72, 0.63]


def run(learner: str, seed: int, top1: float | None, **changes: object) -> Result:
    config = {"experiment": "digits", "objectives": [{"name": learner}]}
    metrics = {"zero_shot_top1": top1, "zero_shot_chance": 0.1, "recall_at_1": None}
    result = replace(
        make_result(learner, seed, config_hash=f"{learner}-{seed}"),
        command="align",
        scenario="alignment",
        experiences=[],
        metrics=metrics,
        config=config,
        started=f"2026-01-01T00:0{len(learner)}:0{seed}+00:00",
    )
    return replace(result, **changes)


def runs(learner: str, values: list[float], start: int = 0) -> list[Result]:
    return [run(learner, start + i, value) for i, value in enumerate(values)]


def render(results: list[Result], width: int = 80, **options: object) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(results, console, **options)  # pyright: ignore[reportArgumentType]
    return console.export_text()


def test_the_interval_is_that_of_the_paired_differences() -> None:
    found = differences([*runs("clip", CLIP), *runs("other", CWCL)])
    assert found is not None
    assert (found.reference, found.keys) == ("clip", ["zero_shot_top1"])
    (row,) = found.rows
    value = row.values["zero_shot_top1"]
    assert value is not None
    # Differences 1, 2, 3 points: mean 2, standard deviation 1.
    assert value == pytest.approx((0.02, T[3] * 0.01 / np.sqrt(3), 3), rel=1e-5)
    assert (row.row, row.seeds, row.left_out) == ("other", 3, 0)
    assert row.text("zero_shot_top1") == "+2.0 ± 2.5"
    assert row.seeds_text == "3"
    spread = np.std(CLIP, ddof=1)  # what no pairing would leave in the interval
    assert value.half_width is not None
    assert value.half_width < T[3] * spread / np.sqrt(3) / 5


def test_what_is_told_apart_is_marked_after_a_correction_for_all_rows() -> None:
    noise = np.array([0.0, 0.01, -0.01, 0.02, -0.02])
    clip = [0.5] * 5
    shifts = {"far_": 0.1, "near__": 0.021, "none___": 0.002}
    rows = {name: list(0.5 + shift + noise) for name, shift in shifts.items()}
    results = [*runs("clip", clip), *(r for n, values in rows.items() for r in runs(n, values))]
    chances = [ttest_rel(rows[name], clip).pvalue for name in rows]  # pyright: ignore
    # By hand: the smallest times 3, the next times 2.
    assert chances[0] * 3 < 0.05
    assert chances[1] < 0.05 < chances[1] * 2  # told apart only by who does not correct
    found = differences(results)
    assert found is not None
    assert [row.p["zero_shot_top1"] for row in found.rows] == pytest.approx(chances)
    marks = [row.text("zero_shot_top1").endswith("*") for row in found.rows]
    assert marks == [True, False, False]
    assert "Holm" in render(results)
    assert "*" not in render([r for r in results if r.learner != "far_"])


def test_signs_and_a_difference_that_is_none() -> None:
    same, worse = CLIP, [value - 0.1 for value in CLIP]
    found = differences([*runs("clip", CLIP), *runs("same_", same), *runs("worse_", worse)])
    assert found is not None
    assert [row.text("zero_shot_top1") for row in found.rows] == ["0.0 ± 0.0", "−10.0 ± 0.0"]


def test_seeds_of_one_side_are_left_out_and_counted() -> None:
    """Seeds 0 to 2 of one row, 1 to 4 of the other: 1 and 2 are shared."""
    found = differences([*runs("clip", CLIP), *runs("other", [0.7, 0.7, 0.1, 0.1], 1)])
    assert found is not None
    (row,) = found.rows
    # 0.7 - 0.7 and 0.7 - 0.6: standard deviation 0.1 / sqrt(2).
    expected = (0.05, T[2] * 0.1 / np.sqrt(2) / np.sqrt(2), 2)
    assert row.values["zero_shot_top1"] == pytest.approx(expected, rel=1e-5)
    assert (row.seeds, row.left_out) == (2, 3)
    assert row.seeds_text == "2\n(3 left out)"
    text = render([*runs("clip", CLIP), *runs("other", [0.7, 0.7, 0.1, 0.1], 1)])
    assert "(3 left out)" in text


@pytest.mark.parametrize("gap", [None, float("nan")])
def test_a_seed_without_the_metric_is_no_zero(gap: float | None) -> None:
    some = runs("other", CWCL)
    some[0] = run("other", 0, gap)
    found = differences([*runs("clip", CLIP), *some])
    assert found is not None
    (row,) = found.rows
    # 2 and 3 points are left.
    assert row.values["zero_shot_top1"] == pytest.approx((0.025, T[2] * 0.005, 2), rel=1e-5)
    assert row.text("zero_shot_top1") == "+2.5 ± 6.4 (2 of 3 seeds)"


def test_a_row_of_one_shared_seed_has_no_numbers() -> None:
    results = [*runs("clip", CLIP), *runs("other", CWCL), *runs("single", [0.9])]
    found = differences(results)
    assert found is not None
    assert [row.text("zero_shot_top1") for row in found.rows] == ["+2.0 ± 2.5", "–"]
    assert [row.seeds for row in found.rows] == [3, 1]


@pytest.mark.parametrize(
    "results",
    [
        [*runs("clip", [0.5]), *runs("other", [0.6])],
        [*runs("clip", [0.5, 0.5]), *runs("other", [0.6, 0.6], 2)],
        runs("clip", CLIP),
        [*runs("clip", CLIP), *[run("other", seed, None) for seed in range(3)]],
    ],
    ids=["one seed", "no shared seed", "one row", "no value"],
)
def test_without_two_shared_seeds_there_is_no_table(results: list[Result], tmp_path: Path) -> None:
    assert differences(results) is None
    assert "difference" not in render(results)
    assert "Difference to" not in write_html(results, tmp_path / "page.html").read_text()


def test_what_is_a_fact_of_the_data_is_not_compared() -> None:
    found = differences([*runs("clip", CLIP), *runs("other", CWCL)])
    assert found is not None
    assert "zero_shot_chance" not in found.keys


def test_the_reference_is_the_first_row_or_the_one_that_is_asked_for() -> None:
    clip, other = runs("clip", CLIP), runs("other", CWCL)
    for against in (other[0], "other"):
        found = differences([*clip, *other], against)
        assert found is not None
        assert found.reference == "other"
        assert [row.text("zero_shot_top1") for row in found.rows] == ["−2.0 ± 2.5"]
    assert differences([*clip, *other], "another") is None
    assert differences(clip, other[0]) is None


def test_a_run_in_memory_is_the_one_that_was_written(tmp_path: Path) -> None:
    """Intervals are tuples in memory and lists in a file; a value may be no number."""
    evaluation = {"intervals": {"zero_shot_top1": (0.1, 0.2)}, "odd": float("nan")}
    rows = [*runs("clip", CLIP), *runs("other", CWCL)]
    made = [replace(each, evaluation=evaluation) for each in rows]
    for each in made:
        (tmp_path / each.config_hash).mkdir()
        each.save(tmp_path / each.config_hash)
    read = [Result.load(tmp_path / each.config_hash) for each in made]
    assert read != made
    found = differences(read, made[-1])
    assert found is not None
    assert found.reference == "other"


def test_alignment_and_zero_shot_compare_by_themselves_and_streams_where_asked() -> None:
    pair = [*runs("clip", CLIP), *runs("other", CWCL)]
    for command in COMPARED:
        assert "difference to clip" in render([replace(run, command=command) for run in pair])
    streams = [make_result(name, seed) for name in ("er", "replay") for seed in range(3)]
    assert "difference" not in render(streams)
    text = render(streams, against="replay")
    assert "difference to replay" in text
    assert "percentage points, row − replay" in text


def test_the_page_holds_them(tmp_path: Path) -> None:
    pair = [*runs("clip", CLIP), *runs("<b>other", CWCL)]
    page = write_html(pair, tmp_path / "page.html").read_text("utf-8")
    assert "<h3>Difference to clip</h3>" in page
    assert "<td>+2.0 ± 2.5</td>" in page
    assert "<b>" not in page
    page = write_html(pair, tmp_path / "page.html", against="<b>other").read_text("utf-8")
    assert "<h3>Difference to &lt;b&gt;other</h3>" in page


def medley(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["medley", *words])
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def test_report_against_a_row(tmp_path: Path, monkeypatch, capsys) -> None:
    for name in ("er", "replay"):
        for seed in range(3):
            save(make_result(name, seed), tmp_path)
    assert medley(monkeypatch, "report", str(tmp_path)) == 0
    page = tmp_path / "digits" / "report.html"
    assert "difference to" not in capsys.readouterr().out
    assert "Difference to" not in page.read_text()
    assert medley(monkeypatch, "report", str(tmp_path), "--against", "er") == 0
    assert "difference to er" in capsys.readouterr().out
    assert "<h3>Difference to er</h3>" in page.read_text()


def test_report_against_a_row_that_is_not_there(tmp_path: Path, monkeypatch, capsys) -> None:
    for name in ("er", "replay"):
        save(make_result(name), tmp_path)
    assert medley(monkeypatch, "report", str(tmp_path), "--against", "reply") == 2
    out, told = capsys.readouterr()
    assert out == ""
    assert told == (
        "error: --against: no row 'reply' here; did you mean 'replay'? Valid: er, replay.\n"
    )
    assert not (tmp_path / "digits" / "report.html").exists()


def test_names_with_commas_stay_apart_in_the_list_of_valid_ones(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    for entry in ({"name": "er"}, {"name": "er", "head": {"whiten": True}}):
        result = make_result("er", config_hash=f"{len(entry):012x}")
        save(replace(result, config={**result.config, "learners": [entry]}), tmp_path)
    assert medley(monkeypatch, "report", str(tmp_path), "--against", "er, white") == 2
    assert "did you mean 'er, whitened'? Valid: er; er, whitened." in capsys.readouterr().err
