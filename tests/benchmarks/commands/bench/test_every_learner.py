"""Every learner on every kind of stream: it trains to the end, or one line refuses it before.

Learners are those of the registry, so a new one is tried without being named here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from benchmarks.runs import machine, session
from continual.learner import LEARNERS
from multimodal.errors import UserError
from multimodal.signals import SignalCache
from tests.toy import toy_data

SINGLE, SEVERAL = "toy", "toy_chords"
DATA = {
    SINGLE: {"name": SINGLE, "shared_groups": True, "train": 4},
    SEVERAL: {"name": SEVERAL, "shared_groups": True},
}
TASKS = {"name": "si_blurry", "num_tasks": 2, "min_task_samples": 1, "eval_period": 10}
STREAMS: dict[str, dict[str, Any]] = {
    "class_incremental": {"name": "class_incremental", "num_experiences": 2},
    "domain_incremental": {"name": "domain_incremental"},
    "si_blurry": {**TASKS, "online_iter": 2},
}
MORE_STREAMS: dict[str, dict[str, Any]] = {
    "equal quotas (i-Blurry)": {**TASKS, "online_iter": 1, "stochastic": False},
    "published sampler": {**TASKS, "online_iter": 1, "legacy": True},
    "all blurry": {**TASKS, "online_iter": 1, "disjoint_class_ratio": 0.0},
    "nothing blurry": {**TASKS, "disjoint_class_ratio": 1.0, "blurry_sample_ratio": 0.0},
    "one class an experience": {"name": "class_incremental", "num_experiences": 4},
}
# What a learner needs to be small; the others are tried as they come.
DECODER = {
    **{"layers": 1, "heads": 2, "width": 16, "feed_forward": 16, "merges": 8, "longest": 24},
    **{"beam": 2, "projection": 8},
}
SMALL: dict[str, dict[str, Any]] = {
    "rm": {"memory_epochs": 1},
    "rls": {"hidden": 20},
    **{name: {"decoder": DECODER} for name in ("coconut", "seq2seq", "seq2seq_joint")},
}
VARIANTS: list[dict[str, Any]] = [
    {"name": "replay", "policy": "reservoir", "memory_size": 8},
    {"name": "replay", "policy": "herding", "memory_size": 8},
    {"name": "replay", "policy": "class_balanced", "memory_size": 3},
    {"name": "er", "policy": "class_balanced", "memory_size": 8},
    {"name": "rm", "memory_size": 8, "memory_epochs": 1, "candidates": "task"},
    {"name": "clib", "memory_size": 8, "importance_period": 3},
    {"name": "lwf", "teacher": "ema"},
    {"name": "mvp_r", "memory_size": 4},
    {"name": "cwcl", "memory_size": 8},
    {"name": "coconut", "memory_size": 8, "audio_kd": 1.0, "token_kd": 1.0, "decoder": DECODER},
    {"name": "coconut_aligned", "memory_size": 8, "feature_kd": 1.0, "answer_kd": 1.0},
    {"name": "coconut_aligned", "memory_size": 8, "teacher": "ema", "policy": "reservoir"},
]


def made(config: Any) -> tuple[Cells | None, str]:
    """The cells, or what refuses them."""
    try:
        return Cells(config), ""
    except UserError as error:
        return None, str(error)


@pytest.fixture
def attempt(text: dict[str, Any], tmp_path: Path, monkeypatch) -> Callable[..., None]:
    """A run without page and pictures. What is refused is refused before anything is decoded, and
    for one of two reasons: several labels, or an online stream.
    """
    decoded: list[Any] = []
    ensure = SignalCache.ensure

    def spy(self: SignalCache, rows: Any) -> None:
        decoded.append(rows)
        ensure(self, rows)

    monkeypatch.setattr(SignalCache, "ensure", spy)
    monkeypatch.setattr(session, "draw_pictures", lambda *_: [])
    monkeypatch.setattr(session, "write_html", lambda _, path: path)
    monkeypatch.setattr(machine, "git_commit", lambda: None)

    def run(learner: dict[str, Any], scenario: dict[str, Any], labels: str) -> None:
        config_class = LEARNERS.config(learner["name"])
        own = {"text": text} if "text" in config_class.model_fields else {}
        config = validate(
            RunConfig,
            toy_data(
                dataset=DATA[labels],
                scenario=scenario,
                learners=[{**learner, **own}],
                training={"epochs": 2, "batch_size": 8, "device": "cpu"},
                output_dir=str(tmp_path),
            ),
            source="toy",
        )
        online, kind = scenario["name"] == "si_blurry", getattr(config_class, "kind", None)
        cells, refusal = made(config)
        if cells is None:
            assert "\n" not in refusal
            assert not decoded
            assert labels == SEVERAL or (online and kind == "offline"), refusal
            return
        metrics = cells.run_cell(0).metrics
        offline = "last_accuracy" if labels == SINGLE else "macro_auroc"
        assert math.isfinite(metrics["a_last" if online else offline])

    return run


@pytest.mark.parametrize(
    ("scenario", "labels"),
    [
        ("class_incremental", SINGLE),
        ("class_incremental", SEVERAL),
        ("domain_incremental", SINGLE),
        pytest.param("domain_incremental", SEVERAL, marks=pytest.mark.slow),
        ("si_blurry", SINGLE),
        ("si_blurry", SEVERAL),
    ],
)
@pytest.mark.parametrize("name", LEARNERS.names())
def test_it_trains_or_is_refused_in_one_line(name, scenario, labels, attempt) -> None:
    attempt({"name": name, **SMALL.get(name, {})}, STREAMS[scenario], labels)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [SINGLE, SEVERAL])
@pytest.mark.parametrize("scenario", MORE_STREAMS)
@pytest.mark.parametrize("name", LEARNERS.names())
def test_it_does_so_on_other_streams_too(name, scenario, labels, attempt) -> None:
    attempt({"name": name, **SMALL.get(name, {})}, MORE_STREAMS[scenario], labels)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [SINGLE, SEVERAL])
@pytest.mark.parametrize("scenario", STREAMS)
@pytest.mark.parametrize(
    "learner",
    VARIANTS,
    ids=lambda v: "-".join(str(x) for x in v.values() if not isinstance(x, dict)),
)
def test_other_settings_do_so_too(learner, scenario, labels, attempt) -> None:
    attempt(learner, STREAMS[scenario], labels)
