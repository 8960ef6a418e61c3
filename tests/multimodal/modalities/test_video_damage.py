"""Files that are no whole video: every kind of damage is named."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from multimodal.errors import UserError
from tests.multimodal.modalities.video_files import (
    assert_near,
    greys_of,
    load,
    refused,
    write,
    write_images,
)

av = pytest.importorskip("av")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.mp4", b"", "empty file"),
        ("a.mp4", b"\0\1\2" * 400, "damaged, truncated or not a video"),
        ("a.mp4", b"version https://git-lfs.github.com/spec/v1\noid 1\n", "Git LFS pointer"),
        ("a.txt", b"hello world\n" * 50, "no video stream"),
    ],
)
def test_files_that_are_no_video(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert words in refused(tmp_path / name)


def test_missing_file_and_sound(tmp_path: Path) -> None:
    import soundfile

    assert "no such file" in refused(tmp_path / "none.mp4")
    assert "no such file" in refused(tmp_path)
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    assert "no video stream" in refused(tmp_path / "a.wav")


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", [50] * 3)
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    refused(path)


def test_odd_file_names(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.mp4", [90])
    for name in ("a:b.mp4", "#1 & [x]!.mp4", "%03d.mp4"):
        (tmp_path / name).write_bytes(plain.read_bytes())
        assert_near(greys_of(tmp_path / name), [90] * 8)


def test_a_file_without_frames(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.avi", [50] * 4)
    data = bytearray(whole.read_bytes())
    start, end = data.index(b"movi") + 4, data.index(b"idx1")
    data[start:end] = b""
    struct.pack_into("<I", data, start - 8, 4)
    del data[data.index(b"idx1") :]
    struct.pack_into("<I", data, 4, len(data) - 8)
    path = tmp_path / "none.avi"
    path.write_bytes(bytes(data))
    assert "no frames in the file" in refused(path)


@pytest.mark.parametrize(
    ("ending", "codec", "options"),
    [
        ("mp4", "mpeg4", {}),
        ("mp4", "libx264", {"movflags": "faststart"}),
        ("avi", "mpeg4", {}),
        ("mkv", "mpeg4", {}),
    ],
)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_truncated_files(tmp_path: Path, ending, codec, options, share: float) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(20)]
    path = write_images(tmp_path / f"a.{ending}", images, codec=codec, options=options)
    assert load(path).shape == (8, 3, 32, 32)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert "truncated" in refused(path)


def test_frames_missing_at_the_end_show_by_the_duration(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", [50] * 20)
    data = bytearray(path.read_bytes())
    at = data.index(b"strh") + 8 + 32  # dwLength of the stream header
    assert struct.unpack_from("<I", data, at)[0] == 20
    struct.pack_into("<I", data, at, 40)
    path.write_bytes(bytes(data))
    assert "announces 4.000 s but frames end at 2.000 s" in refused(path)


def test_without_pyav(tmp_path: Path, monkeypatch) -> None:
    path = write(tmp_path / "a.mp4", [50])
    for name in [n for n in sys.modules if n == "av" or n.startswith("av.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"install the extra 'video'"):
        load(path)
