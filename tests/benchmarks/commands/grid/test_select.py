"""Settings are chosen by validation recordings alone, and every choice is on record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.grid.config import GridConfig
from benchmarks.commands.grid.plan import expand
from benchmarks.commands.grid.select import choose, chosen_cells, tried
from benchmarks.results.files import load_result
from benchmarks.results.result import Result
from multimodal.errors import UserError
from tests.toy import toy_data

RATES = [1e-7, 5e-2]
SELECT = {"among": ["training.learning_rate"], "fraction": 0.25}
TRAINING = {"epochs": 6, "batch_size": 8, "device": "cpu"}
TOY = {"name": "toy", "train": 12}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(yaml.safe_dump(toy_data(dataset=TOY, training=TRAINING)))


def grid(**more: Any) -> dict[str, Any]:
    product = {"training.learning_rate": RATES, "learners": ["joint", "majority"]}
    return {"base": "toy.yaml", "product": product, "select": SELECT, "seeds": [1, 2], **more}


def fake(validation: float | None, test: float) -> Result:
    """A result that says this much of its validation and test recordings."""
    metrics = {"validation_accuracy": [0.9, validation], "average_accuracy": test}
    facts = ("bench", "toy", "0", "joint", "class_incremental", "speech")
    return Result(*facts, 1, False, {}, [], [], metrics, {})


def test_the_best_mean_of_validation_is_chosen_and_no_test_is_looked_at() -> None:
    config = GridConfig.parse(grid())
    assert config.select is not None
    cells = expand(config).cells
    assert len(cells) == 8
    # (rate, row, seed) -> validation; the test says the contrary.
    scores = {
        (1e-7, "joint", 1): 0.2,
        (1e-7, "joint", 2): 0.8,  # mean 0.5
        (5e-2, "joint", 1): 0.6,
        (5e-2, "joint", 2): 0.5,  # mean 0.55
        (1e-7, "majority", 1): 0.3,
        (1e-7, "majority", 2): 0.3,
        (5e-2, "majority", 1): 0.3,  # alike: the first one counts
        (5e-2, "majority", 2): 0.3,
    }
    of = {(c.config.training.learning_rate, c.row, c.seed): c for c in cells}
    results = {of[key].config.folder: fake(score, 1 - score) for key, score in scores.items()}
    found = choose(cells, results, config.select)
    picked = {(c.config.training.learning_rate, c.row, c.seed) for c in chosen_cells(found)}
    assert picked == {
        (5e-2, "joint", 1),
        (5e-2, "joint", 2),
        (1e-7, "majority", 1),
        (1e-7, "majority", 2),
    }
    # Whatever the test says, and where it says nothing, the choice is the same.
    for test in (None, 0.0, 1.0):
        other = {
            folder: replace(r, metrics={**r.metrics, "average_accuracy": test})
            for folder, r in results.items()
        }
        assert choose(cells, other, config.select) == found
    # A choice of which a seed has failed is no choice; nor is one without a score.
    results[of[5e-2, "joint", 2].config.folder] = fake(None, 1.0)
    del results[of[5e-2, "joint", 1].config.folder]
    picked = {
        (c.config.training.learning_rate, c.row)
        for c in chosen_cells(choose(cells, results, config.select))
    }
    assert picked == {(1e-7, "joint"), (1e-7, "majority")}


def test_learners_are_chosen_among_settings_of_one_learner() -> None:
    product = {
        "learners": [
            {"name": "replay", "memory_size": 8},
            {"name": "replay", "memory_size": 16},
            "majority",
        ]
    }
    config = GridConfig.parse(grid(product=product, select={"among": ["learners"]}, seeds=[1]))
    assert config.select is not None
    cells = expand(config).cells
    results = {c.config.folder: fake(0.1 * i, 0.0) for i, c in enumerate(cells)}
    found = choose(cells, results, config.select)
    assert [len(s.choices) for s in found] == [2, 1]
    assert [c.config.learners[0].memory_size for c in chosen_cells(found)[:1]] == [16]  # pyright: ignore


def test_choices_hold_out_a_part_of_training_and_what_is_chosen_does_not() -> None:
    config = GridConfig.parse(grid(seeds=[1]))
    assert config.select is not None
    cell = expand(config).cells[0]
    choice = tried(cell, config.select)
    assert choice.config.folder.parent == Path("runs/toy_select")
    streams = [Cells(c.config).streams[0] for c in (cell, choice)]  # pyright: ignore
    whole, less = (sum(len(e.train) for e in s.experiences) for s in streams)
    held = sum(len(e.validation) for e in streams[1].experiences)
    assert (whole, less, held) == (48, 36, 12)
    assert sum(len(e.validation) for e in streams[0].experiences) == 0
    tests = [[e.test.tolist() for e in s.experiences] for s in streams]
    assert tests[0] == tests[1]
    groups = streams[1].manifest.groups
    train, validation = (
        {g for e in streams[1].experiences for g in groups[getattr(e, name)]}
        for name in ("train", "validation")
    )
    assert not train & validation  # whole speakers


@pytest.mark.parametrize(
    "scenario", ["class_incremental", pytest.param("si_blurry", marks=pytest.mark.slow)]
)
def test_from_choices_to_the_reported_table(medley, scenario) -> None:
    stream = {"name": scenario}
    stream |= {"num_experiences": 2} if scenario == "class_incremental" else {"num_tasks": 2}
    data = grid(seeds=[1], settings={"scenario": stream})
    Path("grid.yaml").write_text(yaml.safe_dump(data))
    dry = medley("grid", "grid.yaml", "--dry-run")
    assert "4 new" in dry.out
    outcome = medley("grid", "grid.yaml", "--workers", "2")
    assert outcome.code == 0, outcome
    assert "selected by validation recordings" in outcome.out
    told = json.loads(Path("runs/toy/selection.json").read_text())
    assert told["among"] == ["training.learning_rate"]
    results = {p.parent.name: load_result(p) for p in Path("runs/toy_select").glob("*/result.json")}
    assert len(results) == 4
    for selection in told["selections"]:
        scores = {}
        for choice in selection["choices"]:
            (hash_,) = choice["tried_in"]
            score = results[hash_].metrics["validation_accuracy"][-1]
            assert choice["scores"] == [score]
            scores[choice["values"]["training.learning_rate"]] = (score, choice["chosen"])
        assert sorted(scores) == RATES
        best = max(score for score, _ in scores.values())
        assert [score for score, chosen in scores.values() if chosen] == [best]
    chosen = [load_result(p) for p in Path("runs/toy").glob("*/result.json")]
    assert len(chosen) == 2  # nothing else was run there
    assert all(r.config["scenario"].get("validation_fraction", 0) == 0 for r in chosen)
    again = medley("grid", "grid.yaml", "--workers", "2")
    assert again.err.count("done before, result reused") == 6


def test_what_cannot_be_selected_is_refused() -> None:
    config = GridConfig.parse(
        grid(
            base="align/spoken_commands_cwcl", product={"training.learning_rate": RATES}, seeds=None
        )
    )
    assert config.select is not None
    with pytest.raises(UserError, match=r"select: align/spoken_commands_cwcl is of `medley align`"):
        tried(expand(config).cells[0], config.select)
