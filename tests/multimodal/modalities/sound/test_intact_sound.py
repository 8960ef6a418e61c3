"""Sound that usual programs write is intact, however odd it looks, and is not refused."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.errors import UserError
from tests.multimodal.modalities.sound.sound_files import RATE, encoded, frames, load, sweep


def write(path: Path, codec: str, rate: int, layout: str = "mono", **options: str) -> Path:
    """A second of a sweep, in the container that the name's ending means."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        stream.format = stream.codec_context.codec.audio_formats[0].name
        signal = np.tile(sweep(1.0, rate), (stream.layout.nb_channels, 1)).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(signal, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        resampler = av.AudioResampler(stream.format.name, layout, rate, stream.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(piece))
    return path


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_mp3_by_ffmpeg(tmp_path: Path, rate: int, layout: str) -> None:
    """Its checksum covers 190 bytes, also where the header's frame has fewer."""
    path = write(tmp_path / "a.mp3", "libmp3lame", rate, layout)
    assert rate <= len(load(path, rate)) <= rate + 1152


@pytest.mark.parametrize("frame_count", [1, 4001])
def test_aiff_of_24_bits_and_an_odd_number_of_bytes(tmp_path: Path, frame_count: int) -> None:
    path, signal = tmp_path / "a.aiff", sweep(1.0)[:frame_count] + np.float32(0.01)
    soundfile.write(path, signal, RATE, subtype="PCM_24")
    np.testing.assert_allclose(load(path), signal, atol=1e-6)


@pytest.mark.parametrize(("codec", "rate"), [("alac", 8000), ("wavpack", 44100), ("mp3", 8000)])
def test_matroska_whose_packets_state_no_duration(tmp_path: Path, codec: str, rate: int) -> None:
    path = write(tmp_path / "a.mkv", "libmp3lame" if codec == "mp3" else codec, rate)
    assert abs(len(load(path, rate)) - rate) <= 1152


@pytest.mark.parametrize(("codec", "rate"), [("eac3", 48000), ("g722", 16000)])
def test_avi_has_no_time_stamps(tmp_path: Path, codec: str, rate: int) -> None:
    assert abs(len(load(write(tmp_path / "a.avi", codec, rate), rate)) - rate) <= 1536


@pytest.mark.parametrize(
    ("codec", "rate", "delay"),
    [("mp2", 16000, 481), ("ac3", 48000, 256), ("flac", 16000, 0), ("g722", 16000, 22),
     ("adpcm_yamaha", 16000, 0), ("g726", 8000, 0)],
)  # fmt: skip
def test_wav_of_codecs_that_libsndfile_does_not_have(
    tmp_path: Path, codec: str, rate: int, delay: int
) -> None:
    path = write(tmp_path / "a.wav", codec, rate)
    found = load(path, rate)[delay:]
    signal = sweep(1.0, rate)[: len(found)]
    assert rate - 1600 <= len(found) <= rate + 3072
    found = found[: len(signal)]
    error = np.sqrt(np.mean((found - signal) ** 2) / np.mean(signal**2))
    assert error < (1e-3 if codec == "flac" else 0.3)
    content = path.read_bytes()
    path.write_bytes(content[:-500])
    with pytest.raises(UserError, match="truncated"):
        load(path, rate)


def test_wav_with_a_damaged_format_stays_libsndfiles(tmp_path: Path) -> None:
    content = bytearray(encoded("pcm16.wav", sweep()))
    content[34] = 0  # bits of a sample
    content[32] = 0
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"write the file again|replace it"):
        load(path)


def test_flac_in_ogg_by_ffmpeg(tmp_path: Path) -> None:
    path, chain = write(tmp_path / "a.oga", "flac", RATE), tmp_path / "chain.oga"
    assert len(load(path)) == RATE
    chain.write_bytes(path.read_bytes() * 2)
    np.testing.assert_array_equal(load(chain), np.tile(load(path), 2))


def ape(header: bool) -> bytes:
    """With 20 bytes of items; version 1 has no header."""
    mark, fields = b"APETAGEX", (2000, 52, 1)
    begin = mark + struct.pack("<IIIIQ", *fields, 0xA000_0000, 0) if header else b""
    return begin + b"v" * 20 + mark + struct.pack("<IIIIQ", *fields, 0x8000_0000 * header, 0)


@pytest.mark.parametrize("name", ["a.flac", "vbr.mp3", "cbr.mp3"])
def test_tags_at_the_end(tmp_path: Path, name: str) -> None:
    content, path = encoded(name, sweep()), tmp_path / name
    path.write_bytes(content)
    plain, old = load(path), b"TAG" + bytes(125)
    for tags in (old, ape(True), ape(False), ape(True) + old, ape(False) + old):
        path.write_bytes(content + tags)
        np.testing.assert_array_equal(load(path), plain)


@pytest.mark.parametrize("before", [bytes(500), ape(True)])
def test_what_stands_before_mp3_does_not_hide_its_header(tmp_path: Path, before: bytes) -> None:
    """The encoder's delay was kept as sound."""
    content, path = encoded("vbr.mp3", sweep()), tmp_path / "a.mp3"
    path.write_bytes(content)
    plain = load(path)
    path.write_bytes(before + content)
    np.testing.assert_array_equal(load(path), plain)


def test_late_sound_of_fragments(tmp_path: Path) -> None:
    """Without an edit list the first frame lasts until the sound begins."""
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w", options={"movflags": "frag_keyframe+empty_moov"}) as container:
        film, sound = container.add_stream("mpeg4", rate=10), container.add_stream("aac", rate=RATE)
        film.width, film.height, film.pix_fmt = 32, 32, "yuv420p"
        for i in range(20):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8)).reformat(
                format="yuv420p"
            )
            picture.pts, picture.time_base = i, Fraction(1, 10)
            container.mux(film.encode(picture))
        container.mux(film.encode(None))
        for frame in frames(sweep(), RATE, RATE // 2):
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    signal = load(path)
    assert abs(len(signal) - 1.5 * RATE) <= 2048
    assert not np.abs(signal[2048 : RATE // 2 - 2048]).any()
