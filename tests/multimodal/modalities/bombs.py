"""Small files of sound and ECG that ask for much; each function writes one and gives its path."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import numpy as np
import soundfile

Bomb = Callable[[Path], Path]


# ---- sound ------------------------------------------------------------------------------------


def wav(folder: Path, rate: int = 1, samples: int = 100_000, channels: int = 1) -> Path:
    """Silence whose header states ``rate`` Hz."""
    data = bytes(2 * samples * channels)
    head = struct.pack("<HHIIHH", 1, channels, rate, 2 * rate * channels, 2 * channels, 16)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(data))
    path = folder / "slow.wav"
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + len(data)) + chunks + data)
    return path


def flac_that_claims(folder: Path) -> Path:
    """2**36 - 1 samples stated, 16,000 there."""
    path = folder / "claims.flac"
    soundfile.write(path, np.linspace(-0.5, 0.5, 16_000), 16_000)
    content = bytearray(path.read_bytes())
    content[21] |= 0x0F
    content[22:26] = b"\xff" * 4
    path.write_bytes(content)
    return path


def flac_of_silence(folder: Path, size: int = 2**20, channels: int = 1) -> Path:
    """About ``size`` bytes of frames that each stand for 65,535 zeros."""
    rate, block, bits = 16_000, 65_535, 16
    frame = len(_silent_frame(0, channels)) + 2
    count = max(1, size // frame)
    info = struct.pack(">HH", block, block) + bytes(6)
    packed = rate << 44 | (channels - 1) << 41 | (bits - 1) << 36 | (count * block) % 2**36
    info += packed.to_bytes(8, "big") + bytes(16)
    frames = b"".join(_silent_frame(number, channels) for number in range(count))
    path = folder / "silence.flac"
    path.write_bytes(b"fLaC\x80" + len(info).to_bytes(3, "big") + info + frames)
    return path


def _silent_frame(number: int, channels: int) -> bytes:
    head = b"\xff\xf8\x70" + bytes([(channels - 1) << 4]) + chr_of(number) + b"\xff\xfe"
    head += bytes([_crc(head, 8, 0x07)])
    body = head + bytes(3 * channels)  # of every channel: constant, 16 bits, zero
    return body + _crc(body, 16, 0x8005).to_bytes(2, "big")


def chr_of(number: int) -> bytes:
    """As UTF-8 writes it, surrogates too."""
    return chr(number).encode("utf-8", "surrogatepass")


@cache
def _crc_table(bits: int, polynomial: int) -> list[int]:
    top, mask, table = 1 << (bits - 1), (1 << bits) - 1, []
    for value in range(256):
        rest = value << (bits - 8)
        for _ in range(8):
            rest = (rest << 1 ^ polynomial if rest & top else rest << 1) & mask
        table.append(rest)
    return table


def _crc(data: Iterable[int], bits: int, polynomial: int) -> int:
    table, rest, mask = _crc_table(bits, polynomial), 0, (1 << bits) - 1
    for byte in data:
        rest = (rest << 8 ^ table[rest >> (bits - 8) ^ byte]) & mask
    return rest


def ogg_of_silence(folder: Path, seconds: int = 20_000) -> Path:
    """Opus takes a few bytes for 20 ms of silence."""
    path = folder / "silence.opus"
    with soundfile.SoundFile(path, "w", 48_000, 1, "OPUS", format="OGG") as file:
        piece = np.zeros(48_000 * 10, np.float32)
        for _ in range(seconds // 10):
            file.write(piece)
    return path


def sound_with_pyav(folder: Path, name: str, codec: str, seconds: int, jump: int = 0) -> Path:
    """Silence at 16 kHz; after half of it, time stamps go on ``jump`` seconds later."""
    import av

    path = folder / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=16_000)
        stream.layout = "mono"  # pyright: ignore
        size, pts = 1024, 0
        for number in range(seconds * 16_000 // size):
            if jump and number == seconds * 8_000 // size:
                pts += jump * 16_000
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, size), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 16_000, pts
            pts += size
            container.mux(stream.encode(frame))  # pyright: ignore
        container.mux(stream.encode(None))  # pyright: ignore
    return path


# ---- ECG --------------------------------------------------------------------------------------


def wfdb(folder: Path, first: str, signal: str, size: int = 4_000) -> Path:
    """A record of ``size`` bytes whose header has these two lines."""
    (folder / "ecg.dat").write_bytes(bytes(size))
    (folder / "ecg.hea").write_text(f"ecg {first}\n{signal}\n")
    return folder / "ecg.hea"


def wfdb_of_nothing(folder: Path, frames: int = 10**15) -> Path:
    """Segments of which one was never stored, and is very long."""
    wfdb(folder, "1 250 2000", "ecg.dat 16 200 16 0 0 0 0 II")
    (folder / "ecg.hea").rename(folder / "part.hea")
    (folder / "part.hea").write_text("part 1 250 2000\necg.dat 16 200 16 0 0 0 0 II\n")
    path = folder / "long.hea"
    path.write_text(f"long/2 1 250 {frames + 2000}\npart 2000\n~ {frames}\n")
    return path


def wfdb_repeated(folder: Path, times: int = 10_000) -> Path:
    """One segment of 500,000 frames, time and again."""
    (folder / "ecg.dat").write_bytes(bytes(1_000_000))
    (folder / "part.hea").write_text("part 1 250 500000\necg.dat 16 200 16 0 0 0 0 II\n")
    path = folder / "long.hea"
    path.write_text(f"long/{times} 1 250 {500_000 * times}\n" + "part 500000\n" * times)
    return path


def wfdb_of_flac(folder: Path) -> Path:
    """Format 516 whose FLAC file claims 2**36 - 1 samples."""
    claims = flac_that_claims(folder)
    claims.rename(folder / "ecg.flac")
    (folder / "ecg.hea").write_text(f"ecg 1 250 {2**36 - 1}\necg.flac 516 200 16 0 0 0 0 II\n")
    return folder / "ecg.hea"
