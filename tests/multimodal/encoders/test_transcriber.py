"""Greedy transcription by a tiny random Whisper, against a loop without a cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from multimodal.encoders.transcriber import Transcriber, open_transcriber, windows
from multimodal.errors import UserError
from tests.multimodal.encoders.audio_checkpoints import batch_of, clap, clips_of
from tests.multimodal.encoders.whisper_checkpoint import END, NO_TIMESTAMPS, START, save_whisper


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    save_whisper(folder)
    return folder


@pytest.fixture(scope="module")
def tiny(folder: Path) -> Transcriber:
    transcriber, adapter = open_transcriber(str(folder), None, "en")
    assert adapter.config.sample_rate == 16000
    transcriber.most_tokens = 12
    return transcriber


def greedy(folder: Path, clip: np.ndarray, most: int) -> str:
    """By transformers' own extractor and the whole decoder anew at each step."""
    model = transformers.WhisperForConditionalGeneration.from_pretrained(folder).eval()
    extractor = transformers.WhisperFeatureExtractor.from_pretrained(folder)
    mel = extractor(clip, sampling_rate=16000, return_tensors="pt").input_features
    ids = [START, NO_TIMESTAMPS]
    while len(ids) < 2 + most and END not in ids:
        with torch.no_grad():
            logits = model(input_features=mel, decoder_input_ids=torch.tensor([ids])).logits
        never = set(range(NO_TIMESTAMPS + 1, 60)) | ({6, END} if len(ids) == 2 else set())
        order = logits[0, -1].argsort(descending=True).tolist()
        ids.append(next(i for i in order if i not in never))
    return " ".join(f"word{i}" for i in ids[2:] if i > 4)


def test_it_is_greedy_decoding(folder: Path, tiny: Transcriber) -> None:
    clips = clips_of((16000, 9000, 4321, 700))
    expected = [greedy(folder, clip, tiny.most_tokens) for clip in clips]
    assert tiny.transcribe(batch_of(clips)) == expected
    assert len(set(expected)) > 1


def test_a_transcript_does_not_depend_on_its_company(tiny: Transcriber) -> None:
    clips = [*clips_of(), np.zeros(3000, np.float32), *clips_of((40000, 8000, 123))]
    together = tiny.transcribe(batch_of(clips))
    assert [tiny.transcribe(batch_of([c]))[0] for c in clips] == together
    order = np.random.default_rng(0).permutation(len(clips))
    shuffled = tiny.transcribe(batch_of([clips[i] for i in order], extra=5000))
    assert shuffled == [together[i] for i in order]
    assert tiny.transcribe(batch_of(clips)) == together


def test_longer_recordings_are_heard_in_equal_parts(tiny: Transcriber) -> None:
    (clip,) = clips_of((40000,))
    parts = [clip[:13333], clip[13333:26666], clip[26666:]]
    heard = [tiny.transcribe(batch_of([p]))[0] for p in parts]
    assert tiny.transcribe(batch_of([clip])) == [" ".join(heard)]


@pytest.mark.parametrize("length", [1, 15999, 16000, 16001, 32000, 32001])
def test_windows_cover_a_recording_once(length: int) -> None:
    signal = torch.arange(1.0, 40001)[None, None]
    parts = [part for _, part in windows(signal, torch.tensor([length]), 16000)]
    assert torch.equal(torch.cat(parts), signal[0, 0, :length])
    assert len(parts) == -(-length // 16000)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_nothing_heard_is_an_empty_text(tmp_path: Path) -> None:
    save_whisper(tmp_path, begin_suppress_tokens=None, suppress_tokens=list(range(5, 60)))
    transcriber, _ = open_transcriber(str(tmp_path), None, "en")
    assert transcriber.transcribe(batch_of(clips_of())) == [""] * 5


def test_the_fingerprint_tells_what_texts_depend_on(folder: Path, tmp_path: Path) -> None:
    one, _ = open_transcriber(str(folder), None, "en")
    assert one.fingerprint == open_transcriber(str(folder), None, "en")[0].fingerprint
    save_whisper(tmp_path, suppress_tokens=[7])
    other, _ = open_transcriber(str(tmp_path), None, "en")
    assert other.facts()["weights"] == one.facts()["weights"]
    assert other.fingerprint != one.fingerprint


def test_checkpoints_of_several_languages_are_told_one(tmp_path: Path) -> None:
    many = {"is_multilingual": True, "lang_to_id": {"<|en|>": 10, "<|sw|>": 11}}
    save_whisper(tmp_path, **many, task_to_id={"transcribe": 12, "translate": 13})
    transcriber, _ = open_transcriber(str(tmp_path), None, "sw")
    assert transcriber.prefix == [START, 11, 12, NO_TIMESTAMPS]
    with pytest.raises(UserError, match=r"model\.language=swe: unknown; did you mean 'sw'\?"):
        open_transcriber(str(tmp_path), None, "swe")


def test_other_checkpoints_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"knows English alone; set model\.language=en"):
        open_transcriber(str(folder), None, "de")
    clap(tmp_path / "clap")
    with pytest.raises(UserError, match="of type 'clap', which writes no transcripts"):
        open_transcriber(str(tmp_path / "clap"), None, "en")
    save_whisper(tmp_path / "bare")
    file = tmp_path / "bare/generation_config.json"
    file.write_text(json.dumps({"decoder_start_token_id": START}))
    with pytest.raises(UserError, match=r"names no no_timestamps_token_id"):
        open_transcriber(str(tmp_path / "bare"), None, "en")
    file.unlink()
    with pytest.raises(UserError, match=r"generation_config\.json is missing"):
        open_transcriber(str(tmp_path / "bare"), None, "en")
