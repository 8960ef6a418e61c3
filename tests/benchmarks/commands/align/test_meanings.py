"""``training.batch.meanings`` of ``medley align``: a run of it, and all that stops it at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.commands.align.command import run_align
from benchmarks.commands.align.config import AlignConfig
from benchmarks.results.files import find_results
from multimodal.errors import UserError
from tests.toy import ToyChordsConfig, ToyConfig

TRAINING: dict[str, Any] = {"epochs": 2, "device": "cpu", "log_every": 1, "batch_size": 8}


def run(folder: Path, dataset: dict[str, Any], *, meanings: int, **changes: Any) -> None:
    data = {
        "experiment": "paraphrases",
        "dataset": dataset,
        "modality": "speech",
        "encoder": {"name": "compact", "width": 16, "depth": 1, "heads": 2},
        "objectives": ["clip", "cwcl"],
        "captions": "labels",
        "training": {**TRAINING, "batch": {"meanings": meanings}},
        "tracking": {"store": "none"},
        "output_dir": str(folder),
        **changes,
    }
    file = folder / "align.yaml"
    file.write_text(AlignConfig.parse(data).to_yaml())
    run_align(file, [])


def test_a_run_trains_on_whole_meanings_and_keeps_the_setting(tmp_path: Path) -> None:
    run(tmp_path, ToyConfig(num_classes=3, train=9).dump(), meanings=2)
    results = find_results(tmp_path / "paraphrases")
    assert len(results) == 2
    for file in tmp_path.glob("paraphrases/*/metrics.jsonl"):
        lines = [json.loads(line) for line in file.open()]
        # 3 classes of 2 groups of 4 make 3 batches of 2 classes, in each of 2 epochs.
        assert max(line["step"] for line in lines) == 2 * 3 * 2 * 4
        assert "meanings: 2" in file.with_name("config.yaml").read_text()


@pytest.mark.parametrize(
    ("dataset", "meanings", "words"),
    [
        (ToyConfig(num_classes=3), 4, "meanings=4: the training recordings have only 3 classes"),
        (ToyConfig(train=3), 2, r"'tone_0' has 3 .*\(4 of 4 classes.* at most .*batch_size=6"),
        (ToyChordsConfig(), 2, "'chords' have several labels.*leave training.batch out"),
    ],
)
def test_data_that_do_not_fit(tmp_path: Path, dataset: Any, meanings: int, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        run(tmp_path, dataset.dump(), meanings=meanings, captions="text")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"training.batch.meanings={meanings}")
    assert not list(tmp_path.glob("paraphrases/*"))


def test_settings_that_do_not_fit_each_other(refuse, tones) -> None:
    words = "align align.yaml 'training.batch={meanings: 3}'"
    refuse(words, "batch.meanings=3 does not divide batch_size=4", "nearest that do: 2 or 4")
    refuse(
        "align align.yaml 'training.batch={meaning: 2}'",
        "training.batch.meaning: unknown key",
    )
    refuse("align align.yaml 'training.batch={meanings: 1}'", "training.batch.meanings", "(got 1")


def test_what_is_held_out_for_validation_does_not_count(tmp_path: Path) -> None:
    words = r"needs 8 recordings .* has 6 for training \(4 of 4 .*batch_size=12\.$"
    training = {**TRAINING, "batch_size": 16, "batch": {"meanings": 2}}
    changes = {"validation_fraction": 0.25, "training": training, "seeds": [1, 2]}
    with pytest.raises(UserError, match=words):
        run(tmp_path, ToyConfig().dump(), meanings=2, **changes)
    assert not list(tmp_path.glob("paraphrases/*"))
