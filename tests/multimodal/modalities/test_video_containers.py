"""What containers say of their pictures: when they begin, how they lie, which stream is meant."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from multimodal.modalities.video import VideoConfig
from tests.multimodal.modalities.video_files import (
    TICK,
    assert_near,
    greys_of,
    load,
    refused,
    write,
    write_images,
)

av = pytest.importorskip("av")
GREYS = [20 * k + 20 for k in range(10)]
LATE = [3000 + 100 * k for k in range(10)]
TEN = VideoConfig(frames=10)


def write_with_sound(path: Path, greys: list[int], codec: str, first: int) -> Path:
    """Sound from 0 on, pictures from ``first`` thousandths of a second on, 10 a second."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=10)
        video.height, video.width, video.pix_fmt = 48, 64, "yuv420p"
        video.codec_context.max_b_frames = 0
        video.codec_context.time_base = Fraction(1, TICK)
        sound = container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48000)
        for k in range(60):
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            silence.sample_rate, silence.pts = 48000, 1024 * k
            silence.time_base = Fraction(1, 48000)
            container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
        for k, grey in enumerate(greys):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), format="rgb24")
            frame.pts, frame.time_base = first + 100 * k, Fraction(1, TICK)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return path


@pytest.mark.parametrize(
    ("ending", "codec"),
    [
        ("mkv", "libx264"),
        ("webm", "libvpx-vp9"),
        ("mp4", "libx264"),  # an edit list says so
        ("mov", "libx264"),
        ("ts", "libx264"),
        ("flv", "libx264"),
    ],
)
def test_pictures_that_begin_late(tmp_path: Path, ending: str, codec: str) -> None:
    alone = write(tmp_path / f"a.{ending}", GREYS, times=LATE, codec=codec)
    assert_near(greys_of(alone, TEN), GREYS)
    assert_near(greys_of(alone, VideoConfig(frames=2), start=0.35, duration=0.4), [100, 140])
    path = write_with_sound(tmp_path / f"b.{ending}", GREYS, codec, 3000)
    assert_near(greys_of(path, TEN), GREYS)
    # Times count from the first sound, as a player shows them.
    assert_near(greys_of(path, VideoConfig(frames=2), start=3.35, duration=0.4), [100, 140])
    assert "no frame lies in the part" in refused(path, start=0.0, duration=2.0)


@pytest.mark.parametrize("ending", ["mkv", "webm"])
def test_late_pictures_that_are_cut_short_are_refused(tmp_path: Path, ending: str) -> None:
    codec = "libx264" if ending == "mkv" else "libvpx-vp9"
    path = write(tmp_path / f"a.{ending}", GREYS, times=LATE, codec=codec)
    data = path.read_bytes()
    at = data.index(b"DURATION") + len(b"DURATION")
    clock = data.index(b"00:00:04", at)
    changed = data[:clock] + b"00:00:05" + data[clock + 8 :]
    path.write_bytes(changed)
    assert "announces 5.000 s but frames end at 4.000 s" in refused(path)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("ending", ["avi", "mp4", "mkv", "ts"])
def test_frames_stored_in_another_order(tmp_path: Path, ending: str, codec: str) -> None:
    path = write(tmp_path / f"a.{ending}", GREYS, codec=codec, encoder={"bf": "2"}, b_frames=2)
    assert_near(greys_of(path, TEN), GREYS)
    assert_near(greys_of(path, VideoConfig(frames=2), start=0.35, duration=0.4), [100, 140])


def test_an_edit_list_that_cuts_the_beginning(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.mp4", GREYS, codec="libx264", encoder={"g": "5"})
    path = tmp_path / "b.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                shift = round(0.3 / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = copy
                target.mux(packet)
    assert b"elst" in path.read_bytes()
    assert_near(greys_of(path, VideoConfig(frames=7)), GREYS[3:])


def test_two_recordings_one_after_another(tmp_path: Path) -> None:
    """Program streams may be joined by hand; the clock starts anew in the middle."""
    greys = [20 * k + 20 for k in range(12)]
    one = write(tmp_path / "a.mpg", greys, codec="mpeg2video", rate=24)
    path = tmp_path / "b.mpg"
    path.write_bytes(2 * one.read_bytes())
    assert_near(greys_of(path, VideoConfig(frames=24)), [*greys, *greys])


def test_files_without_time_stamps(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h264", GREYS, codec="libx264", rate=25)
    with pytest.warns(UserWarning, match="no time stamps"):
        assert_near(greys_of(path, TEN), GREYS)


def test_the_first_stream_of_moving_pictures_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=10) for _ in range(3)]
        for stream in streams:
            stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        streams[0].disposition = av.stream.Disposition.still_image
        for k in range(4):
            for stream, grey in zip(streams, (20, 120, 220), strict=True):
                image = np.full((48, 64, 3), grey, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts = k
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    expected = 20 if not _still(path) else 120
    assert_near(greys_of(path, VideoConfig(frames=2)), [expected] * 2)


def _still(path: Path) -> bool:
    """Whether this container keeps the mark of still pictures."""
    with av.open(str(path)) as container:
        return bool(container.streams.video[0].disposition & av.stream.Disposition.still_image)


MARKED = np.zeros((64, 64, 3), np.uint8)
MARKED[:16] = 255  # bright above,
MARKED[16:, :16] = 128  # grey at the left


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
@pytest.mark.parametrize(("ending", "codec"), [("mp4", "libx264"), ("webm", "libvpx-vp9")])
def test_display_matrices(tmp_path: Path, ending: str, codec: str, degrees: int, mirror) -> None:
    """The eight ways to hold a camera; the oracle is numpy's rot90 and flip."""
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        # Counter-clockwise, and mirrored after it.
        stream.set_display_rotation(degrees, hflip=mirror)
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(MARKED, format="rgb24")))
        container.mux(stream.encode(None))
    expected = np.rot90(MARKED, degrees // 90)
    expected = expected[:, ::-1] if mirror else expected
    small = expected[::2, ::2].transpose(2, 0, 1).astype(float)
    frame = load(path, VideoConfig(frames=1))[0].numpy()
    assert np.abs(frame - small).mean() < 6


@pytest.mark.parametrize(
    ("ending", "codec"), [("avi", "mpeg4"), ("mp4", "libx264"), ("mkv", "libx264")]
)
def test_titles_that_are_no_utf_8(tmp_path: Path, ending: str, codec: str) -> None:
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Gr__e"
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(4):
            image = np.full((48, 64, 3), 90, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    assert b"Gr__e" in data
    path.write_bytes(data.replace(b"Gr__e", "Größe".encode("latin-1")))
    assert_near(greys_of(path), [90] * 8)


def test_lengths_in_headers(tmp_path: Path) -> None:
    """AVI, ASF, FLV and GIF say where they end; one byte less is noticed."""
    for ending, codec in (("avi", "mpeg4"), ("wmv", "wmv2"), ("flv", "flv"), ("gif", "gif")):
        path = write(tmp_path / f"a.{ending}", GREYS, codec=codec)
        data = path.read_bytes()
        load(path)
        path.write_bytes(data[:-1])
        assert "truncated" in refused(path), ending
        path.write_bytes(data + b"\0" * 50)
        load(path)
    path = write(tmp_path / "b.avi", GREYS)
    data = bytearray(path.read_bytes())
    for unfinished in (0, 2**32 - 1):
        struct.pack_into("<I", data, 4, unfinished)
        path.write_bytes(bytes(data))
        load(path)


def test_matroska_of_open_ends_is_read(tmp_path: Path) -> None:
    """A live recording states no lengths."""
    images = [np.full((48, 64, 3), grey, np.uint8) for grey in GREYS]
    path = write_images(tmp_path / "a.mkv", images, codec="libx264", options={"live": "1"})
    assert_near(greys_of(path, TEN), GREYS)
