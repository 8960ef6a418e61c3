"""Decoding of speech: values against NumPy, and every kind of damage named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.speech import SpeechConfig
from multimodal.recordings import Recording

RATE = 16000


def noise(seconds: float = 1.0, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(T, channels) in [-0.5, 0.5], exact in 16 bit."""
    generator = np.random.default_rng(seed)
    return generator.integers(-(2**14), 2**14, (round(seconds * rate), channels)) / 2**15


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def recording(path: Path, **fields) -> Recording:
    return Recording(path.name, (0,), "train", path=path, **fields)


def load(path: Path, config: SpeechConfig | None = None, **fields) -> torch.Tensor:
    return (config or SpeechConfig()).build().load(recording(path, **fields))


def refused(path: Path, **fields) -> str:
    with pytest.raises(UserError) as caught:
        load(path, **fields)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", noise(), RATE)
    return tmp_path / "a.wav"


def test_registered_and_adapter_attributes() -> None:
    config = MODALITIES.parse({"name": "speech", "n_mels": 64, "window_ms": 32})
    adapter = config.build()  # pyright: ignore[reportAttributeAccessIssue]
    assert (adapter.length_axis, adapter.dtype, adapter.channels) == (-1, torch.float32, 64)
    assert adapter.describe("turn_Light_on")[0] == "turn light on"
    assert all("turn light on" in prompt for prompt in adapter.describe("turn_Light_on"))
    front_end = adapter.front_end()
    assert sum(p.numel() for p in front_end.parameters()) == 0


def test_fingerprint_changes_exactly_with_what_changes_the_signal() -> None:
    def fingerprint(**fields) -> str:
        return SpeechConfig(**fields).build().fingerprint

    assert fingerprint() == fingerprint(n_mels=80, hop_ms=5.0)
    assert len({fingerprint(), fingerprint(sample_rate=8000), fingerprint(max_seconds=1.0)}) == 3


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"sample_rate": 10}, "sample_rate"),
        ({"max_seconds": 0.0}, "max_seconds"),
        ({"n_mels": 0}, "n_mels"),
        ({"window_ms": -1.0}, "window_ms"),
        ({"hop_ms": 26.0}, "hop_ms=26.0 is longer than window_ms=25.0"),
        ({"rate": 1}, "rate"),
    ],
)
def test_config_refuses(fields: dict, path: str) -> None:
    with pytest.raises(ValidationError, match=path):
        SpeechConfig.parse(fields)


@pytest.mark.parametrize("ending", ["wav", "flac", "aiff"])
def test_lossless_files_come_back_exactly(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, noise(), RATE)
    signal = load(path)
    assert (signal.shape, signal.dtype) == ((1, RATE), torch.float32)
    np.testing.assert_array_equal(signal[0].numpy(), noise()[:, 0].astype(np.float32))


@pytest.mark.parametrize("ending", ["ogg", "mp3"])
def test_lossy_files_have_their_length_and_sound(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    soundfile.write(path, tone(440, RATE), RATE)
    signal = load(path)
    assert signal.shape == (1, RATE)
    assert np.abs(signal[0].numpy() - tone(440, RATE))[1000:-1000].max() < 0.02


def test_channels_are_averaged(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    stereo = noise(channels=3)
    soundfile.write(path, stereo, RATE)
    np.testing.assert_allclose(load(path)[0].numpy(), stereo.mean(1), atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(1000, rate), rate, subtype="FLOAT")
    signal = load(path)[0].numpy()
    assert len(signal) == RATE
    assert np.abs(signal - tone(1000, RATE))[800:-800].max() < 1e-3
    expected = soxr.resample(tone(1000, rate).astype(np.float32), rate, RATE, quality="HQ")
    np.testing.assert_array_equal(signal, expected)


def test_resampling_removes_what_would_alias(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(15000, 48000), 48000, subtype="FLOAT")
    assert load(path).abs()[:, 800:-800].max() < 1e-3


@settings(max_examples=25, deadline=None)
@given(start=st.floats(0, 0.9), duration=st.none() | st.floats(0.001, 2), limit=st.floats(0.001, 2))
def test_parts_are_slices(start: float, duration: float | None, limit: float, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "parts.wav"
    if not path.exists():
        soundfile.write(path, noise(), RATE)
    signal = load(path, SpeechConfig(max_seconds=limit), start=start, duration=duration)
    count = min(round(x * RATE) for x in (duration, limit) if x is not None)
    first = round(start * RATE)
    expected = noise()[first : first + count, 0]
    np.testing.assert_array_equal(signal[0].numpy(), expected.astype(np.float32))


def test_max_seconds_bounds_the_resampled_length(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(2, 22050), 22050)
    assert load(path, SpeechConfig(max_seconds=0.7001)).shape == (1, round(0.7001 * RATE))


def test_made_arrays_are_canonical_already() -> None:
    array = noise()[:, 0][None]
    made = Recording("made", (0,), "train", make=lambda: array, start=0.25)
    signal = SpeechConfig(max_seconds=0.5).build().load(made)
    assert signal.dtype == torch.float32
    np.testing.assert_array_equal(signal.numpy(), array[:, 4000:12000].astype(np.float32))
    for wrong in (array[0], array[:, :0], np.zeros((2, 5))):
        made = Recording("made", (0,), "train", make=lambda wrong=wrong: wrong)
        with pytest.raises(UserError, match=r"made: the made array has shape .* \(1, T\)"):
            SpeechConfig().build().load(made)


def test_floats_a_little_over_full_scale_are_clipped(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0.5, 1.25, -3.0, -1.0]), RATE, subtype="FLOAT")
    assert load(path).tolist() == [[0.5, 1.0, -1.0, -1.0]]
    soundfile.write(path, 20000 * noise(), RATE, subtype="FLOAT")
    assert "full scale is 1" in refused(path)


def test_missing_empty_and_other_files(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "gone.wav")
    assert "no such file" in refused(tmp_path)
    (tmp_path / "empty.wav").touch()
    assert "empty file (0 bytes)" in refused(tmp_path / "empty.wav")
    for name in ("notes.wav", "notes.txt", "notes.raw", "RIFF.wav"):
        (tmp_path / name).write_bytes(name[:4].encode() + b" not a sound at all")
        assert "not audio" in refused(tmp_path / name)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    assert "no samples" in refused(tmp_path / "none.wav")
    soundfile.write(tmp_path / "short.wav", np.zeros(1), 192000)
    assert "too short" in refused(tmp_path / "short.wav")


def test_parts_outside_the_signal(wav: Path) -> None:
    for fields in ({"start": 1.0}, {"start": -0.5}, {"duration": 0.0}, {"duration": -1.0}):
        assert "signal of 1.000 s" in refused(wav, **fields)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, bad: float) -> None:
    path = tmp_path / "a.wav"
    samples = noise(channels=2)
    samples[7, 1] = bad
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    assert "1 of 16000 samples are NaN or infinite" in refused(path)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95, 0.9999])
@pytest.mark.parametrize("ending", ["wav", "aiff", "flac", "ogg", "rf64", "mp3"])
def test_truncated_files(tmp_path: Path, ending: str, keep: float) -> None:
    whole, part = tmp_path / f"whole.{ending}", tmp_path / f"part.{ending}"
    soundfile.write(whole, noise(10), RATE)
    assert load(whole).shape == (1, 10 * RATE)
    data = whole.read_bytes()
    part.write_bytes(data[: int(len(data) * keep)])
    if ending == "mp3" and keep == 0.9999:
        return  # only a part of the last frame's padding is gone
    assert "truncated" in refused(part)


def chunks(*pairs: tuple[bytes, bytes, int]) -> bytes:
    body = b"".join(name + struct.pack("<I", size) + data for name, data, size in pairs)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def test_chunks_before_and_after_the_samples(tmp_path: Path) -> None:
    format_ = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    samples = (noise()[:, 0] * 2**15).astype("<i2").tobytes()
    path = tmp_path / "a.wav"
    head = (b"LIST", b"odd\0", 3), (b"fmt ", format_, 16)
    path.write_bytes(chunks(*head, (b"data", samples, len(samples)), (b"junk", b"1234", 4)))
    assert load(path).shape == (1, RATE)
    path.write_bytes(chunks(*head, (b"data", samples, len(samples) + 2)))
    assert f"truncated, {2 * RATE} of {2 * RATE + 2} bytes" in refused(path)
    # Written to a pipe: the header could not be completed.
    path.write_bytes(chunks(*head, (b"data", samples, 0xFFFFFFFF)))
    assert load(path).shape == (1, RATE)


def test_streamed_flac_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(), RATE)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the 36 bits of the total in STREAMINFO
    data[22:26] = bytes(4)
    path.write_bytes(data)
    np.testing.assert_array_equal(load(path)[0].numpy(), noise()[:, 0].astype(np.float32))


def test_ogg_without_its_last_page(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, noise(10), RATE)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"OggS")])
    assert "end-of-stream page is missing" in refused(path)


def real_files(root: Path, pattern: str) -> list[Path]:
    files = sorted(root.glob(pattern))
    if not files:
        pytest.skip(f"no {pattern} in {root}")
    return files


@pytest.mark.realdata
def test_real_digits(real_data: Path) -> None:
    for path in real_files(real_data, "fsdd/**/*.wav")[::50]:
        info = soundfile.info(path)
        assert load(path).shape == (1, round(info.frames * RATE / info.samplerate))


@pytest.mark.realdata
def test_real_vorbis(real_data: Path) -> None:
    for path in real_files(real_data, "esc10/**/*.ogg")[::40]:
        info = soundfile.info(path)
        expected = info.frames * RATE / info.samplerate
        assert abs(load(path).shape[1] - expected) <= 1
