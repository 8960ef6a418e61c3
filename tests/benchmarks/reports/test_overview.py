"""All streams in one table: its ranks against SciPy's, and where it stands."""

from __future__ import annotations

import re
from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import rankdata

from benchmarks.reports.exports import export
from benchmarks.reports.overview import overview_html, overviews
from benchmarks.reports.page import page
from benchmarks.reports.ranking import ranked
from benchmarks.reports.terminal import print_overview
from benchmarks.results.result import Result
from tests.benchmarks.fake_results import JOINT, make_result

NAMES = ("finetune", "replay", "er", "lwf")


def of_stream(name: str, heights: dict[str, float], *, quick: bool = False) -> list[Result]:
    """Runs of a dataset of that name; each reaches its height everywhere."""
    made = [make_result(n, matrix=[[h] * 3] * 3, quick=quick) for n, h in heights.items()]
    return [replace(r, dataset={**r.dataset, "name": name, "content_hash": name}) for r in made]


def joint(name: str) -> Result:
    return replace(JOINT, dataset={**JOINT.dataset, "name": name, "content_hash": name})


HEIGHTS = {
    "fsdd": {"finetune": 0.2, "replay": 0.5, "er": 0.8, "lwf": 0.5},
    "esc10": {"finetune": 0.9, "replay": 0.3, "er": 0.4},
}


@pytest.fixture
def results() -> list[Result]:
    runs = [run for name, heights in HEIGHTS.items() for run in of_stream(name, heights)]
    return [*runs, joint("fsdd")]


def test_ranks_are_those_of_each_stream(results) -> None:
    (made,) = overviews(results)
    fsdd, esc10 = made.streams
    assert {n: c.rank for n, c in fsdd.cells.items()} == {
        "er": 1.0,
        "replay": 2.5,
        "lwf": 2.5,
        "finetune": 4.0,
        "joint": None,
    }
    assert {n: c.rank for n, c in esc10.cells.items()} == {"finetune": 1.0, "er": 2.0, "replay": 3}
    assert [made.mean_rank(n) for n in ("er", "finetune", "lwf", "joint")] == [1.5, 2.5, 2.5, None]
    assert made.learners[0] == "er"
    assert made.learners[-1] == "joint"
    assert [[n for n, c in s.cells.items() if c.best] for s in made.streams] == [
        ["er"],
        ["finetune"],
    ]
    assert fsdd.cells["er"].text == "80.0"


heights = st.fixed_dictionaries(
    {name: st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) for name in NAMES}
)


@given(st.lists(heights, min_size=2, max_size=4))
def test_ranks_are_those_of_scipy(drawn: list[dict[str, float]]) -> None:
    runs = [run for i, own in enumerate(drawn) for run in of_stream(f"set{i}", own)]
    (made,) = overviews(runs)
    known = [rankdata([-own[name] for name in NAMES]) for own in drawn]
    for place, name in enumerate(NAMES):
        expected = [float(ranks[place]) for ranks in known]
        assert [stream.cells[name].rank for stream in made.streams] == expected
        assert made.mean_rank(name) == pytest.approx(fmean(expected))
    ordered = [made.mean_rank(name) or 0.0 for name in made.learners]
    assert ordered == sorted(ordered)


def test_there_is_none_of_one_stream_nor_of_streams_that_share_no_two_learners(results) -> None:
    assert overviews(results[:4]) == []
    other = of_stream("esc10", {"slda": 0.5, "er": 0.6})
    assert overviews([*of_stream("fsdd", {"er": 0.1, "lwf": 0.2}), *other]) == []


def test_quick_runs_stand_by_themselves(results) -> None:
    quick = [r for name, own in HEIGHTS.items() for r in of_stream(name, own, quick=True)]
    full, short = overviews([*results, *quick])
    assert (full.quick, short.quick) == (False, True)
    assert len(full.streams) == len(short.streams) == 2
    assert {s.anchor for s in full.streams}.isdisjoint(s.anchor for s in short.streams)


def test_heads_lead_to_the_sections_that_are_theirs(results) -> None:
    text = page(results)
    html = overview_html(overviews(results))
    assert html in text
    assert text.index("All streams") < text.index("fsdd 1.0")
    anchors = re.findall(r'href="#([^"]+)"', html)
    assert len(anchors) == 2
    for name, own in zip(HEIGHTS, anchors, strict=True):
        (section,) = re.findall(rf'<section id="{own}"><h2>([^<]*)', text)
        assert section.startswith(name)
    assert "All streams" not in page(results[:4])


def test_terminal_markdown_and_latex_have_it_too(results) -> None:
    console = Console(width=160, record=True, quiet=False, file=None)
    with console.capture() as captured:
        print_overview(results, console)
    told = captured.get()
    assert "all streams" in told
    assert "80.0 *" in told
    assert told.count("class_incremental") >= 2  # each section says of what stream it is
    markdown = export(results, "markdown")
    assert markdown.startswith("All streams")
    assert "| er | 1.5 | **80.0** | 40.0 |" in markdown
    latex = export(results, "latex")
    assert r"er & 1.5 & \textbf{80.0} & 40.0 \\" in latex
    assert "All streams" not in export(results, "csv")


def test_its_values_are_those_of_the_tables(results) -> None:
    (made,) = overviews(results)
    table = ranked([r for r in results if r.dataset["name"] == "fsdd"])
    assert [c.text for c in made.streams[0].cells.values()] == [
        f"{100 * value.mean:.1f}" for row in table.rows if (value := row.values[table.key])
    ]
