"""Names of rows: those that are quoted; unique for what differs, equal for seeds of one row."""

from __future__ import annotations

import itertools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.align.config import AlignConfig
from benchmarks.reports.page import write_html
from benchmarks.reports.rows import labels, row_name
from benchmarks.reports.tables import by_learner
from benchmarks.results.result import Result
from benchmarks.tracking.points import run_title
from benchmarks.tracking.state import State
from continual.learner import LEARNERS
from multimodal.objectives import OBJECTIVES
from multimodal.registry import Config
from tests.benchmarks.fake_results import make_result

OBJECTIVE_ROWS = {
    "clip": "clip",
    "clip, scale fixed at 5": {"name": "clip", "scale": 5.0, "learn_scale": False},
    "clip, smoothed 0.5": {"name": "clip", "smoothing": 0.5},
    "siglip": "siglip",
    "cwcl (linear, reconstruction)": "cwcl",
    "cwcl, sharpened (ours, 0.1)": {"name": "cwcl", "kernel": "exp", "sharpness": 0.1},
}
LEARNER_ROWS = {
    "replay": "replay",
    "replay, whitened": {"name": "replay", "head": {"whiten": True}},
    "slda": "slda",
    "cwcl (linear, reconstruction)": "cwcl",
    "cwcl, sharpened (ours, 0.2)": {
        "name": "cwcl",
        "objective": {"name": "cwcl", "kernel": "exp", "sharpness": 0.2},
    },
    "cwcl with clip, smoothed 0.5": {
        "name": "cwcl",
        "objective": {"name": "clip", "smoothing": 0.5},
    },
}
number = itertools.count()


def aligned(entry: Any, seed: int = 0, **settings: Any) -> Result:
    """A result of ``medley align``; its config is the command's own."""
    data = {
        "experiment": "digits",
        "dataset": "synthetic_speech",
        "objectives": [entry],
        "seeds": [seed],
        **settings,
    }
    config = AlignConfig.parse(data)
    return replace(
        make_result(config.objectives[0].registered_name, seed, config_hash=config.hash),
        command="align",
        scenario="alignment",
        experiences=[],
        config=config.dump(),
        metrics={"zero_shot_top1": 0.5},
        started=f"2026-01-01T00:00:{next(number) % 60:02d}+00:00",
    )


def zero_shot(run: Result, *, told: bool = True) -> Result:
    """A result of ``medley zeroshot`` of an aligned run. told: of its whole training."""
    objective = run.config["objectives"][0]
    settings = {k: run.config[k] for k in ("encoder", "text", "width")}
    model = {"name": "aligned", "settings": {**settings, "objective": objective}}
    config = {"experiment": "unheard", "dataset": {"name": "fsdd"}, "model": model, "seed": 0}
    facts = {"name": f"digits/{run.config_hash}", "config": run.config}
    return replace(
        run,
        command="zeroshot",
        scenario="zero_shot",
        experiment="unheard",
        config=config,
        evaluation={"model": facts} if told else {},
    )


def benched(entry: Any, seed: int = 0) -> Result:
    config = LEARNERS.parse(entry)
    run = make_result(config.registered_name, seed, config_hash=f"{next(number):012x}")
    started = f"2026-01-01T00:00:{next(number) % 60:02d}+00:00"
    return replace(run, config={**run.config, "learners": [config.dump()]}, started=started)


@pytest.mark.parametrize("told", [None, False, True])
def test_objectives_have_the_names_that_are_quoted(told: bool | None) -> None:
    """In tables of ``align`` and of ``zeroshot``, of this version and of earlier ones."""
    runs = [aligned(entry, seed) for entry in OBJECTIVE_ROWS.values() for seed in (0, 1)]
    runs = runs if told is None else [zero_shot(run, told=told) for run in runs]
    rows = by_learner(runs)
    assert set(rows) == set(OBJECTIVE_ROWS)
    assert [len(each) for each in rows.values()] == [2] * 6


def test_learners_have_the_names_that_are_quoted() -> None:
    runs = [benched(entry, seed) for entry in LEARNER_ROWS.values() for seed in (0, 1)]
    rows = by_learner(runs)
    assert set(rows) == set(LEARNER_ROWS)
    assert [len(each) for each in rows.values()] == [2] * 6


def test_every_place_tells_them(tmp_path: Path) -> None:
    for name, entry in OBJECTIVE_ROWS.items():
        run = aligned(entry)
        config = AlignConfig.parse(run.config)
        assert config.title == f"{name} seed 0"
        for each in (run, zero_shot(run), zero_shot(run, told=False)):
            assert row_name(each.learner, each.config) == name
            state = State.of(each, tmp_path)
            assert run_title(state.tags, state.config) == f"{name}-fsdd-0"
        page = write_html([run], tmp_path / "page.html").read_text()
        assert f"<span>{name}</span>" in page
    whitened = benched(LEARNER_ROWS["replay, whitened"])
    state = State.of(whitened, tmp_path)
    assert run_title(state.tags, state.config) == "replay, whitened-fsdd-0"


def test_what_else_differs_follows_in_brackets() -> None:
    fixed = OBJECTIVE_ROWS["clip, scale fixed at 5"]
    runs = [
        aligned("clip", training={"epochs": 5}),
        aligned({"name": "clip", "mask_duplicates": True}, training={"epochs": 5}),
        aligned(fixed, training={"epochs": 10}),
        aligned("siglip"),
    ]
    expected = [
        "clip (epochs=5, mask_duplicates=false)",
        "clip (epochs=5, mask_duplicates=true)",
        "clip, scale fixed at 5 (epochs=10, mask_duplicates=false)",
        "siglip",
    ]
    assert labels(runs) == expected
    assert labels([zero_shot(run) for run in runs]) == expected


def test_models_trained_otherwise_are_rows_of_their_own() -> None:
    """Whatever of the training differs; not where it went, nor what its experiment is called."""
    runs = [zero_shot(aligned("clip", training={"epochs": epochs})) for epochs in (1, 2)]
    assert [len(each) for each in by_learner(runs).values()] == [1, 1]
    moved = [aligned("clip", seed, experiment=f"e{seed}", cache="disk") for seed in (0, 1)]
    assert labels([zero_shot(run) for run in moved]) == ["clip", "clip"]


def test_settings_of_a_choice_are_compared_with_the_same_choice() -> None:
    """An encoder's settings say nothing beside another encoder, which lacks them."""
    runs = [benched("replay") for _ in range(3)]
    encoders = ({"name": "a", "width": 4}, {"name": "b", "layer": 1}, {"name": "b", "layer": 2})
    for i, encoder in enumerate(encoders):
        runs[i] = replace(runs[i], config={**runs[i].config, "encoder": encoder})
    assert labels(runs[:2]) == ["replay (name=a)", "replay (name=b)"]
    assert labels(runs[1:]) == ["replay (layer=1)", "replay (layer=2)"]
    assert labels(runs) == [
        "replay (name=a)",
        "replay (name=b, layer=1)",
        "replay (name=b, layer=2)",
    ]


def test_names_that_do_not_tell_rows_apart_get_their_settings() -> None:
    sharp = [0.1, 0.10000001]
    runs = [aligned({"name": "cwcl", "kernel": "exp", "sharpness": s}) for s in sharp]
    start = "cwcl, sharpened (ours, 0.1) "
    assert labels(runs) == [f"{start}(sharpness=0.1)", f"{start}(sharpness=0.10000001)"]
    one, two = make_result("a"), make_result("b")
    config = {**one.config, "learners": []}
    unknown = [replace(one, config=config), replace(two, config=config)]
    assert labels(unknown) == ["a", "b"]


def test_results_of_choices_that_are_gone_or_changed_keep_their_learner_s_name() -> None:
    gone = make_result("plugin_of_old")
    refused = make_result("replay")
    entry = {"name": "replay", "no_such_setting": 1}
    refused = replace(refused, config={**refused.config, "learners": [entry]})
    several = make_result("er")
    several = replace(several, config={**several.config, "learners": ["er", {"name": "mvp"}]})
    assert labels([gone, refused, several]) == ["plugin_of_old", "replay", "er"]
    for config in ({}, {"learners": None}, {"learners": [3]}, {"objectives": "er", "model": 1}):
        assert row_name("er", config) == "er"


VARIED = {
    "scale": {"scale": 3.0},
    "max_scale": {"max_scale": 50.0},
    "smoothing": {"smoothing": 0.25},
    "local_views": {"local_views": 3},
    "local_width": {"local_width": 8},
    "epsilon": {"epsilon": 0.5},
    "decay": {"decay": 0.5},
    "rounds": {"rounds": 1},
    "kernel": {"kernel": "power", "sharpness": 2.0},
    "sharpness": {"kernel": "threshold", "sharpness": 0.5},
    "temperature": {"temperature": 0.3},
    "candidates": {"candidates": "labels"},
    "both_ways": {"both_ways": True},
    "k": {"k": 3},
    **{
        key: {key: 0.5}
        for key in (
            "weight",
            "off_diagonal",
            "alignment",
            "uniformity",
            "cross_uniformity",
            "alpha",
        )
    },
    **{key: {key: 0.5} for key in ("pairwise_weight", "repulsion", "gamma", "beta", "tau_max")},
    "rho": {"rho": 2.0},
    "eta": {"eta": 0.1},
    "tau": {"tau": 0.05},
    "tau_min": {"tau_min": 0.008},
    "head": {"head": {"whiten": True}},
    "degla": {"degla": {"decay": 1.0}},
    "merge": {"merge": {"power": 0.0}},
    "objective": {"objective": "siglip"},
    "negatives": {"negatives": 7},
    "positives": {"positives": 7},
    "negative_audio": {"negative_audio": 1},
    "mask_equal_compositions": {"mask_equal_compositions": True},
    "denominator": {"denominator": "all"},
    "positive_weights": {"positive_weights": (2.0, 1.0, 1.0, 1.0, 1.0, 1.0)},
    "nspt": {"nspt": 0},
    "mm": {"mm": 0},
    **{
        term: {term: 1, "memory_size": 8}
        for term in ("audio_kd", "token_kd", "sequence_kd", "feature_kd", "answer_kd", "label_kd")
    },
}
TURNED = ("learn_scale", "learn_temperature")  # to what they are not by default
BESIDE = {"max_scale": {"scale": 10.0, "learn_scale": True}}  # without which a setting is idle
BESIDE_OF = {("barlip", key): {"local_views": 2} for key in ("smoothing", "local_width")}


@pytest.mark.parametrize("registry", [LEARNERS, OBJECTIVES], ids=["learners", "objectives"])
def test_a_name_tells_the_settings_that_it_says_it_tells(registry: Any) -> None:
    """Over all choices: a named setting changes the name, any other leaves it as it is."""
    for name in registry.names():
        plain: Config = registry.parse(name)
        assert plain.row_name.startswith(name)
        roots = {part.partition(".")[0] for part in plain.named}
        assert roots <= {*VARIED, *TURNED}, name
        for root in roots:
            changed = {root: not getattr(plain, root)} if root in TURNED else VARIED[root]
            beside = {"name": name, **BESIDE.get(root, {}), **BESIDE_OF.get((name, root), {})}
            before, varied = registry.parse(beside), registry.parse({**beside, **changed})
            assert varied.row_name != before.row_name, (name, root)
        for key in set(type(plain).model_fields) - roots:
            assert plain.model_copy(update={key: "another"}).row_name == plain.row_name, (name, key)


def test_copied_results_still_equal_themselves() -> None:
    """Asking for a label changes no result."""
    run = zero_shot(aligned("clip"))
    before = asdict(run)
    labels([run, run])
    assert asdict(run) == before
