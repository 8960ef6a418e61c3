"""Sound files of every container that the libraries here write, and ways to damage them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile

from multimodal.modalities.audio import AudioConfig
from multimodal.recordings import Recording

RATE = 16_000
# Name -> libsndfile's format and subtype.
SOUNDFILE = {
    "pcm16.wav": ("WAV", "PCM_16"),
    "pcm24.wav": ("WAV", "PCM_24"),
    "float.wav": ("WAV", "FLOAT"),
    "ulaw.wav": ("WAV", "ULAW"),
    "ima.wav": ("WAV", "IMA_ADPCM"),
    "ms.wav": ("WAV", "MS_ADPCM"),
    "gsm.wav": ("WAV", "GSM610"),
    "g721.au": ("AU", "G721_32"),
    "pcm16.rf64": ("RF64", "PCM_16"),
    "pcm16.w64": ("W64", "PCM_16"),
    "pcm16.au": ("AU", "PCM_16"),
    "pcm16.aiff": ("AIFF", "PCM_16"),
    "pcm16.caf": ("CAF", "PCM_16"),
    "alac.caf": ("CAF", "ALAC_16"),
    "pcm16.nist": ("NIST", "PCM_16"),
    "pcm16.avr": ("AVR", "PCM_16"),
    "pcm16.voc": ("VOC", "PCM_16"),
    "pcm16.svx": ("SVX", "PCM_16"),
    "a.flac": ("FLAC", "PCM_16"),
    "vorbis.ogg": ("OGG", "VORBIS"),
    "opus.ogg": ("OGG", "OPUS"),
    "vbr.mp3": ("MP3", "MPEG_LAYER_III"),
}
# Name -> FFmpeg's container, codec and options of either.
PYAV = {
    "cbr.mp3": ("mp3", "libmp3lame", {"write_xing": "0"}, {"b": "64000"}),
    "novbr.mp3": ("mp3", "libmp3lame", {"write_xing": "0"}, {"flags": "+qscale"}),
    "layer2.mp2": ("mp2", "mp2", {}, {"b": "64000"}),
    "aac.m4a": ("mp4", "aac", {}, {}),
    "alac.m4a": ("mp4", "alac", {"movflags": "faststart"}, {}),
    "opus.mka": ("matroska", "libopus", {}, {}),
    "aac.mka": ("matroska", "aac", {}, {}),
    "opus.webm": ("webm", "libopus", {}, {}),
    "flac.mka": ("matroska", "flac", {}, {}),
    "adts.aac": ("adts", "aac", {}, {}),
    "wma.wma": ("asf", "wmav2", {}, {"b": "64000"}),
}
ALL = (*SOUNDFILE, *PYAV)
# Their checksums cover all sound: what is accepted is right to the last bit.
CHECKED = ("a.flac", "vorbis.ogg", "opus.ogg")


def sweep(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    """(T,) float32 in [-0.5, 0.5]: a rising tone, noise and, every other half second, silence."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(time))
    tone = 0.35 * np.sin(2 * np.pi * (200 + 100 * time) * time) + 0.03 * noise
    return (np.clip(tone, -0.5, 0.5) * (np.floor(4 * time) % 3 > 0)).astype(np.float32)


def encoded(name: str, signal: np.ndarray, rate: int = RATE) -> bytes:
    """The file's content; skips the test if PyAV is needed and not there."""
    if name in SOUNDFILE:
        buffer = io.BytesIO()
        kind, subtype = SOUNDFILE[name]
        soundfile.write(buffer, signal, rate, format=kind, subtype=subtype)
        return buffer.getvalue()
    container, codec, options, codec_options = PYAV[name]
    av = pytest.importorskip("av")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with av.open(str(path), "w", format=container, options=options) as file:
            stream = file.add_stream(codec, rate=rate, layout="mono", options=codec_options)
            if codec_options.get("flags") == "+qscale":
                stream.codec_context.global_quality = 4 * 118
            for frame in frames(signal, rate):
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
        return path.read_bytes()


def frames(signal: np.ndarray, rate: int, first: int = 0) -> Iterator:
    """The signal in PyAV's frames; first: the time stamp of the first, in samples."""
    av = pytest.importorskip("av")
    for start in range(0, len(signal), 1024):
        piece = np.ascontiguousarray(signal[None, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = rate, first + start
        frame.time_base = Fraction(1, rate)
        yield frame


def load(path: Path, rate: int = RATE, **fields) -> np.ndarray:
    """(T,) as the audio adapter gives it."""
    recording = Recording(path.name, (0,), "train", path=path, **fields)
    return AudioConfig(sample_rate=rate).build().load(recording)[0].numpy()


def mutated(content: bytes, generator: np.random.Generator) -> tuple[str, bytes]:
    """One damage in words, and the damaged file."""
    kind = str(
        generator.choice(
            ["flip", "flips", "head", "field", "cut", "tail", "double", "hole", "zeros", "more"]
        )
    )
    data, size = bytearray(content), len(content)
    at, length = int(generator.integers(size)), int(generator.integers(1, max(2, size // 4)))
    if kind in ("flip", "flips", "head"):
        for _ in range(1 if kind == "flip" else 4):
            place = int(generator.integers(min(size, 128) if kind == "head" else size))
            data[place] ^= 1 << int(generator.integers(8))
    elif kind == "field":
        place, width = int(generator.integers(min(size, 256))), int(generator.choice([1, 2, 4, 8]))
        value = int(generator.choice([0, 0xFF, int(generator.integers(256))]))
        data[place : place + width] = bytes([value]) * len(data[place : place + width])
    elif kind == "cut":
        del data[at:]
    elif kind == "tail":
        del data[-int(generator.integers(1, 64)) :]
    elif kind == "double":
        data[at:at] = data[at : at + length]
    elif kind == "hole":
        del data[at : at + length]
    elif kind == "zeros":
        data[at : at + length] = bytes(len(data[at : at + length]))
    else:
        data += generator.bytes(length)
    return f"{kind} at {at}, {length}", bytes(data)
