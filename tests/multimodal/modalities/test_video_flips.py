"""Two changed bytes in a clip: how many changed pictures are accepted, counted for each codec.

What remains decodes as other legal pictures: no decoder that we have notices.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.modalities.video import VideoConfig
from multimodal.modalities.video_reader import STRICTER
from tests.multimodal.modalities.video_files import load, refused, write_images

av = pytest.importorskip("av")
FRAMES = 24
ALL = VideoConfig(frames=FRAMES, size=96, fit="pad")
# Of 60 clips, at most these are accepted with changed pictures. Measured with FFmpeg 8, clips and,
# after the stroke, pictures of 1,440; in brackets: by packets and lengths alone.
KINDS = {
    "libx264.mp4": 10,  # 8 / 112 (47 / 1,014)
    "libx264.mov": 11,  # 9 / 140 (48 / 1,026)
    "libx264.mkv": 0,  # 0 / 0 (45 / 956): FFmpeg writes check sums
    "mpeg4.avi": 4,  # 2 / 24 (59 / 729)
    "mpeg4.mp4": 4,  # 2 / 20 (60 / 754)
    "mpeg2video.mpg": 14,  # 12 / 166 (58 / 724), headers of packets among the bytes
    "libvpx-vp9.webm": 3,  # 1 / 23 (50 / 1,096)
    "libsvtav1.mp4": 3,  # 1 / 7 (1 / 7)
    "libvpx.webm": 53,  # 50 / 930 (56 / 1,058)
    "libx265.mp4": 39,  # 35 / 743 (43 / 905)
    "mjpeg.avi": 29,  # 25 / 36 (43 / 65)
}
OPTIONS = {"libx265": {"x265-params": "log-level=none"}}


def clip(seed: int) -> list[np.ndarray]:
    """Texture that moves, with noise: (72, 96, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(30, 225, (14, 18, 3))
    picture = np.kron(coarse, np.ones((8, 8, 1)))
    by, bx = rng.integers(0, 2, 2)
    images = []
    for k in range(FRAMES):
        view = picture[k * by // 2 :, k * bx // 2 :][:72, :96]
        images.append((view + rng.normal(0, 3, view.shape)).clip(0, 255).astype(np.uint8))
    return images


def make(folder: Path, kind: str, seed: int) -> Path:
    codec, ending = kind.split(".")
    path = folder / f"{seed}.{ending}"
    encoder = OPTIONS.get(codec, {})
    rate = 24 if ending == "mpg" else 12
    return write_images(path, clip(seed), codec=codec, rate=rate, encoder=encoder, b_frames=None)


def payload(path: Path) -> list[tuple[int, int]]:
    """(place, size) of every packet of the pictures."""
    with av.open(str(path)) as container:
        return [(p.pos, p.size) for p in container.demux(video=0) if p.size and p.pos is not None]


def flip_two(path: Path, target: Path, seed: int) -> Path:
    """Two bytes of the pictures' packets changed."""
    rng = np.random.default_rng(1000 + seed)
    places = np.concatenate([at + np.arange(size) for at, size in payload(path)])
    data = bytearray(path.read_bytes())
    for place in rng.choice(places, 2, replace=False):
        data[place] ^= int(rng.integers(1, 256))
    target.write_bytes(bytes(data))
    return target


def accepted(folder: Path, kind: str, clips: int) -> tuple[int, int]:
    """(damaged clips accepted with changed pictures, changed pictures in them)."""
    silent = pictures = 0
    for seed in range(clips):
        path = make(folder, kind, seed)
        whole = load(path, ALL)
        damaged = flip_two(path, folder / f"damaged{path.suffix}", seed)
        try:
            changed = (load(damaged, ALL) != whole).flatten(1).any(1).sum().item()
        except UserError:
            changed = 0
        silent += changed > 0
        pictures += int(changed)
    return silent, pictures


@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes_are_refused(tmp_path: Path, kind: str) -> None:
    expected = KINDS[kind] / 10
    assert accepted(tmp_path, kind, 6)[0] <= np.ceil(expected + np.sqrt(expected))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_flipped_bytes_of_sixty_clips(tmp_path: Path, kind: str) -> None:
    silent, pictures = accepted(tmp_path, kind, 60)
    print(f"{kind}: {silent} of 60 clips accepted with changes, {pictures} pictures")
    assert silent <= KINDS[kind]


def test_the_check_sums_of_hevc_are_heeded(tmp_path: Path) -> None:
    """An encoder may store an MD5 of every picture."""
    options = {"x265-params": "log-level=none:hash=1"}
    path = write_images(tmp_path / "a.mp4", clip(0), codec="libx265", encoder=options)
    assert load(path).shape == (8, 3, 32, 32)
    for seed in range(5):
        assert "damaged" in refused(flip_two(path, tmp_path / "b.mp4", seed))


def test_a_wrong_check_sum_is_named(tmp_path: Path) -> None:
    path = make(tmp_path, "libx264.mkv", 0)
    assert "wrong check sum (CRC-32)" in refused(flip_two(path, tmp_path / "b.mkv", 0))


@pytest.mark.parametrize("kind", ["libvpx.webm", "libvpx-vp9.webm"])
def test_stricter_decoders_give_the_same_pixels(tmp_path: Path, kind: str, monkeypatch) -> None:
    path = make(tmp_path, kind, 1)
    strict = load(path, ALL)
    for name in list(STRICTER):
        monkeypatch.delitem(STRICTER, name)
    np.testing.assert_array_equal(load(path, ALL), strict)
