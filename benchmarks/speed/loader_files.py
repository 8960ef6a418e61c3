"""Files of each modality in a usual format and size, for ``loader``: name -> write(folder, i)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np


def speech(folder: Path, number: int) -> Path:
    """WAV, 1 s, 16 kHz."""
    return _sound(folder / f"{number}.wav", 16_000, 1.0, number)


def audio(folder: Path, number: int) -> Path:
    """Ogg Vorbis, 5 s, 44.1 kHz: it is resampled to 32 kHz."""
    return _sound(folder / f"{number}.ogg", 44_100, 5.0, number)


def ecg(folder: Path, number: int) -> Path:
    """WFDB format 16, 12 leads, 10 s, 500 Hz: it is resampled to 250 Hz."""
    import wfdb

    from multimodal.modalities.ecg import LEADS

    signal = np.random.default_rng(number).normal(0, 0.3, (5000, 12)).cumsum(axis=0) * 0.02
    wfdb.wrsamp(
        f"r{number}",
        fs=500,
        units=["mV"] * 12,
        sig_name=list(LEADS),
        p_signal=signal,
        fmt=["16"] * 12,
        write_dir=str(folder),
    )
    return folder / f"r{number}.dat"


def xray(folder: Path, number: int) -> Path:
    """JPEG, 512 x 512, grey."""
    from PIL import Image

    path = folder / f"{number}.jpg"
    coarse = np.random.default_rng(number).integers(0, 255, (32, 32), np.uint8)
    Image.fromarray(coarse).resize((512, 512)).save(path, quality=90)
    return path


def video(folder: Path, number: int) -> Path:
    """MPEG-4 in MP4, 64 frames of 128 x 128, 25 a second."""
    import av

    path = folder / f"{number}.mp4"
    coarse = np.random.default_rng(number).integers(0, 255, (16, 16, 3), np.uint8)
    picture = coarse.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 128
        stream.pix_fmt = "yuv420p"
        for i in range(64):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 2 * i, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _sound(path: Path, rate: int, seconds: float, number: int) -> Path:
    import soundfile

    noise = np.random.default_rng(number).normal(0, 0.1, int(rate * seconds))
    soundfile.write(path, noise, rate)
    return path


WRITERS: dict[str, Callable[[Path, int], Path]] = {
    "speech": speech,
    "audio": audio,
    "ecg": ecg,
    "xray": xray,
    "video": video,
}
