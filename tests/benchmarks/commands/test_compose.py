"""``medley compose``: scenes as files that other commands read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.datasets.compositional_items import CompositionalItemsConfig
from multimodal.datasets.table import TableConfig
from tests.benchmarks.commands.align.test_composed import WRITTEN

RUN = ["compose", "align.yaml", "--out", "scenes", "captions=text", f"compose={WRITTEN}"]


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_set_is_written_and_read_back(medley, tones) -> None:
    outcome = medley(*RUN)
    assert outcome.code == 0, outcome.err
    folder = tones / "scenes"
    assert "12 training scenes and 6 items" in outcome.out
    assert "file: train.jsonl, text_column: text, modality: speech}" in outcome.out
    assert "{name: compositional, root: scenes, modality: speech}" in outcome.out
    scenes = lines(folder / "train_scenes.jsonl")
    for scene, row in zip(scenes, lines(folder / "train.jsonl"), strict=True):
        sound, rate = soundfile.read(folder / row["path"])
        assert rate == scene["rate"]
        assert len(sound) == round(scene["seconds"] * rate)
        assert np.abs(sound).max() == pytest.approx(0.5, abs=1e-3)
        assert row["text"] == scene["caption"] == scene["positives"][0]["text"]
        assert scene["synthetic"]
        assert {event["label"] for event in scene["events"]} == {"low", "high"}
    items = CompositionalItemsConfig(modality="speech").build_compositional(folder)
    assert len(items) == 6
    assert items.manifest.synthetic
    table = TableConfig(
        **{"modality": "speech", "file": "train.jsonl", "text_column": "text"}
    ).build(folder)
    assert len(table) == 12
    page = (folder / "index.html").read_text()
    assert page.count("<audio") >= 12
    assert "Composed, not recorded" in page
    assert not [p for p in tones.iterdir() if p.name.startswith(".scenes")]


def test_equal_settings_give_equal_files(medley, tones) -> None:
    assert medley(*RUN).code == 0
    again = [*RUN]
    again[again.index("scenes")] = "other"
    assert medley(*again).code == 0
    for file in (tones / "scenes").rglob("*"):
        if file.is_file():
            assert (
                file.read_bytes()
                == (tones / "other" / file.relative_to(tones / "scenes")).read_bytes()
            )


def test_what_cannot_be_written_is_refused(medley, tones) -> None:
    (tones / "scenes").mkdir()
    outcome = medley(*RUN)
    assert (outcome.code, "exists already" in outcome.err) == (2, True)
    outcome = medley("compose", "align.yaml", "--out", "new")
    assert (outcome.code, "has no compose" in outcome.err) == (2, True)
