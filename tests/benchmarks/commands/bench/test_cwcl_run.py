"""A whole run of CWCL as a continual learner: zero-shot metrics, and exact resume."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.config.loading import validate
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


def test_a_run_reports_zero_shot_and_resumes_exactly(files, tmp_path, monkeypatch) -> None:
    learner = {
        "name": "cwcl",
        "text": {"checkpoint": str(files / "bert"), "max_length": 16},
        "templates": str(files / "templates.yaml"),
        "memory_size": 6,
        "memory_batch_size": 4,
    }
    scenario = {"name": "class_incremental", "num_experiences": 2}
    dataset = {"name": "toy", "num_classes": 6}

    def grid(folder: str) -> Cells:
        held = {**scenario, "held_out": ["tone_4", "tone_5"]}
        data = toy_data(learners=[learner], scenario=held, dataset=dataset)
        return Cells(
            validate(RunConfig, {**data, "output_dir": str(tmp_path / folder)}, source="x")
        )

    whole = grid("whole").run_cell(0)
    assert len(whole.metrics["future_zero_shot_by_experience"]) == 3
    assert len(whole.metrics["held_out_zero_shot_by_experience"]) == 3
    assert 0 <= whole.metrics["future_zero_shot_accuracy"] <= 1
    held = whole.metrics["held_out_zero_shot_by_experience"]
    assert whole.metrics["held_out_zero_shot_accuracy"] == held[-1]
    assert whole.metrics["future_zero_shot_chance"] == 0.5

    class Stop:
        steps = 0

        def begin(self, total: int, done: int) -> None: ...
        def experience_done(self, *facts: object) -> None: ...
        def step(self, strategy: object) -> None:
            self.steps += 1
            if self.steps == 5:
                raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError):
        grid("cut").run_cell(0, Stop())  # pyright: ignore[reportArgumentType]
    resumed = grid("cut").run_cell(0)
    assert resumed.metrics == whole.metrics
