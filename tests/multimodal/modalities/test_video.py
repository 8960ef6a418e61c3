"""Decoding of video: frames by time, sizes, and every kind of damage named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.video import VideoConfig
from tests.multimodal.modalities.video_files import (
    TICK,
    assert_near,
    greys_of,
    load,
    made,
    refused,
    write,
    write_images,
)

av = pytest.importorskip("av")


def test_registered_and_adapter_attributes() -> None:
    config = MODALITIES.parse({"name": "video", "frames": 4})
    adapter = config.build()  # pyright: ignore[reportAttributeAccessIssue]
    assert (adapter.length_axis, adapter.channels, adapter.axes) == (0, 3, 3)
    assert adapter.dtype == torch.uint8
    assert adapter.describe("ApplyEyeMakeup")[0] == "apply eye makeup"
    assert adapter.describe("brush_hair")[0] == "brush hair"
    assert adapter.describe("YoYo")[1] == "A video of yo yo."
    assert adapter.describe("playing squash or racquetball")[0] == "playing squash or racquetball"


def test_every_field_changes_the_fingerprint() -> None:
    changes = [{}, {"frames": 4}, {"size": 64}, {"sampling": "dense"}, {"fps": 4.0}]
    changes.append({"fit": "pad"})
    prints = {VideoConfig.parse(fields).build().fingerprint for fields in changes}
    decoding = set(VideoConfig.model_fields) - {"augment"}
    assert len(prints) == len(changes) == len(decoding) + 1


@pytest.mark.parametrize(
    ("fields", "path"),
    [({"frames": 0}, "frames"), ({"size": 4}, "size"), ({"sampling": "all"}, "sampling")],
)
def test_config_refuses(fields: dict, path: str) -> None:
    with pytest.raises(ValidationError, match=path):
        VideoConfig.parse(fields)


@pytest.mark.parametrize(
    ("ending", "codec"),
    [("mp4", "mpeg4"), ("mp4", "libx264"), ("avi", "mpeg4"), ("mkv", "mpeg4"), ("gif", "gif")],
)
def test_uniform_sampling_takes_segment_centres(tmp_path: Path, ending: str, codec: str) -> None:
    path = write(tmp_path / f"a.{ending}", [20 * k + 20 for k in range(10)], codec=codec)
    clip = load(path, VideoConfig(frames=5))
    assert (clip.shape, clip.dtype) == ((5, 3, 32, 32), torch.uint8)
    # 1 s; centres 0.1 0.3 0.5 0.7 0.9 s lie on frames 1, 3, 5, 7, 9. GIF has 8 levels of red.
    found = clip.float().mean((1, 2, 3)).tolist()
    np.testing.assert_allclose(found, [40, 80, 120, 160, 200], atol=25 if ending == "gif" else 4)
    assert found == sorted(found)


@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.integers(20, 900), min_size=1, max_size=9), frames=st.integers(1, 9))
def test_variable_frame_rate_goes_by_time(steps: list[int], frames: int, tmp_path_factory) -> None:
    times = np.concatenate([[0], np.cumsum(steps)]).tolist()
    greys = [20 + 20 * k for k in range(len(times))]
    path = tmp_path_factory.mktemp("vfr") / "a.mkv"
    write(path, greys, times=times)
    # The last frame lasts as long as the file says; the oracle asks the file for it alone.
    with av.open(str(path)) as container:
        last = list(container.decode(video=0))[-1]
        if not last.duration:
            end = times[-1] + steps[-1]
        else:
            end = times[-1] + float(last.duration * last.time_base) * TICK
    expected = []
    for k in range(frames):
        target = (k + 0.5) * end / frames
        expected.append(max(g for g, t in zip(greys, times, strict=True) if t <= target + 1e-6))
    assert_near(greys_of(path, VideoConfig(frames=frames)), expected)


def test_dense_sampling_is_centred_and_loops_short_clips(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [20 * k + 20 for k in range(10)])
    dense = VideoConfig(frames=4, sampling="dense", fps=10.0)
    assert_near(greys_of(path, dense), [80, 100, 120, 140])  # frames 3 to 6 of 10
    looped = VideoConfig(frames=12, sampling="dense", fps=10.0)
    levels = [20 * k + 20 for k in range(10)]
    assert_near(greys_of(path, looped), [*levels, 20, 40])


def test_a_single_frame_is_repeated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [100])
    assert_near(greys_of(path), [100] * 8)
    assert_near(greys_of(path, VideoConfig(sampling="dense")), [100] * 8)


def test_part_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [20 * k + 20 for k in range(10)])
    config = VideoConfig(frames=2)
    assert_near(greys_of(path, config, start=0.35, duration=0.4), [100, 140])  # at 0.45, 0.65 s
    assert_near(greys_of(path, config, start=0.8, duration=9.0), [180, 200])
    assert_near(greys_of(path, config, start=0.92), [200, 200])
    for part in ({"start": 2.0}, {"start": -1.0}, {"duration": 0.0}):
        assert "no frame lies in the part" in refused(path, **part)


def halves(height: int, width: int) -> np.ndarray:
    """Black with a white band over the middle third of the width."""
    image = np.zeros((height, width, 3), np.uint8)
    image[:, width // 3 : 2 * width // 3] = 255
    return image


def test_crop_keeps_the_aspect_ratio_and_the_centre(tmp_path: Path) -> None:
    path = write_images(tmp_path / "a.mp4", [halves(48, 144)] * 3)
    frame = load(path, VideoConfig(frames=1))[0, 0].float()
    assert frame.min() > 200  # the middle square is the white band
    padded = load(path, VideoConfig(frames=1, fit="pad"))[0, 0].float()
    bright = (padded > 128).nonzero()
    assert bright.amin(0).tolist() == [10, 11]  # 144 x 48 -> 32 x 11 in rows 10 to 20
    assert bright.amax(0).tolist() == [20, 20]


@pytest.mark.parametrize("size", [(50, 34), (34, 50), (37, 21), (8, 8), (300, 20)])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int], fit) -> None:
    array = np.full((3, 3, size[1], size[0]), 200, np.uint8)
    clip = made(array, VideoConfig(fit=fit))
    assert clip.shape == (8, 3, 32, 32)
    assert clip[0].max() == 200
    share = 1 if fit == "crop" else min(size) / max(size)
    assert abs(float((clip[0, 0] > 0).float().mean()) - share) <= 1 / 32 + 1e-6
    if min(size) % 2 == 0:
        path = write(tmp_path / "a.avi", [200, 200], size=size)
        from_file = load(path, VideoConfig(fit=fit))
        np.testing.assert_allclose(from_file.numpy(), clip.numpy(), atol=4)


def test_extreme_ratio_is_refused() -> None:
    with pytest.raises(UserError, match=r"clip: 330 x 20 pixels; sides of a ratio over 16"):
        made(np.zeros((1, 3, 20, 330), np.uint8))


def test_rotation_mark_is_applied(tmp_path: Path) -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:16] = 255  # bright at the top
    path = write_images(tmp_path / "a.mp4", [image] * 2)
    one, whole = struct.pack(">i", 1 << 16), struct.pack(">i", 1 << 30)
    zero, minus = struct.pack(">i", 0), struct.pack(">i", -(1 << 16))
    identity = one + zero * 3 + one + zero * 3 + whole
    data = path.read_bytes()
    track = data.index(b"tkhd")
    at = data.index(identity, track)
    # ISO 14496-12: x' = a x + c y, y' = b x + d y; (0, 1, -1, 0) turns the top to the right.
    turned = zero + one + zero + minus + zero * 4 + whole
    path.write_bytes(data[:at] + turned + data[at + len(turned) :])
    frame = load(path, VideoConfig(frames=1))[0, 0].float()
    assert frame[:, -6:].mean() > 200
    assert frame[:, :20].mean() < 30


def test_made_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (8, 3, 32, 32), dtype=np.uint8)
    np.testing.assert_array_equal(made(array).numpy(), array)
    np.testing.assert_array_equal(made(array, start=0.25, duration=0.5)[::2], array[2:6])
    np.testing.assert_array_equal(made(array[:3], VideoConfig(sampling="dense"))[3:6], array[:3])
    long = np.repeat(np.arange(24, dtype=np.uint8), 3 * 16).reshape(24, 3, 4, 4)
    assert made(long)[:, 0, 0, 0].tolist() == [1, 4, 7, 10, 13, 16, 19, 22]
    # Halving the size with an antialiased triangle: the inner pixels by its weights 1 3 3 1.
    large = rng.integers(0, 256, (1, 3, 64, 64), dtype=np.uint8)
    weights = np.array([1, 3, 3, 1]) / 8
    window = large[0, 0, 9:13, 19:23].astype(float)
    assert abs(int(made(large)[0, 0, 5, 10]) - weights @ window @ weights) <= 1.5


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((8, 3, 32, 32), np.float32),
        np.zeros((8, 1, 32, 32), np.uint8),
        np.zeros((0, 3, 32, 32), np.uint8),
        np.zeros((3, 32, 32), np.uint8),
    ],
)
def test_bad_made_arrays(array: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"clip: the made array has shape .* uint8"):
        made(array)


def test_front_end_against_numpy() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 4, 3, 5, 6), dtype=np.uint8)
    pixels[1, 2:] = 0  # padding
    pixels[2] = 77
    lengths, index = torch.tensor([4, 2, 4]), torch.arange(3)
    front_end = VideoConfig().build().front_end()
    values, frames = front_end(Batch(torch.from_numpy(pixels), lengths, index, index))
    expected = np.zeros((3, 3, 4, 5, 6))
    for row, steps in ((0, 4), (1, 2)):
        clip = pixels[row, :steps].transpose(1, 0, 2, 3) / 255
        centred = clip - clip.mean((1, 2, 3), keepdims=True)
        expected[row, :, :steps] = centred / centred.std()
    assert (values.dtype, tuple(values.shape)) == (torch.float32, (3, 3, 4, 5, 6))
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-4)
    assert frames.tolist() == [4, 2, 4]
    assert not list(front_end.parameters())


@pytest.mark.realdata
def test_real_clips(real_data: Path) -> None:
    files = sorted((real_data / "shape_actions" / "actions").rglob("*_1.mp4"))
    assert len(files) == 27
    for path in files:
        clip = load(path)
        assert clip.shape == (8, 3, 32, 32)
        assert clip.float().std() > 1
        movement = clip.int().amax(0) - clip.int().amin(0)
        assert movement.max() > 30
