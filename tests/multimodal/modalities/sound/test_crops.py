"""Crops of long files: what is kept is what all of it would give, and no more is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.errors import UserError
from multimodal.modalities.audio import AudioConfig
from multimodal.modalities.sound import part
from multimodal.recordings import Recording

RATE = 8_000


def write(folder: Path, seconds: float, form: str = "wav", rate: int = RATE) -> Path:
    path = folder / f"a.{form}"
    noise = np.random.default_rng(0).normal(0, 0.1, round(seconds * rate))
    soundfile.write(path, noise, rate)
    return path


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("target", [RATE, 32_000, 6_000])
def test_the_start_is_that_of_all(tmp_path: Path, form: str, target: int) -> None:
    """To the bit, also where the rate changes."""
    recording = Recording("a", (0,), "train", path=write(tmp_path, 20, form))
    whole = AudioConfig(sample_rate=target).build().load(recording)
    for seconds in (0.3, 5.0, 17.9, 19.0, 30.0):
        config = AudioConfig(sample_rate=target, seconds=seconds, crop="start")
        found = config.build().load(recording)
        np.testing.assert_array_equal(found, whole[:, : round(seconds * target)])


@pytest.mark.parametrize("crop", ["start", "centre"])
@pytest.mark.parametrize("form", ["wav", "flac"])
def test_a_file_larger_than_the_budget(tmp_path: Path, monkeypatch, crop: str, form: str) -> None:
    """A part of it is read, which is that of the whole to a sample."""
    recording = Recording("a", (0,), "train", path=write(tmp_path, 300, form))
    config = AudioConfig(sample_rate=RATE, seconds=4, crop=crop)
    whole = config.build().load(recording)
    monkeypatch.setenv("MEDLEY_RECORDING_GIB", str(2**-10))  # 32 s
    found = config.build().load(recording)
    np.testing.assert_array_equal(found, whole)
    with pytest.raises(UserError, match="300 s of sound at 8000 Hz do not fit"):
        AudioConfig(sample_rate=RATE).build().load(recording)
    cut = Recording("a", (0,), "train", path=recording.path, start=100.0, duration=90.0)
    found = config.build().load(cut)
    monkeypatch.delenv("MEDLEY_RECORDING_GIB")
    np.testing.assert_array_equal(found, config.build().load(cut))


def test_no_more_is_decoded_than_the_start_needs(tmp_path: Path, monkeypatch) -> None:
    seen = []
    add = part.Kept.add

    def counted(self: part.Kept, samples: np.ndarray) -> None:
        seen.append(len(samples))
        add(self, samples)

    monkeypatch.setattr(part.Kept, "add", counted)
    recording = Recording("a", (0,), "train", path=write(tmp_path, 300))
    AudioConfig(sample_rate=RATE, seconds=4, crop="start").build().load(recording)
    assert sum(seen) <= 7 * RATE
