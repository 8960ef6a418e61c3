"""Videos that the tests of the video adapter write, and how they read them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from multimodal.errors import UserError
from multimodal.modalities.video import VideoConfig
from multimodal.recordings import Recording

av = pytest.importorskip("av")
TICK = 1000  # time stamps a second of the files that the tests write


def write(path: Path, greys: list[int], **options) -> Path:
    """A video whose frame k is uniformly of grey level greys[k]."""
    width, height = options.pop("size", (64, 48))
    images = [np.full((height, width, 3), grey, np.uint8) for grey in greys]
    return write_images(path, images, **options)


def write_images(
    path: Path,
    images: list[np.ndarray],
    *,
    times: list[int] | None = None,
    codec: str = "mpeg4",
    rate: int = 10,
    options: dict[str, str] | None = None,
    encoder: dict[str, str] | None = None,
    b_frames: int | None = 0,
) -> Path:
    """Frames (H, W, 3); times: in 1 / TICK s, for containers that can hold them.

    options: of the container. encoder: of the codec. b_frames: None leaves them to the codec.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=encoder or {})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        if b_frames is not None:
            stream.codec_context.max_b_frames = b_frames
        if codec == "mpeg4":
            stream.bit_rate = 4_000_000
        if times is not None:
            stream.codec_context.time_base = Fraction(1, TICK)
        for k, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[k], Fraction(1, TICK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def greys_of(path: Path, config: VideoConfig | None = None, **fields) -> list[int]:
    """Mean grey level of each loaded frame."""
    return load(path, config, **fields).float().mean((1, 2, 3)).round().int().tolist()


def load(path: Path, config: VideoConfig | None = None, **fields) -> torch.Tensor:
    recording = Recording(path.name, (0,), "train", path=path, **fields)
    return (config or VideoConfig()).build().load(recording)


def made(array: np.ndarray, config: VideoConfig | None = None, **fields) -> torch.Tensor:
    recording = Recording("clip", (0,), "train", make=lambda: array, **fields)
    return (config or VideoConfig()).build().load(recording)


def refused(path: Path, **fields) -> str:
    with pytest.raises(UserError) as caught:
        load(path, **fields)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def assert_near(found: list[int], expected: list[int]) -> None:
    np.testing.assert_allclose(found, expected, atol=4)
