"""Tables of many columns: every head and number whole, at any width of a terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from benchmarks.reports.stacked import Column, stacked
from benchmarks.reports.terminal import print_overview, print_table, print_wordings
from benchmarks.results.metric_names import METRICS
from benchmarks.results.result import Result
from tests.benchmarks.fake_results import make_result

ROWS = ("clip", "clip, scale fixed at 5", "cwcl (linear, reconstruction)", "random_encoder_probe")


def shown(width: int, *tables: object) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in tables:
        console.print(table)
    return console.export_text().splitlines()


def aligned(keys: list[str]) -> list[Result]:
    """Results of all rows and three seeds with these metrics, ``88.8 ± 8.8`` or so each."""
    results = []
    for name in ROWS:
        for seed in range(3):
            values = dict.fromkeys(keys, (0.2, 0.5, 0.3)[seed])
            found = {"top1_by_template": {f"template {name[:4]} {{}}": 0.5, "{}": 0.25}}
            result = make_result(name, seed, config_hash=f"{name}-{seed}")
            changes = {"command": "align", "scenario": "alignment", "experiences": []}
            results.append(replace(result, **changes, metrics=values, evaluation=found))
    return results


def columns(lines: list[str]) -> str:
    """All text, columns by column: what stands between bars in lines under each other."""
    blocks, block = [], []
    for line in [*lines, ""]:
        if line.startswith(("┃", "│")):
            block.append([cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")])
        elif block:
            blocks += [" ".join(filter(None, cells)) for cells in zip(*block, strict=True)]
            block = []
    return "\n".join(blocks)


@pytest.mark.parametrize("width", [50, 60, 80, 100, 120, 150, 200, 300])
def test_no_head_is_broken_and_no_column_lost(width: int) -> None:
    keys = list(METRICS)
    console = Console(width=width, record=True, file=io.StringIO())
    print_table(aligned(keys), console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    heads = columns(text.splitlines())
    main = ["zero-shot top-1", "chance", "majority class", "linear probe", "R@10", "text to signal"]
    for words in ["seconds", "seeds", "learner", *(METRICS.values() if width >= 150 else main)]:
        assert words in heads, words
    assert " ".join(text.split()).count("seconds: mean") == 1


def test_wide_terminals_show_one_table() -> None:
    numbers = [Column(f"head {i}", ["1.0 ± 2.0"]) for i in range(7)]
    labels = [Column("learner", ["clip"])]
    assert len(stacked(labels, numbers, width=120)) == 1
    assert len(stacked(labels, numbers, width=80)) == 2


def test_parts_are_even_titled_once_and_in_order() -> None:
    numbers = [Column(f"h{i}", ["12.3 ± 4.5"]) for i in range(5)]
    tables = stacked([Column("learner", ["a"])], numbers, width=60, title="top", caption="bottom")
    assert [len(table.columns) for table in tables] == [4, 3]
    assert [str(table.title) for table in tables] == ["top", "None"]
    assert [table.caption for table in tables] == [None, "bottom"]
    text = "\n".join(shown(60, *tables))
    places = [text.index(f"h{i}") for i in range(5)]
    assert places == sorted(places)


def test_a_column_wider_than_the_terminal_has_a_table_of_its_own() -> None:
    numbers = [Column(name, ["1.0"]) for name in ("x" * 50, "short")]
    assert len(stacked([Column("learner", ["a"])], numbers, width=40)) == 2


def test_wordings_of_models_with_other_templates() -> None:
    """A wording that a model was not asked with is no zero, and no fault."""
    console = Console(width=80, record=True, file=io.StringIO())
    print_wordings(aligned(["zero_shot_top1_template_mean"]), console)
    lines = console.export_text().splitlines()
    assert "…" not in "".join(lines)
    assert max(map(len, lines)) <= 80
    (line,) = [line for line in lines if "template rand {}" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")][1:] == ["–", "–", "–", "50.0"]


def test_an_overview_on_a_narrow_terminal() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    print_overview([make_result(name, seed) for name in ROWS for seed in range(3)], console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    for words in ("average accuracy", "last accuracy", "forgetting", "modality"):
        assert words in columns(lines)
