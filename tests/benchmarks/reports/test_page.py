"""The report's page: numbers, structure, escaping, and no need of a network."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.reports.figures.streams import exposed_curve
from benchmarks.reports.numbers import interval_text
from benchmarks.reports.page import write_html
from benchmarks.reports.ranking import ranked
from benchmarks.reports.tables import summarise
from benchmarks.results.result import Result
from continual import metrics
from multimodal.errors import UserError
from tests.benchmarks.fake_results import JOINT, make_result

EVIL = "<script>alert(1)</script>"
VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}


class Page(HTMLParser):
    """Collects text and tags, and asserts that every tag is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.tables: list[list[list[tuple[str, str]]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append((tag, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"<{tag}/> outside SVG"
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if "th" in self.open or "td" in self.open:
            tag, text = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (tag, text + data)

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def parse(results: list[Result], folder: Path) -> Page:
    path = folder / "made" / "report.html"
    assert write_html(results, path) == path
    return Page(path.read_text("utf-8"))


@pytest.fixture
def several() -> list[Result]:
    runs = [make_result(name, s) for name in ("finetune", "replay") for s in (0, 1, 2)]
    return [*runs, JOINT]


def test_page_is_balanced_and_needs_no_network(several: list[Result], tmp_path: Path) -> None:
    page = parse(several, tmp_path)
    raw = (tmp_path / "made" / "report.html").read_text("utf-8")
    assert "://" not in raw
    assert "url(" not in raw
    assert "@import" not in raw
    references = [a.get(k) for _, a in page.tags for k in ("src", "href", "xlink:href") if k in a]
    assert references == ["data:,"]
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "embed", "img"})
    assert not [k for _, attrs in page.tags for k in attrs if k.startswith("on")]


def test_page_is_accessible(several: list[Result], tmp_path: Path) -> None:
    page = parse(several, tmp_path)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.named(
        "meta"
    )
    assert page.named("html") == [{"lang": "en"}]
    assert len(page.named("h1")) == 1
    assert all(th.get("scope") in ("row", "col") for th in page.named("th"))
    marks = [svg for svg in page.named("svg") if svg.get("aria-hidden") == "true"]
    svgs = [svg for svg in page.named("svg") if svg not in marks]
    assert len(marks) == 3  # of the legend
    # The curves, wide and narrow, and forgetting of the two learners that can forget.
    assert len(svgs) == 4
    assert all(svg["role"] == "img" for svg in svgs)
    assert len(page.named("desc")) == len(svgs)
    assert len(page.named("caption")) == len(page.named("table"))
    boxes = [d for d in page.named("div") if d.get("class") == "scroll"]
    assert len(boxes) == len(page.named("table"))
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    style = (tmp_path / "made" / "report.html").read_text("utf-8")
    assert "prefers-color-scheme:dark" in style


def test_page_says_everything(several: list[Result], tmp_path: Path) -> None:
    text = parse(several, tmp_path).text
    for words in (
        *("digits", "fsdd", "1.0.10", "0123456789abcdef", "CC BY-SA 4.0", "index 0-4 test"),
        *("the official split shares speakers", "Some CPU", "torch 2.11.0", "abcdef123456"),
        "medley bench runs/digits/repl00000002/config.yaml",
        "output_dir: runs",
        "300 MiB",
    ):
        assert words in text
    assert "Synthetic" not in text
    assert "clinical" not in text


def test_results_and_matrix_tables_hold_the_numbers(several: list[Result], tmp_path: Path) -> None:
    tables = parse(several, tmp_path).tables
    rows = {row.learner: row for row in summarise(several)}
    results = {cells[0][1]: [c[1] for c in cells[1:]] for cells in tables[0][1:]}
    bound = "joint (upper bound)"
    table = ranked(several)
    names = [row.learner if row.learner != "joint" else bound for row in table.rows]
    assert list(results) == names
    expected = interval_text(rows["replay"].values["average_accuracy"], 3)
    assert results["replay"][0] == expected
    assert results[bound][2] == "–"
    (replay,) = [t for t in tables if t[0][0][1] == "test set" and len(t) == 4][1:]
    (joint,) = [t for t in tables if t[0][0][1] == "test set" and len(t) == 2]
    assert [c[1] for c in joint[1]] == ["after all", "90.0", "80.0", "70.0"]
    assert len(joint) == 2
    mean = np.mean([r.metrics["accuracy_matrix"] for r in several if r.learner == "replay"], axis=0)
    shown = np.array([[float(c[1]) for c in cells[1:]] for cells in replay[1:]])
    assert shown == pytest.approx(100 * mean, abs=0.0501)


def test_held_out_classes_have_a_row_before_training(tmp_path: Path) -> None:
    scores = [[0.5, 0.5], [1.0, 0.25], [0.75, 0.875]], [[0.5, 0.75], [0.5, 0.25], [0.25, 0.375]]
    runs = [make_result("cwcl", seed, num_test=(30, 20)) for seed in (1, 2)]
    runs = [
        replace(run, metrics={**run.metrics, "held_out_zero_shot_matrix": own})
        for run, own in zip(runs, scores, strict=True)
    ]
    page = Page(
        write_html(
            [*runs, make_result("finetune", 1, num_test=(30, 20))], tmp_path / "p"
        ).read_text()
    )
    (table,) = (t for t in page.tables if any(row[0][1] == "untrained" for row in t))
    mean = (100 * np.mean(scores, axis=0)).tolist()
    expected = [[f"{value:.1f}" for value in row] for row in mean]
    assert [[text for _, text in row[1:]] for row in table[1:]] == expected
    assert [row[0][1] for row in table[1:]] == ["untrained", "after 1", "after 2"]


def test_forgetting_bars_are_means_of_each_seeds_forgetting(tmp_path: Path) -> None:
    first = [[0.9, 0.1, 0.1], [0.5, 0.8, 0.1], [0.6, 0.9, 0.7]]
    second = [[0.5, 0.1, 0.1], [0.9, 0.6, 0.1], [0.5, 0.6, 0.7]]
    runs = [make_result(seed=s, matrix=m) for s, m in enumerate((first, second))]
    raw = write_html(runs, tmp_path / "r.html").read_text("utf-8")
    # (0.9 - 0.6 + 0.9 - 0.5) / 2 and (0.8 - 0.9 + 0.6 - 0.6) / 2
    assert "<title>experience 1: 35.0 ±" in raw
    assert "<title>experience 2: −5.0 ±" in raw


def test_confusions_are_shares_of_all_seeds_with_answers_of_no_class(tmp_path: Path) -> None:
    tables = []
    for seed, counts in enumerate(([[3, 1, 0], [0, 0, 0]], [[3, 0, 1], [0, 0, 0]])):
        run = make_result(seed=seed, classes=("yes", "no"), num_test=(4, 4))
        tables.append(replace(run, metrics={**run.metrics, "confusion_matrix": counts}))
    page = parse(tables, tmp_path)
    (table,) = [t for t in page.tables if "true" in t[0][0][1]]
    assert [c[1] for c in table[0]] == ["true \\ predicted", "yes", "no", "(no class)"]
    assert [c[1] for c in table[1]] == ["yes", "75", "12", "12"]
    assert [c[1] for c in table[2]] == ["no", "", "", ""]
    tips = [td.get("title") for td in page.named("td")]
    assert "true yes, predicted (no class): 1 of 8" in tips


def test_per_class_means_follow_the_names(tmp_path: Path) -> None:
    runs = []
    for seed, accuracies in enumerate(({"a": 1.0, "b": None}, {"b": 0.5, "a": 0.5})):
        run = make_result(seed=seed, classes=("a", "b"), num_test=(4, 4))
        runs.append(replace(run, metrics={**run.metrics, "per_class_accuracy": accuracies}))
    tables = parse(runs, tmp_path).tables
    (table,) = [t for t in tables if t[0][0][1] == "class"]
    assert [[c[1] for c in cells] for cells in table[1:]] == [["a", "75.0"], ["b", "50.0"]]


def test_everything_from_users_is_escaped(tmp_path: Path) -> None:
    run = make_result(EVIL, classes=(EVIL, 'a"b', "c&d"), num_test=(3, 3, 3))
    run = replace(
        run,
        experiment=EVIL,
        scenario=EVIL,
        modality=EVIL,
        dataset=dict.fromkeys((*run.dataset, EVIL), EVIL),
        config={**run.config, EVIL: EVIL, "output_dir": f"'; rm -rf ~ {EVIL}"},
        hardware={EVIL: EVIL},
        packages={EVIL: EVIL},
        peak_memory_bytes={EVIL: 1},
        git_commit=EVIL,
        started=EVIL,
        experiences=[{**e, "name": EVIL, "num_train": EVIL} for e in run.experiences],
    )
    page = parse([run], tmp_path)
    assert "script" not in {tag for tag, _ in page.tags}
    assert EVIL in page.text
    assert "'\"'\"'; rm -rf ~" in page.text  # quoted for the shell as well
    assert "<script" not in (tmp_path / "made" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("modality", ["ecg", "xray"])
def test_medical_and_synthetic_and_quick_are_said(modality: str, tmp_path: Path) -> None:
    run = make_result(modality=modality, quick=True)
    page = parse([replace(run, dataset={**run.dataset, "synthetic": True})], tmp_path)
    assert "For research, not for clinical use." in page.text
    assert "Synthetic data" in page.text
    assert "Quick run" in page.text


def test_runs_without_matrices_still_make_a_page(tmp_path: Path) -> None:
    page = parse([make_result(metrics={"macro_auroc": 0.9})], tmp_path)
    assert "90.0" in page.text
    assert page.named("svg") == []


def test_quick_and_full_runs_stand_in_sections_of_their_own(tmp_path: Path) -> None:
    page = parse([make_result(), make_result(quick=True)], tmp_path)
    assert len(page.named("section")) == 2


def test_a_page_shows_one_experiment(tmp_path: Path) -> None:
    runs = [make_result(), make_result(experiment="words")]
    with pytest.raises(UserError, match=r"one experiment, not 2 \(digits, words\)"):
        write_html(runs, tmp_path / "r.html")
    with pytest.raises(UserError, match="no results"):
        write_html([], tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 6).flatmap(
        lambda t: st.lists(
            st.lists(st.floats(0, 1), min_size=t, max_size=t), min_size=t, max_size=t
        )
    ),
    st.data(),
)
def test_curve_is_weighted_accuracy_of_exposed_classes(matrix: Any, data: Any) -> None:
    steps = len(matrix)
    counts = tuple(data.draw(st.lists(st.integers(1, 50), min_size=steps, max_size=steps)))
    curve = exposed_curve(make_result(matrix=matrix, num_test=counts))
    assert [x for x, _ in curve] == list(range(1, steps + 1))
    for i, (_, value) in enumerate(curve):
        right = sum(counts[j] * matrix[i][j] for j in range(i + 1))
        assert value == pytest.approx(right / sum(counts[: i + 1]))
    mean = np.mean([value for _, value in curve])
    assert mean == pytest.approx(metrics.average_accuracy(matrix, counts))


def test_joint_has_one_point_at_the_end() -> None:
    assert exposed_curve(JOINT) == [(3, pytest.approx((27 + 16 + 7) / 60))]
