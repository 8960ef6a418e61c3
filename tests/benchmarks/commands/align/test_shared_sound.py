"""A test clip that the training pool holds under another name is counted and named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks.results.result import Result

HZ = 16_000
COMPOSER = '{name: speech, sources: any, snippet_seconds: [0.3, 3], expressions: {"A+B": 1}}'
COMPOSE = f"compose={{composer: {COMPOSER}, scenes: 4, items: 2, triplets: 0}}"
DATASET = "{name: table, root: ., file: clips.csv, modality: speech}"
RUN = ["align", "align.yaml", f"dataset={DATASET}", "objectives=[clip]", "captions=text", COMPOSE]
LEAK = ("train0.wav", "test0.wav")


def sound(seed: int) -> np.ndarray:
    """Two seconds of noise that swells as no other does."""
    rng = np.random.default_rng(seed)
    steps = np.interp(np.arange(2 * HZ) / HZ * 10, np.arange(21), rng.normal(size=21))
    return 0.1 * np.exp(0.5 * steps) * rng.normal(size=2 * HZ)


@pytest.fixture
def clips(tones: Path) -> Path:
    """``clips.csv``: four of training, four of test, the first of which is a part of a training
    clip, louder.
    """
    lines = ["path,label,text,split"]
    for number, split in enumerate(["train"] * 4 + ["test"] * 4):
        name, label = f"{split}{number % 4}.wav", ("low", "high")[number % 2]
        signal = sound(number)
        if name == LEAK[1]:
            signal = 2 * sound(0)[4_000:28_000]
        soundfile.write(tones / name, np.clip(signal, -1, 1), HZ)
        lines.append(f"{name},{label},a {label} tone,{split}")
    (tones / "clips.csv").write_text("\n".join(lines))
    return tones


def shared(place: Path, experiment: str) -> dict:
    (file,) = place.glob(f"runs/{experiment}/*/result.json")
    return Result.load(file.parent).evaluation["shared_sound"]


def test_of_what_scenes_are_composed_of(medley, clips) -> None:
    outcome = medley(*RUN)
    assert outcome.code == 0, outcome.err
    found = shared(clips, "tones")
    assert (found["clips"], found["of"], found["unchecked"]) == (1, 4, 0)
    ((*names, error, offset),) = found["pairs"]
    assert tuple(names) == LEAK
    assert error < 0.1
    assert offset == pytest.approx(0.25, abs=0.02)
    assert outcome.err.count("1 of 4 test recordings share sound with the training pool") == 1
    written = medley("compose", "align.yaml", *RUN[2:], "--out", "scenes")
    assert "1 of 4 test recordings" in written.err


@pytest.mark.parametrize(
    "task", [[], ["task=compositional", COMPOSE]], ids=["classes", "compositional"]
)
def test_of_what_a_model_was_trained_on(medley, clips, task) -> None:
    assert medley(*RUN).code == 0
    (clips / "zero.yaml").write_text(
        f"experiment: zero\ndataset: {DATASET}\ntraining_pool: {DATASET}\n"
        "model: {name: aligned, experiment: tones}\ntracking: {store: none}\n"
    )
    outcome = medley("zeroshot", "zero.yaml", *task)
    assert outcome.code == 0, outcome.err
    assert shared(clips, "zero")["clips"] == 1
    assert "1 of 4 test recordings share sound" in outcome.err
    table = (clips / "clips.csv").read_text().replace("train0.wav", "train4.wav")
    (clips / "pool.csv").write_text(table)
    soundfile.write(clips / "train4.wav", sound(9), HZ)
    other = json.dumps(DATASET.replace("clips.csv", "pool.csv")).strip('"')
    assert (
        medley("zeroshot", "zero.yaml", *task, f"training_pool={other}", "experiment=clean").code
        == 0
    )
    assert shared(clips, "clean")["clips"] == 0


def test_a_pool_that_has_no_sound_is_refused(medley, clips) -> None:
    assert medley(*RUN).code == 0
    (clips / "zero.yaml").write_text(
        f"experiment: zero\ndataset: {DATASET}\ntraining_pool: {{name: synthetic_ecg}}\n"
        "model: {name: aligned, experiment: tones}\ntracking: {store: none}\n"
    )
    outcome = medley("zeroshot", "zero.yaml")
    assert outcome.code == 2
    assert "training_pool: fingerprints are of sound" in outcome.err
