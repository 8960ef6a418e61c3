"""Damaged containers, by seed: decoded, or refused in one line; no traceback, no hang."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.modalities.video import VideoConfig
from tests.multimodal.modalities.video_files import load, write_images

av = pytest.importorskip("av")
SMALL = VideoConfig(frames=4, size=16)
SECONDS = 20
HEAD = 1500  # bytes at either end that hold most of a container's fields
FIELDS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\1")
KINDS = {
    "mp4": ("libx264", {}),
    "mov": ("libx265", {}),
    "3gp": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "mkv": ("libx264", {}),
    "webm": ("libvpx-vp9", {}),
    "avi": ("mpeg4", {}),
    "mpg": ("mpeg2video", {}),
    "ts": ("libx264", {}),
    "flv": ("libx264", {}),
    "wmv": ("wmv2", {}),
    "gif": ("gif", {}),
}


def whole(folder: Path, ending: str) -> Path:
    codec, options = KINDS[ending]
    rng = np.random.default_rng(7)
    images = [rng.integers(0, 256, (6, 8, 3)).repeat(8, 0).repeat(8, 1) for _ in range(12)]
    images = [image.astype(np.uint8) for image in images]
    quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    rate = 24 if ending == "mpg" else 12
    return write_images(
        folder / f"whole.{ending}", images, codec=codec, rate=rate, options=options, encoder=quiet
    )


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Flips, a cut, a field of the header, zeros, bytes lost or doubled."""
    changed, size = bytearray(data), len(data)
    kind = rng.choice(["flip", "cut", "head", "field", "zeros", "lost", "doubled"])
    at = int(rng.integers(0, size))
    end = min(size, at + int(rng.integers(1, 400)))
    if kind == "flip":
        changed = bytearray(flipped(data, rng.integers(0, size, rng.integers(1, 12)), rng))
    elif kind == "head":
        changed = bytearray(flipped(data, rng.integers(0, min(size, HEAD), 3), rng))
    elif kind == "field":
        place = int(rng.integers(0, min(size, HEAD) - 4))
        place = place if rng.random() < 0.7 else size - 4 - place
        changed[place : place + 4] = FIELDS[rng.integers(len(FIELDS))]
    elif kind == "cut":
        del changed[at:]
    elif kind == "lost":
        del changed[at:end]
    elif kind == "zeros":
        changed[at:end] = bytes(end - at)
    else:
        changed[at:at] = changed[at:end]
    return bytes(changed)


def flipped(data: bytes, places: np.ndarray, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in places:
        changed[place] = int(rng.integers(256))
    return bytes(changed)


def outcomes(folder: Path, ending: str, mutations: int) -> Counter[str]:
    path = whole(folder, ending)
    data = path.read_bytes()
    assert load(path, SMALL).shape == (4, 3, 16, 16)
    damaged, counts = folder / f"damaged.{ending}", Counter[str]()
    for seed in range(mutations):
        damaged.write_bytes(mutated(data, np.random.default_rng(seed)))
        signal.alarm(SECONDS)
        try:
            assert load(damaged, SMALL).shape == (4, 3, 16, 16)
            counts["decoded"] += 1
        except UserError as error:
            message = str(error)
            named = message.startswith(f"{damaged}: ") and "\n" not in message
            counts["refused" if named else f"seed {seed}: {message}"] += 1
        finally:
            signal.alarm(0)
    return counts


@pytest.fixture(autouse=True)
def no_hangs():
    def hang(*_) -> None:
        raise AssertionError(f"over {SECONDS} s for a file of some kilobytes")

    before = signal.signal(signal.SIGALRM, hang)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.mark.filterwarnings("ignore:no time stamps")
@pytest.mark.parametrize("ending", KINDS)
def test_damaged_containers(tmp_path: Path, ending: str) -> None:
    counts = outcomes(tmp_path, ending, 25)
    assert counts["refused"] + counts["decoded"] == 25, counts
    assert counts["refused"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no time stamps")
@pytest.mark.parametrize("ending", KINDS)
def test_many_damaged_containers(tmp_path: Path, ending: str) -> None:
    counts = outcomes(tmp_path, ending, 1000)
    print(f"{ending}: {counts['refused']:,} refused, {counts['decoded']:,} decoded")
    assert counts["refused"] + counts["decoded"] == 1000, counts
