"""Reports: reading run folders, means over seeds, the terminal table."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from rich.console import Console

from benchmarks.reports.numbers import Interval, interval_text, percent
from benchmarks.reports.page import write_html
from benchmarks.reports.rows import NOT_SETTINGS
from benchmarks.reports.tables import by_learner, columns, comparable, summarise
from benchmarks.reports.terminal import print_overview, print_table, terminal_tables
from benchmarks.results.files import find_results
from benchmarks.results.result import Result
from multimodal.digests import read_sealed
from multimodal.errors import UserError
from tests.benchmarks.fake_results import JOINT, make_result, save

# ---- finding ----------------------------------------------------------------------------


def test_results_are_found_at_three_levels(tmp_path: Path) -> None:
    results = [make_result("finetune"), make_result("replay", 0), make_result("replay", 1)]
    folders = [save(r, tmp_path) for r in results]
    assert find_results(tmp_path) == results
    assert find_results(tmp_path / "digits") == results
    assert find_results(folders[2]) == [results[2]]


def test_no_results_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no finished run: expected .*<config hash>"):
        find_results(tmp_path)
    with pytest.raises(UserError, match="nowhere is not a folder: expected an output folder"):
        find_results(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: "{", "Expecting property name"),
        (lambda d: "[]", "no object of JSON"),
        (lambda d: json.dumps({"experiment": "x"}), "missing"),
        (lambda d: json.dumps({**d, "seed": "first"}), "seed: Input should be a valid integer"),
        (lambda d: json.dumps({**d, "experiences": [{}]}), "valid integer"),
        (lambda d: _with_metric(d, "accuracy_matrix", [[0.1, 0.2], [0.3]]), "does not fit"),
        (lambda d: _with_metric(d, "accuracy_matrix", []), "does not fit 3 experiences"),
        (lambda d: _with_metric(d, "accuracy_matrix", [[90, 80, 70]]), "fraction in"),
        (lambda d: _with_metric(d, "confusion_matrix", [[1]]), "does not fit"),
        (lambda d: _with_metric(d, "average_accuracy", "good"), "valid number"),
        (lambda d: _with_metric(d, "per_class_accuracy", [1.0]), "valid dictionary"),
    ],
)
def test_damaged_result_names_its_file(tmp_path: Path, damage: Any, words: str) -> None:
    folder = save(make_result(), tmp_path)
    file = folder / "result.json"
    file.write_text(damage(read_sealed(file)))  # without its digest, as an edited one should be
    with pytest.raises(UserError) as caught:
        find_results(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{file} is damaged (")
    assert words in message
    assert "\n" not in message


def _with_metric(data: dict[str, Any], key: str, value: object) -> str:
    return json.dumps({**data, "metrics": {**data["metrics"], key: value}})


def test_undefined_cells_are_no_damage(tmp_path: Path) -> None:
    result = make_result(matrix=[[0.5, 0.5, 0.5]])
    undefined = {"accuracy_matrix": [[0.5, None, float("nan")]], "macro_auroc": float("nan")}
    save(replace(result, metrics={**result.metrics, **undefined}), tmp_path)
    (found,) = find_results(tmp_path)
    assert "nan" not in write_html([found], tmp_path / "page.html").read_text().lower()


# ---- summarising ------------------------------------------------------------------------


def test_rows_hold_mean_and_student_interval() -> None:
    runs = [make_result(seed=s) for s in range(4)]
    (row,) = summarise(runs)
    values = [r.metrics["average_accuracy"] for r in runs]
    half = scipy.stats.sem(values) * scipy.stats.t.ppf(0.975, df=3)
    assert row.values["average_accuracy"] == pytest.approx((np.mean(values), half, 4))
    assert (row.learner, row.seeds, row.seconds) == ("replay", 4, 11.5)


def test_one_seed_has_no_interval_and_undefined_metrics_none() -> None:
    (row,) = summarise([JOINT])
    last = (30 * 0.9 + 20 * 0.8 + 10 * 0.7) / 60
    assert row.values["last_accuracy"] == pytest.approx((last, None, 1))
    assert row.values["forgetting"] is None


def test_auroc_column_only_where_present() -> None:
    plain = make_result("a")
    scored = make_result("b")
    scored = replace(scored, metrics={**scored.metrics, "macro_auroc": 0.75})
    assert "macro_auroc" not in columns(summarise([plain]))
    rows = summarise([plain, scored])
    assert "macro_auroc" in columns(rows)
    assert [r.values.get("macro_auroc") for r in rows] == [None, Interval(0.75, None, 1)]


def test_rows_stand_in_the_order_in_which_they_were_started() -> None:
    runs = [
        replace(make_result(name), started=f"2026-01-01T00:00:0{second}+00:00")
        for second, name in ((2, "replay"), (1, "joint"), (3, "finetune"))
    ]
    assert list(by_learner(runs)) == ["joint", "replay", "finetune"]


def test_other_settings_are_other_rows_and_never_averaged() -> None:
    runs = []
    for size, seed in ((100, 0), (100, 1), (500, 0)):
        run = make_result(seed=seed, config_hash=f"{size}-{seed}")
        learners = [{"name": "replay", "memory_size": size}]
        runs.append(replace(run, config={**run.config, "learners": learners}))
    rows = summarise(runs)
    assert [(r.learner, r.seeds) for r in rows] == [
        ("replay (memory_size=100)", 2),
        ("replay (memory_size=500)", 1),
    ]


def test_a_whitened_head_is_a_row_of_its_own() -> None:
    """Beside the plain one, by its name; what else is set of heads tells whitened ones apart."""
    heads = [None, {"whiten": True, "eps": 0.01}, {"whiten": True, "eps": 0.1}]

    def rows(*entries: tuple[int, bool]) -> list[str]:
        runs = []
        for head, parts in entries:
            own = {"name": "mvp", "use_afs": parts, **({"head": heads[head]} if head else {})}
            run = make_result("mvp", config_hash=f"{head}-{parts}")
            runs.append(replace(run, config={**run.config, "learners": [own]}))
        return [row.learner for row in summarise(runs)]

    assert rows((0, True)) == ["mvp"]
    assert rows((1, True)) == ["mvp, whitened"]
    assert rows((0, True), (1, True)) == ["mvp", "mvp, whitened"]
    assert rows((0, True), (1, False)) == ["mvp (use_afs=true)", "mvp, whitened (use_afs=false)"]
    three = ["mvp", "mvp, whitened (eps=0.01)", "mvp, whitened (eps=0.1)"]
    assert rows((0, True), (1, True), (2, True)) == three


def test_places_are_not_settings() -> None:
    from benchmarks.config.base import PLACES

    assert set(NOT_SETTINGS) == {*PLACES, "seeds"}
    runs = [make_result(seed=s) for s in (0, 1)]
    runs[1] = replace(runs[1], config={**runs[1].config, "output_dir": "elsewhere"})
    assert [r.seeds for r in summarise(runs)] == [2]


def test_a_copied_run_counts_once() -> None:
    run = make_result()
    later = replace(run, seconds=99.0, started="2027-01-01T00:00:00+00:00")
    for runs in ([run, later], [later, run]):
        (row,) = summarise(runs)
        assert (row.seeds, row.seconds) == (1, 99.0)


@pytest.mark.parametrize(
    "change",
    [
        {"quick": True},
        {"experiment": "other"},
        {"scenario": "si_blurry"},
        {"dataset": {**JOINT.dataset, "content_hash": "f" * 16}},
        {"dataset": {**JOINT.dataset, "split_rule": "another"}},
        {"config": {**JOINT.config, "scenario": {"name": "class_incremental", "experiences": 9}}},
    ],
)
def test_unlike_runs_never_share_a_table(change: dict[str, Any]) -> None:
    runs = [make_result(seed=0), replace(make_result(seed=1), **change)]
    assert comparable(runs) == [[runs[0]], [runs[1]]]
    with pytest.raises(UserError, match="2 results of 2 different experiments"):
        summarise(runs)


def test_percent_and_interval_texts() -> None:
    assert [percent(x) for x in (0.1234, -0.05, -0.0001, 1.0)] == ["12.3", "−5.0", "0.0", "100.0"]
    assert interval_text(None, 3) == "–"
    assert interval_text(Interval(0.5, None, 1), 1) == "50.0"
    assert interval_text(Interval(0.5, 0.0123, 3), 3) == "50.0 ± 1.2"
    assert interval_text(Interval(0.5, 0.0123, 2), 3) == "50.0 ± 1.2 (2 of 3 seeds)"


# ---- terminal ---------------------------------------------------------------------------


def render(results: list[Result], width: int) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_table(results, console)
    return console.export_text()


def test_main_columns_fit_80() -> None:
    runs = [make_result("majority_class", seed=s) for s in range(3)]
    long = make_result("random_encoder_linear_probe", seconds=123456.7)
    text = render([*runs, long, JOINT], 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    for word in ("majority_class", "forgetting", "seeds", "123456.7", "–"):
        assert word in text
    folded = "".join(line.split("│")[1].strip() for line in text.splitlines() if "│" in line)
    assert folded == "majority_classrandom_encoder_linear_probejoint"
    row = summarise([*runs, JOINT])[0]
    assert interval_text(row.values["average_accuracy"], 3) in text
    assert "backward" not in text
    assert "backward" in render(runs, 160)


def test_title_names_data_and_what_it_is_not() -> None:
    plain = make_result()
    assert str(terminal_tables([plain])[0].title) == (
        "digits: fsdd 1.0.10; split: official: index 0-4 test"
    )
    made = replace(plain, quick=True, dataset={**plain.dataset, "synthetic": True})
    assert "fsdd 1.0.10, synthetic, quick; split" in str(terminal_tables([made])[0].title)


def test_markup_in_names_is_text() -> None:
    assert "[red]x[/red]" in render([make_result("[red]x[/red]")], 80)


def test_each_comparable_group_gets_a_table() -> None:
    text = render([make_result(), replace(make_result(), quick=True)], 80)
    assert text.count("digits: fsdd") == 2


def test_an_overview_shows_every_dataset_in_one_table() -> None:
    speech, second = make_result("finetune"), make_result("replay")
    ecg = replace(speech, modality="ecg", dataset={**speech.dataset, "name": "beats"})
    console = Console(width=120, record=True, file=io.StringIO())
    print_overview([speech, second, ecg], console)
    text = console.export_text()
    lines = [line for line in text.splitlines() if "finetune" in line or "replay" in line]
    assert len(lines) == 3
    assert "speech" in lines[0]
    assert "beats" in lines[2]
    assert text.count("last") == 1


def test_multi_label_results_have_auroc_columns() -> None:
    result = make_result("replay")
    values = {"macro_auroc": 0.8, "mean_average_precision": 0.6, "forgetting": 0.1}
    multi = replace(result, metrics={**values, "auroc_matrix": [[0.8, 0.5], [0.7, 0.9]]})
    assert (multi.score, multi.matrix) == ("macro AUROC", [[0.8, 0.5], [0.7, 0.9]])
    shown = columns(summarise([multi]))
    assert {"macro_auroc", "mean_average_precision", "forgetting"} <= set(shown)
    assert not {"average_accuracy", "last_accuracy"} & set(shown)
