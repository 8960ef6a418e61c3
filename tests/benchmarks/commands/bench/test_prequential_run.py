"""Prequential accuracy of a run: it changes nothing, and stands in result, journal and page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.commands.bench.cells import Cells
from benchmarks.commands.bench.config import RunConfig
from benchmarks.commands.bench.online_run import OnlineRun
from benchmarks.config.loading import validate
from benchmarks.reports.page import write_html
from continual.learner import LEARNERS
from tests.benchmarks.commands.bench.test_every_learner import SMALL
from tests.toy import toy_data

STREAM = {"name": "si_blurry", "num_tasks": 2, "online_iter": 2, "eval_period": 7}
OF_ASKING = ("prequential_accuracy",)
ONLINE = [n for n in LEARNERS.names() if getattr(LEARNERS.config(n), "kind", "") == "online"]


def make(tmp_path: Path, **changes: Any) -> Cells:
    data = toy_data(scenario=STREAM, output_dir=str(tmp_path), training={"batch_size": 5})
    return Cells(validate(RunConfig, {**data, **changes}, source="toy"))


def journal(folder: Path) -> list[Any]:
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(x["step"], x["metrics"]) for x in lines]


def without(values: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in values.items() if key not in OF_ASKING}
    if "anytime" in kept and isinstance(kept["anytime"], dict):
        kept["anytime"] = {k: v for k, v in kept["anytime"].items() if k != "prequential"}
    return kept


@pytest.mark.parametrize("name", ONLINE)
def test_asking_first_changes_nothing_bit_for_bit(name, text, tmp_path) -> None:
    """Weights, random states, metrics and journal, with it and without."""
    own = {"text": text} if "text" in LEARNERS.config(name).model_fields else {}
    learner = {"name": name, **SMALL.get(name, {}), **own}
    ends = []
    for asked in (True, False):
        folder = tmp_path / str(asked)
        grid = make(folder, learners=[learner], prequential=asked)
        run = OnlineRun(grid.cells[0], grid.data, grid.streams[0])
        metrics = run.execute().metrics
        assert ("prequential_accuracy" in metrics) == asked
        lines = [(step, without(values)) for step, values in journal(run.session.folder)]
        weights = run.learner.model.state_dict()
        ends.append((without(metrics), lines, torch.get_rng_state(), weights))
    (one, one_lines, one_random, one_weights), (two, lines, random, weights) = ends
    assert one == two
    assert one_lines == lines
    assert torch.equal(one_random, random)
    assert all(torch.equal(one_weights[key], weights[key]) for key in weights)


def test_it_stands_in_result_journal_and_page_and_is_right(tmp_path, monkeypatch) -> None:
    grid = make(tmp_path, learners=["er"], seeds=[1, 2])
    told: list[tuple[int, int]] = []
    ask = OnlineRun.ask_first

    def spy(self: OnlineRun, rows: torch.Tensor) -> None:
        """What the learner says, counted by another road: its evaluation of these rows."""
        from continual.evaluation import predict_rows

        known = self.data.manifest.labels[rows.numpy()]
        exposed = self.anytime.exposed(self.strategy.samples_seen)  # pyright: ignore
        if exposed.any():
            named = predict_rows(self.learner, self.read_tests, rows.numpy()).labels.numpy()
            assert exposed[named].all()  # among the classes exposed before
            told.append((len(rows), int((named == known).sum())))
        else:
            told.append((len(rows), 0))
        ask(self, rows)

    monkeypatch.setattr(OnlineRun, "ask_first", spy)
    result = grid.run_cell(0)
    assert sum(n for n, _ in told) == 32
    assert result.metrics["prequential_accuracy"] == sum(r for _, r in told) / 32
    asked = result.metrics["anytime"]["prequential"]
    assert asked["window"] == 7
    assert [p[0] for p in asked["points"]][-1] == 32
    lines = [v for _, v in journal(grid.cells[0].folder) if "prequential_accuracy" in v]
    assert lines[-1]["prequential_accuracy"] == result.metrics["prequential_accuracy"]
    assert len(lines) >= 4
    page = write_html([result, grid.run_cell(1)], tmp_path / "page.html").read_text()
    assert "Prequential accuracy: each batch named before it is trained on" in page


def test_data_of_several_labels_and_decoders_are_not_asked(tmp_path) -> None:
    result = make(tmp_path, dataset="toy_chords", learners=["er"]).run_cell(0)
    assert "prequential_accuracy" not in result.metrics
    small = {"name": "seq2seq", **SMALL["seq2seq"]}
    result = make(tmp_path, learners=[small]).run_cell(0)
    assert "prequential_accuracy" not in result.metrics


def test_validation_recordings_of_a_stream_are_scored_beside_the_test(tmp_path) -> None:
    scenario = {**STREAM, "validation_fraction": 0.25}
    result = make(tmp_path, learners=["er"], scenario=scenario).run_cell(0)
    scores = result.metrics["validation_accuracy"]
    assert len(scores) == 2
    assert all(0 <= score <= 1 for score in scores)
    counts = [(e["num_train"], e["num_validation"]) for e in result.experiences]
    assert sum(train for train, _ in counts) == 24
    assert counts[-1][1] == 8
    assert "validation: 0.25 of train" in result.dataset["split_rule"]
    alone = make(tmp_path, learners=["er"]).run_cell(0)
    assert "validation_accuracy" not in alone.metrics
