"""Transcripts on disk: each signal once, damaged lines again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from multimodal.batch import Batch
from multimodal.encoders.transcripts import Transcripts
from tests.multimodal.encoders.audio_checkpoints import batch_of, clips_of


class Counting:
    """Stands for a transcriber: the text is the sum of the samples."""

    fingerprint = "0123"

    def __init__(self) -> None:
        self.asked: list[int] = []

    def transcribe(self, batch: Batch) -> list[str]:
        self.asked.append(len(batch))
        return [text_of(s[0, :n]) for s, n in zip(batch.inputs, batch.lengths, strict=True)]


def text_of(samples: Tensor) -> str:
    return f'ü "{samples.double().sum().item():.6f}"\u2028\n'


BATCH = batch_of([*clips_of(), clips_of()[1]], extra=7)  # one signal twice
EXPECTED = [text_of(s[0, :n]) for s, n in zip(BATCH.inputs, BATCH.lengths, strict=True)]


def of(folder: Path, batch: Batch = BATCH) -> tuple[list[str], list[int]]:
    transcriber = Counting()
    return Transcripts(transcriber, folder).of(batch), transcriber.asked  # type: ignore[arg-type]


def test_each_signal_is_transcribed_once(tmp_path: Path) -> None:
    assert of(tmp_path) == (EXPECTED, [5])
    assert of(tmp_path) == (EXPECTED, [])
    reverse = BATCH.where(torch.tensor([True, False, False, True, False, False]))
    assert of(tmp_path, reverse) == ([EXPECTED[0], EXPECTED[3]], [])


def test_only_what_is_missing_is_transcribed(tmp_path: Path) -> None:
    first, _ = BATCH.split(2)
    of(tmp_path, first)
    assert of(tmp_path) == (EXPECTED, [3])
    assert of(tmp_path) == (EXPECTED, [])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-9],  # killed while it wrote
        lambda data: data.replace(b'"\\"-', b'"\\"', 1).replace(b"00", b"01", 1),
        lambda data: data.replace(b"\n", b"", 1),
        lambda data: b"[1]\nnull\n" + data[40:],
        lambda data: b"\xff\xfe" + data,
    ],
)
def test_damaged_lines_are_made_again(tmp_path: Path, damage) -> None:
    of(tmp_path)
    file = tmp_path / "0123.jsonl"
    file.write_bytes(damage(file.read_bytes()))
    texts, asked = of(tmp_path)
    assert texts == EXPECTED
    assert asked in ([1], [2])
    assert of(tmp_path) == (EXPECTED, [])


def test_another_transcriber_has_its_own_texts(tmp_path: Path, monkeypatch) -> None:
    of(tmp_path)
    monkeypatch.setattr(Counting, "fingerprint", "4567")
    assert of(tmp_path) == (EXPECTED, [5])


def test_a_place_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert of(tmp_path / "file" / "below") == (EXPECTED, [5])
