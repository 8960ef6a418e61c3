"""The page in a real browser at three widths, light and dark; skipped where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.reports.page import write_html
from benchmarks.results.result import Result
from tests.benchmarks.fake_results import JOINT, make_result
from tests.benchmarks.reports.browser import NAMES, VARIABLE, browser, looked_at

pytestmark = pytest.mark.skipif(
    browser() is None,
    reason=f"no browser: none of {', '.join(NAMES)} on the path, and {VARIABLE} is not set",
)


def many() -> list[Result]:
    """Rows enough to fill legends, ten experiences, long names; a medical dataset."""
    names = ("finetune", "replay", "er", "er_ace", "derpp", "lwf", "slda", "rls", "clib")
    classes = tuple(f"a class with a long name {i}" for i in range(20))
    found = []
    for name in names:
        for seed in (1, 2, 3):
            run = make_result(name, seed, num_test=(9,) * 10, classes=classes, modality="ecg")
            learner = {"name": name, "memory_size": 200, "head": {"whiten": True}}
            found.append(replace(run, config={**run.config, "learners": [learner]}))
    return [*found, replace(JOINT, modality="ecg")]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return write_html(many()[:-1], tmp_path_factory.mktemp("page") / "report.html")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1400, 800, 390])
def test_it_fits_says_no_error_and_shows_where_more_is(
    made: Path, tmp_path: Path, width: int, dark: bool
) -> None:
    told = looked_at(made, width, tmp_path, dark=dark)
    assert told["console"] == []
    assert told["width"] == width
    assert told["needs"] <= told["width"]  # the page itself never scrolls sideways
    assert told["cut"] == []
    assert told["shadows"] == told["boxes"] > 3
    assert told["touching"] == 0
    kinds = {kind for kind, _ in told["charts"]}
    assert kinds == {"wide" if width > 700 else "narrow"}
    assert all(share > 0.9 for _, share in told["charts"])
