"""Settings are chosen by validation recordings alone, and every choice is on record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.grid.config import METRICS, GridConfig, SelectConfig
from benchmarks.commands.grid.plan import PlannedCell, expand
from benchmarks.commands.grid.select import asked, choose, chosen_cells, tried, validation_score
from benchmarks.results.files import load_result
from benchmarks.results.result import Result
from multimodal.errors import UserError
from tests.toy import toy_data

METRIC = "zero_shot_top1"
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


def _rate(cell: PlannedCell) -> float:
    return cell.config.training.learning_rate  # pyright: ignore[reportAttributeAccessIssue]


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
    of = {(_rate(c), c.row, c.seed): c for c in cells}
    results = {of[key].config.folder: fake(score, 1 - score) for key, score in scores.items()}
    found = choose(cells, results, config.select)
    picked = {(_rate(c), c.row, c.seed) for c in chosen_cells(found)}
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
    picked = {(_rate(c), c.row) for c in chosen_cells(choose(cells, results, config.select))}
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


def test_only_some_seeds_are_tried_and_all_are_reported() -> None:
    config = GridConfig.parse(grid(select={**SELECT, "seeds": [2]}))
    assert config.select is not None
    cells = expand(config).cells
    trying = asked(cells, config.select)
    assert [c.seed for c in trying] == [2] * 4
    scores = {(1e-7, "joint"): 0.3, (5e-2, "joint"): 0.2, (1e-7, "majority"): 0.3}
    results = {c.config.folder: fake(scores.get((_rate(c), c.row)), 0.5) for c in trying}
    picked = [
        (_rate(c), c.row, c.seed) for c in chosen_cells(choose(cells, results, config.select))
    ]
    assert picked == [(1e-7, row, seed) for row in ("joint", "majority") for seed in (1, 2)]
    unknown = GridConfig.parse(grid(select={**SELECT, "seeds": [2, 7]})).select
    assert unknown is not None
    with pytest.raises(UserError, match=r"select.seeds=\[2, 7\]: no cell has seed 7"):
        asked(cells, unknown)


def test_a_choice_that_no_seed_tries_is_refused_before_anything_runs() -> None:
    Path("other.yaml").write_text(
        yaml.safe_dump(toy_data(dataset=TOY, training=TRAINING, experiment="other", seeds=[3]))
    )
    Path("toy.yaml").write_text(yaml.safe_dump(toy_data(dataset=TOY, training=TRAINING, seeds=[1])))
    data = grid(base=["toy.yaml", "other.yaml"], select={**SELECT, "seeds": [1]})
    del data["seeds"]
    config = GridConfig.parse(data)
    assert config.select is not None
    with pytest.raises(UserError, match=r"select.seeds=\[1\]: .* has none of them"):
        asked(expand(config).cells, config.select)


def test_the_first_metric_that_a_run_has_decides() -> None:
    result = replace(
        fake(None, 0.0), metrics={"validation_map_at_10": 0.4, "validation_zero_shot_top1": 0.2}
    )
    assert validation_score(result, SelectConfig(among=("learners",)).metrics) == 0.2
    assert validation_score(result, ("recall_at_10", "map_at_10")) == 0.4
    assert validation_score(result, ("accuracy",)) is None
    assert validation_score(fake(0.7, 0.0), METRICS) == 0.7


ALIGNED = {
    "experiment": "toy_aligned",
    "dataset": {"name": "toy", "train": 12},
    "modality": "speech",
    "encoder": {"name": "compact", "width": 16, "depth": 1, "heads": 2},
    "objectives": ["clip"],
    "captions": "labels",
    "seeds": [1],
    "training": {"epochs": 1, "batch_size": 8, "device": "cpu"},
}


def test_alignments_are_chosen_by_held_out_recordings(medley, text) -> None:
    Path("align.yaml").write_text(yaml.safe_dump({**ALIGNED, "text": text}))
    entries = [{"name": "clip", "scale": s, "learn_scale": False} for s in (2, 20)]
    data = grid(
        base="align.yaml",
        product={"objectives": [*entries, "siglip"]},
        select={"among": ["objectives"], "fraction": 0.25, "metric": ["map_at_10", METRIC]},
        seeds=[1],
    )
    Path("grid.yaml").write_text(yaml.safe_dump(data))
    outcome = medley("grid", "grid.yaml", "--workers", "2")
    assert outcome.code == 0, outcome
    told = json.loads(Path("runs/toy_aligned/selection.json").read_text())
    assert [len(s["choices"]) for s in told["selections"]] == [2, 1]
    tries = {
        p.parent.name: load_result(p) for p in Path("runs/toy_aligned_select").glob("*/result.json")
    }
    chosen = [load_result(p) for p in Path("runs/toy_aligned").glob("*/result.json")]
    assert (len(tries), len(chosen)) == (3, 2)
    for choice in (c for s in told["selections"] for c in s["choices"]):
        score = tries[choice["tried_in"][0]].metrics[f"validation_{METRIC}"]
        assert choice["validation"] == pytest.approx(score)
    assert all(r.evaluation["num_train"] == 36 for r in tries.values())
    assert all(r.evaluation["num_train"] == 48 for r in chosen)
    assert not any(key.startswith("validation_") for r in chosen for key in r.metrics)


def test_what_cannot_be_selected_is_refused() -> None:
    scenes = grid(
        base="align/esc10_compa_vanilla",
        product={"training.learning_rate": RATES},
        seeds=None,
    )
    config = GridConfig.parse(scenes)
    assert config.select is not None
    with pytest.raises(UserError, match=r"select: align/esc10_compa_vanilla is of `medley align`"):
        tried(expand(config).cells[0], config.select)
