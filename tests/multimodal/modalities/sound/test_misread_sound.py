"""Sound in which libsndfile finds something else than what stands there."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.errors import UserError
from tests.multimodal.modalities.sound.sound_files import RATE, encoded, load, sweep


def refused(path: Path, **fields) -> str:
    with pytest.raises(UserError) as caught:
        load(path, **fields)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def chunk(name: bytes, content: bytes, order: str = "<") -> bytes:
    return name + struct.pack(order + "I", len(content)) + content + bytes(len(content) % 2)


def wav(samples: bytes, before: bytes = b"", behind: bytes = b"", *, size: int | None = None,
        order: str = "<") -> bytes:  # fmt: skip
    """16 bits, one channel. size: what its header states as bytes of samples."""
    form = chunk(b"fmt ", struct.pack(order + "HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16), order)
    stated = struct.pack(order + "I", len(samples) if size is None else size)
    content = b"WAVE" + form + before + b"data" + stated + samples + behind
    return chunk(b"RIFF" if order == "<" else b"RIFX", content, order)


@pytest.mark.parametrize("cut", [1, 200, 700])
@pytest.mark.parametrize("name", ["vbr.mp3", "cbr.mp3"])
def test_mpeg_whose_beginning_is_gone_or_other(tmp_path: Path, name: str, cut: int) -> None:
    content = encoded(name, sweep(2.0))
    path = tmp_path / name
    for damaged in (content[cut:], b"\nsomething" * 20 + content):
        path.write_bytes(damaged)
        refused(path)
        refused(path, start=0.5, duration=0.5)


LIST = b"INFOISFT" + struct.pack("<I", 13) + b"Lavf58.29.100\0"
TAILS = {
    "LIST": [(b"LIST", LIST)],
    "id3": [(b"id3 ", b"ID3" + bytes(range(101)))],
    "several": [(b"LIST", LIST), (b"bext", b"x" * 602), (b"_PMX", b"LIST" * 11), (b"cue ", b"1")],
    "none": [],
}


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tail", TAILS)
def test_chunks_behind_samples_of_unknown_length(
    tmp_path: Path, tail: str, order: str, size: int
) -> None:
    samples = (sweep(0.2) * 32767).astype("<i2")
    samples[100:102] = np.frombuffer(b"LIST", "<i2")  # no chunk, it ends elsewhere
    behind = b"".join(chunk(name, content, order) for name, content in TAILS[tail])
    path = tmp_path / "a.wav"
    path.write_bytes(
        wav(samples.astype(order + "i2").tobytes(), b"", behind, size=size, order=order)
    )
    if order == ">":
        samples = samples.copy()
    np.testing.assert_allclose(load(path), samples / 32768, atol=1e-7)


@pytest.mark.parametrize("name", [b"acid", b"fact", b"cue ", b"PEAK", b"bext", b"inst", b"smpl"])
@pytest.mark.parametrize("length", [0, 1, 4, 24])
def test_short_chunks_before_samples_move_none(tmp_path: Path, name: bytes, length: int) -> None:
    """Either all samples, or a refusal that tells of both numbers."""
    samples = (sweep(0.2) * 32767).astype("<i2")
    path = tmp_path / "a.wav"
    path.write_bytes(wav(samples.tobytes(), chunk(name, bytes(length))))
    try:
        found = load(path)
    except UserError:
        refused(path, start=0.1, duration=0.05)
        if (name, length) == (b"acid", 0):
            with soundfile.SoundFile(path) as file:
                assert f"announces 3200 frames but libsndfile finds {file.frames}" in refused(path)
        return
    np.testing.assert_allclose(found, samples / 32768, atol=1e-7)
