"""Decoding of audio: values against NumPy, the crop rule, PyAV where libsndfile gives up."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torchaudio.functional import melscale_fbanks

from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.audio import CENTRE, SCALE, AudioConfig
from multimodal.modalities.log_mel import FLOOR
from multimodal.recordings import Recording

RATE = 32_000


def tone(hertz: float, rate: int, seconds: float = 1.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def load(path: Path, config: AudioConfig | None = None, **fields) -> torch.Tensor:
    recording = Recording(path.name, (0,), "train", path=path, **fields)
    return (config or AudioConfig()).build().load(recording)


def made(array: np.ndarray, config: AudioConfig) -> torch.Tensor:
    return config.build().load(Recording("made", (0,), "train", make=lambda: array))


def write_m4a(path: Path, channels: np.ndarray, rate: int) -> None:
    """(C, T) as Apple Lossless in MP4, which libsndfile cannot open; the index goes first."""
    av = pytest.importorskip("av")
    layout = {1: "mono", 2: "stereo"}[len(channels)]
    planes = np.ascontiguousarray((channels * 2**15).astype(np.int16))
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("alac", rate=rate, layout=layout)
        for start in range(0, planes.shape[1], 4096):
            piece = np.ascontiguousarray(planes[:, start : start + 4096])
            frame = av.AudioFrame.from_ndarray(piece, format="s16p", layout=layout)
            frame.sample_rate, frame.pts = rate, start
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_stereo_is_mixed_by_the_mean_and_kept_as_long_as_it_is(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    signal = generator.integers(-(2**14), 2**14, (RATE // 20, 2)) / 2**15  # 0.05 s
    soundfile.write(tmp_path / "a.wav", signal, RATE)
    loaded = load(tmp_path / "a.wav", AudioConfig(seconds=4.0))
    assert loaded.dtype == torch.float32
    np.testing.assert_allclose(loaded.numpy(), signal.mean(1)[None], atol=1e-7)


def test_resamples_to_the_canonical_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, 48_000), 48_000)
    loaded = load(tmp_path / "a.wav")[0].numpy()
    assert loaded.shape == (RATE,)
    np.testing.assert_allclose(loaded[2000:-2000], tone(440, RATE)[2000:-2000], atol=1e-3)


@settings(max_examples=50, deadline=None)
@given(
    length=st.integers(1, 4000),
    kept=st.integers(1, 3000),
    crop=st.sampled_from(["centre", "start"]),
)
def test_crop_rule(length: int, kept: int, crop: str) -> None:
    array = (np.arange(length, dtype=np.float32) / 8000)[None]
    config = AudioConfig.parse({"sample_rate": 1000, "seconds": kept / 1000, "crop": crop})
    out = made(array, config)[0].numpy()
    first = 0 if crop == "start" or length <= kept else (length - kept) // 2
    np.testing.assert_array_equal(out, array[0, first : first + kept])
    np.testing.assert_array_equal(out, made(array, config)[0].numpy())


def test_crop_lies_in_the_recordings_part(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.arange(4000) / 8000, 1000, subtype="FLOAT")
    config = AudioConfig(sample_rate=1000, seconds=1.0)
    loaded = load(tmp_path / "a.wav", config, start=1.0, duration=2.0)
    np.testing.assert_allclose(loaded[0].numpy(), np.arange(1500, 2500) / 8000, atol=1e-7)


def test_made_array_of_another_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"made: the made array has shape \(2, 5\); audio is"):
        made(np.zeros((2, 5), dtype=np.float32), AudioConfig())


def test_fingerprint_tells_what_changes_the_signal() -> None:
    base = AudioConfig(seconds=5.0)
    changes = [{"seconds": 4.0}, {"crop": "start"}, {"sample_rate": 16_000}]
    prints = {base.model_copy(update=c).build().fingerprint for c in [{}, *changes]}
    assert len(prints) == 4
    assert AudioConfig(seconds=5.0, n_mels=32).build().fingerprint == base.build().fingerprint


def test_pyav_opens_what_libsndfile_does_not(tmp_path: Path) -> None:
    path = tmp_path / "a.m4a"
    left = tone(440, 16_000)
    write_m4a(path, np.stack([left, np.zeros_like(left)]), 16_000)
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(path)
    loaded = load(path, AudioConfig(sample_rate=16_000))[0].numpy()
    np.testing.assert_allclose(loaded, left / 2, atol=1e-4)
    part = load(path, AudioConfig(sample_rate=16_000), start=0.25, duration=0.5)[0].numpy()
    np.testing.assert_array_equal(part, loaded[4000:12_000])
    assert load(path).shape == (1, RATE)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_file_that_pyav_opens(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.m4a"
    write_m4a(path, np.random.default_rng(0).uniform(-0.5, 0.5, (1, 64_000)), 16_000)
    content = path.read_bytes()
    path.write_bytes(content[: round(share * len(content))])
    with pytest.raises(UserError, match=r"a\.m4a: (truncated|damaged, truncated or not audio)"):
        load(path)


def test_video_without_sound(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            image = np.zeros((32, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match=r"a\.mp4: it has no sound"):
        load(path)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"a\.m4a: .*install the extra 'video'"):
        load(path)


def damaged(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    soundfile.write(tmp_path / "whole.wav", tone(440, RATE), RATE)
    soundfile.write(tmp_path / "whole.ogg", tone(440, RATE), RATE)
    wav, ogg = (tmp_path / "whole.wav").read_bytes(), (tmp_path / "whole.ogg").read_bytes()
    contents = {
        "empty.wav": (b"", "empty file"),
        "short.wav": (wav[: len(wav) // 2], "truncated"),
        "short.ogg": (ogg[: len(ogg) // 2], "truncated"),
        "text.wav": (b"this is no sound " * 9, "damaged, truncated or not audio"),
    }
    cases = {"missing.wav": (tmp_path / "missing.wav", "no such file")}
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        cases[name] = (tmp_path / name, message)
    return cases


@pytest.mark.parametrize("name", ["empty.wav", "short.wav", "short.ogg", "text.wav", "missing.wav"])
def test_damage_is_named(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av")
    path, message = damaged(tmp_path)[name]
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_front_end_against_numpy() -> None:
    """One centred frame of the power spectrum, by hand; padding is zero and changes nothing."""
    config = AudioConfig(sample_rate=16_000, n_mels=32, window_ms=32.0, hop_ms=16.0)
    adapter, window = config.build(), 512
    signal = np.random.default_rng(1).uniform(-0.5, 0.5, 8000).astype(np.float32)
    inputs = torch.zeros(2, 1, 9000)
    inputs[0, 0, :8000] = torch.from_numpy(signal)
    inputs[1, 0] = 0.1
    lengths = torch.tensor([8000, 9000])
    zero = torch.zeros(2, dtype=torch.long)
    front_end = adapter.front_end()
    values, frames = front_end(Batch(inputs, lengths, zero, zero))
    assert values.shape == (2, adapter.channels, 1 + 9000 // 256)
    assert frames.tolist() == [32, 36]
    assert not values[0, :, 32:].any()
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft(signal[10 * 256 - 256 : 10 * 256 + 256] * hann)) ** 2
    bands = melscale_fbanks(257, 0.0, 8000.0, 32, 16_000, norm="slaney", mel_scale="slaney")
    expected = (np.log(power @ bands.numpy() + FLOOR) - CENTRE) / SCALE
    np.testing.assert_allclose(values[0, :, 10].numpy(), expected, atol=1e-3)
    alone, _ = front_end(Batch(inputs[:1, :, :8000], lengths[:1], zero[:1], zero[:1]))
    torch.testing.assert_close(alone[0], values[0, :, :32])


def test_a_steady_colour_stays_in_the_features() -> None:
    """Two hums of different pitch differ in every frame, unlike after mean normalisation."""
    config = AudioConfig(sample_rate=16_000)
    hums = np.stack([tone(300, 16_000), tone(3000, 16_000)]).astype(np.float32)
    zero = torch.zeros(2, dtype=torch.long)
    batch = Batch(torch.from_numpy(hums)[:, None], torch.full((2,), 16_000), zero, zero)
    values = config.build().front_end()(batch).values
    assert (values[0] - values[1]).abs().amax(0)[5:-5].min() > 1.0


def test_describe() -> None:
    prompts = AudioConfig().build().describe("Sea_waves")
    assert prompts[0] == "This is a sound of sea waves."
    assert len(set(prompts)) == len(prompts)


def test_bad_settings() -> None:
    with pytest.raises(ValidationError, match="longer than window_ms"):
        AudioConfig(window_ms=10.0, hop_ms=20.0)
    for setting in ({"seconds": 0.0}, {"crop": "end"}, {"sample_rate": 10}):
        with pytest.raises(ValidationError):
            AudioConfig.parse(setting)


def test_is_registered() -> None:
    assert MODALITIES.config("audio") is AudioConfig
