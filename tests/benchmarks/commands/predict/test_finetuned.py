"""Fine-tuned models, moved and merged, name recordings and have maps."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import soundfile

from benchmarks import load_model
from benchmarks.commands.predict.model import Predicted
from multimodal.errors import UserError
from tests.benchmarks.commands.finetune_text import results
from tests.toy import RATE, tone


@pytest.fixture
def new(tuned) -> Path:
    folder = tuned / "new"
    folder.mkdir()
    for i, pitch in enumerate((300, 900)):
        soundfile.write(folder / f"{i}.wav", tone(pitch, 0.12, 50 + i)[0], RATE)
    return folder


def told(rows: list[Predicted]) -> list[float]:
    return [share for row in rows for share in row.probabilities.values()]


def test_a_run_its_folder_and_its_merged_form_say_the_same(medley, tuned, new) -> None:
    words = ["finetune", "tune.yaml", "methods=[lora]", "training.learning_rate=0.01"]
    assert medley(*words).code == 0
    (result,) = results(tuned).values()
    run = tuned / "runs" / "tuned" / result.config_hash
    rows = load_model(run).predict(new)
    assert [row.error for row in rows] == ["", ""]
    assert {row.label for row in rows} <= {"high", "low"}
    shutil.copytree(run / "model", tuned / "elsewhere")
    assert told(load_model(tuned / "elsewhere").predict(new)) == told(rows)
    assert medley("merge", str(run), "--out", "merged").code == 0
    merged = load_model(tuned / "merged").predict(new)
    assert told(merged) == pytest.approx(told(rows), abs=1e-5)
    outcome = medley("predict", "merged", "new", "--out", "found.csv")
    assert outcome.code == 0, outcome.err
    outcome = medley("explain", str(run), "new", "--label", "high")
    assert outcome.code == 0, outcome.err
    assert len(list((run / "explain").glob("*.png"))) == 2
    assert medley("explain", "merged", "new/0.wav", "--out", "maps").code == 0
    assert (tuned / "maps" / "explain.html").exists()
    long = new / "long.wav"
    soundfile.write(long, tone(300, 9.0, 1)[0], RATE)
    (row,) = load_model(run).predict(long)
    assert "--window" in row.error
    with pytest.raises(UserError, match="--classes and --view are for"):
        load_model(run, classes=["a", "b"])
