"""Damaged sound: decoded whole, or refused in one line; never a traceback, never a wait."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.errors import UserError
from multimodal.modalities.audio import AudioConfig
from multimodal.modalities.sound.av_read import read_with_pyav
from multimodal.modalities.sound.part import Part
from multimodal.modalities.sound.read import UnknownSound, read_sound, refuse_damaged_container
from multimodal.recordings import Recording
from tests.multimodal.modalities.sound.sound_files import (
    ALL,
    CHECKED,
    RATE,
    encoded,
    mutated,
    sweep,
)

SLOWEST = 10.0  # seconds for one file, on a busy machine; usual: 0.01


def read(path: Path) -> tuple[np.ndarray, int]:
    """The file's own samples and rate, before any resampling."""
    part = Part(str(path), 0.0, None, None, RATE)
    try:
        return read_sound(path, part)
    except UnknownSound:
        refuse_damaged_container(path, part.where)
        return read_with_pyav(path, part)


def peers(path: Path) -> list[int]:
    """The numbers of samples that soundfile and PyAV, used plainly, find in a file."""
    av = pytest.importorskip("av")
    found = []
    try:
        with soundfile.SoundFile(path) as file:
            found.append(file.frames)
    except (soundfile.SoundFileError, TypeError):
        pass
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            frames = container.decode(container.streams.audio[0])
            found.append(sum(frame.samples for frame in frames))
    except (av.error.FFmpegError, IndexError, ValueError):
        pass
    return found


def fuzz(name: str, path: Path, seed: int, count: int) -> None:
    """``count`` damages, each decoded whole or refused in one line, in time."""
    whole = encoded(name, sweep())
    path.write_bytes(whole)
    signal, rate = read(path)
    for number in range(count):
        damage, content = mutated(whole, np.random.default_rng([seed, number]))
        path.write_bytes(content)
        begin = time.monotonic()
        message, found, hertz = "", signal, rate
        try:
            found, hertz = read(path)
        except UserError as error:
            message = str(error)
        if message:
            assert message.startswith(f"{path}: "), damage
            assert "\n" not in message, damage
        elif name in CHECKED:
            np.testing.assert_array_equal(found, signal, err_msg=damage)
            assert hertz == rate, damage
        elif len(found) != len(signal):
            assert len(found) in peers(path), damage
        with contextlib.suppress(UserError):
            recording = Recording(name, (0,), "train", path=path)
            AudioConfig(sample_rate=RATE).build().load(recording)
        assert time.monotonic() - begin < SLOWEST, damage


@pytest.mark.parametrize("name", ALL)
def test_damage_is_decoded_whole_or_refused(tmp_path: Path, name: str) -> None:
    fuzz(name, tmp_path / name, seed=1, count=12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_much_damage_is_decoded_whole_or_refused(tmp_path: Path, name: str) -> None:
    fuzz(name, tmp_path / name, seed=2, count=500)
