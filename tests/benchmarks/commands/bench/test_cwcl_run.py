"""A whole run of CWCL as a continual learner: zero-shot metrics, and exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
from multimodal.errors import UserError
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.toy import toy_data

TEMPLATES = 'templates: ["{}", "a {}", "sound of {}"]\n'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny text encoder and a file of templates."""
    folder = tmp_path_factory.mktemp("text")
    save_text_checkpoint(folder / "bert", "bert")
    (folder / "templates.yaml").write_text(TEMPLATES)
    return folder


@pytest.fixture
def grid(files: Path, tmp_path: Path) -> Any:
    def make(folder: str, scenario: dict[str, Any], train: str = "all", **changes: Any) -> Cells:
        learner = {
            "name": "cwcl",
            "text": {"checkpoint": str(files / "bert"), "max_length": 16},
            "templates": str(files / "templates.yaml"),
            "memory_size": 6,
            "memory_batch_size": 4,
            **changes,
        }
        dataset = {"name": "toy", "num_classes": 6}
        data = toy_data(learners=[learner], scenario=scenario, dataset=dataset)
        data["encoder"] = {"name": "compact", "width": 16, "depth": 1, "heads": 2, "train": train}
        settings = {**data, "output_dir": str(tmp_path / folder)}
        return Cells(validate(RunConfig, settings, source="x"))

    return make


class Stop:
    """Pulls the plug after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def begin(self, total: int, done: int) -> None: ...
    def experience_done(self, *facts: object) -> None: ...
    def step(self, strategy: object) -> None:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("pulled the plug")


WHITE = {"train": "none", "head": {"whiten": True}}


@pytest.mark.parametrize("changes", [{}, WHITE], ids=["plain", "whitened"])
def test_a_run_reports_zero_shot_and_resumes_exactly(grid, changes: dict[str, Any]) -> None:
    scenario = {"name": "class_incremental", "num_experiences": 2, "held_out": ["tone_4", "tone_5"]}
    whole = grid("whole", scenario, **changes).run_cell(0)
    assert len(whole.metrics["future_zero_shot_by_experience"]) == 3
    assert len(whole.metrics["held_out_zero_shot_by_experience"]) == 3
    assert 0 <= whole.metrics["future_zero_shot_accuracy"] <= 1
    held = whole.metrics["held_out_zero_shot_by_experience"]
    assert whole.metrics["held_out_zero_shot_accuracy"] == held[-1]
    assert whole.metrics["future_zero_shot_chance"] == 0.5
    with pytest.raises(RuntimeError):
        grid("cut", scenario, **changes).run_cell(0, Stop(5))
    assert grid("cut", scenario, **changes).run_cell(0).metrics == whole.metrics


ONLINE = {"name": "si_blurry", "num_tasks": 3, "eval_period": 4}


@pytest.mark.parametrize(
    "changes",
    [{"policy": "class_balanced"}, {"policy": "reservoir"}, WHITE],
    ids=["class_balanced", "reservoir", "whitened"],
)
def test_an_online_run_names_classes_to_come_and_resumes_exactly(
    grid, changes: dict[str, Any]
) -> None:
    cells = grid("whole", ONLINE, **changes)
    whole = cells.run_cell(0)
    points = whole.metrics["anytime"]["future"]
    stream, labels = cells.streams[0], cells.data.manifest.labels
    order = labels[np.concatenate([e.train for e in stream.experiences])]
    left = {p["count"]: 6 - len(set(order[: p["count"]])) for p in points}
    assert all(n >= 2 for n in left.values())
    assert [p["chance"] for p in points] == [1 / n for n in left.values()]
    assert all(0 <= p["score"] <= 1 for p in points)
    mean = np.mean([p["score"] for p in points])
    assert whole.metrics["future_zero_shot_accuracy"] == pytest.approx(mean)
    assert 0 <= whole.metrics["a_auc"] <= 1
    with pytest.raises(RuntimeError):
        grid("cut", ONLINE, **changes).run_cell(0, Stop(2))
    assert grid("cut", ONLINE, **changes).run_cell(0).metrics == whole.metrics


def test_whitening_of_a_trained_encoder_is_refused_before_anything_is_read(grid) -> None:
    with pytest.raises(UserError, match=r"head\.whiten: .*encoder\.train=none.* leave head out"):
        grid("x", ONLINE, head={"whiten": True}).run_cell(0)


def test_herding_has_no_border_to_wait_for_online(grid) -> None:
    with pytest.raises(UserError, match="policy=herding orders recordings"):
        grid("x", ONLINE, policy="herding").run_cell(0)
