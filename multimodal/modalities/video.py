"""Video: any file that PyAV opens -> (F, 3, size, size) uint8, frames chosen by presentation time.

Frame counts and rates in headers are unreliable and rates may vary, so only the time stamps of
decoded frames decide. A file that ends earlier than its header says is refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from multimodal.errors import UserError, how_to_install
from multimodal.modalities import MODALITIES
from multimodal.modalities.augment import VideoAugmentConfig
from multimodal.modalities.video_frames import VideoFrames
from multimodal.recordings import Recording
from multimodal.registry import Config

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

# Shrunk frames are kept until the clip's end, and with it the choice of frames, is known.
MOST_BYTES = 2**30
LARGEST_RATIO = 16
# Only these containers state a duration in a header; elsewhere FFmpeg guesses it from the data.
STATED = {"mov", "avi", "matroska"}
WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\sA-Z_]+")


@MODALITIES.register("video")
class VideoConfig(Config):
    """Clips of a fixed number of square frames.

    frames: F, 1 to 256. size: height and width in pixels, 8 to 512.
    sampling: ``uniform`` cuts the clip into F equal segments and shows the middle of each;
    ``dense`` shows ``fps`` frames a second from the middle of the clip, and plays a clip shorter
    than F / fps seconds in a loop. In both, a target time shows the last frame whose presentation
    time is not later, so a clip of fewer than F frames repeats some.
    fps: of dense sampling, and the rate of arrays that ``Recording.make`` returns; (0, 240].
    fit: the aspect ratio is kept either way; ``crop`` scales the shorter side to ``size`` and cuts
    out the centre, ``pad`` scales the longer side to ``size`` and adds black borders.
    augment: random changes of training batches; None: no changes. Frames are never reversed, nor
    flipped unless ``augment.flip`` asks for it, because many classes are directions.
    """

    frames: int = Field(default=8, ge=1, le=256)
    size: int = Field(default=32, ge=8, le=512)
    sampling: Literal["uniform", "dense"] = "uniform"
    fps: float = Field(default=8.0, gt=0, le=240, allow_inf_nan=False)
    fit: Literal["crop", "pad"] = "crop"
    augment: VideoAugmentConfig | None = None

    @model_validator(mode="after")
    def _shift_within_size(self) -> Self:
        if self.augment is not None and self.augment.shift >= self.size:
            raise ValueError(
                f"augment.shift={self.augment.shift} can move all of a frame of size={self.size} "
                "pixels out of sight; use less"
            )
        return self

    def build(self) -> VideoAdapter:
        return VideoAdapter(self)


@dataclass(frozen=True)
class VideoAdapter:
    """Adapter of video: canonical signal (F, 3, size, size) uint8, RGB.

    ``load`` may be called from several threads.
    """

    config: VideoConfig
    length_axis = 0
    channels = 3
    axes = 3
    dtype = torch.uint8

    @property
    def fingerprint(self) -> str:
        c = self.config
        return f"video/1 frames={c.frames} size={c.size} {c.sampling} fps={c.fps!r} {c.fit}"

    def load(self, recording: Recording) -> Tensor:
        """Decode, keep F frames of the recording's part, resize.

        A part that reaches past the end of the clip ends there. Decoding always begins at the
        file's start. Rotation marks (telephones) are applied; pixels count as square. An array
        from ``recording.make`` must be (F', 3, H, W) uint8 at ``config.fps``; any F', H, W >= 1.
        UserError: missing, empty, truncated or damaged file, no video in it, no frame in the
        part, sides of a ratio over 16, a part too long to hold in memory (1 GiB once resized).
        """
        read = self._made if recording.make is not None else self._read
        times, end, frames = read(recording)
        start = recording.start
        stop = end if recording.duration is None else min(end, start + recording.duration)
        if not 0 <= start < stop:
            raise UserError(
                f"{recording.where}: no frame lies in the part start={start:g}, "
                f"duration={recording.duration} of a clip of {end:.3f} s; correct these two."
            )
        targets = start + self._targets(stop - start)
        # Less than a nanosecond: a target on a frame's own time must not miss it by rounding.
        chosen = np.searchsorted(times, targets + 1e-9, side="right") - 1
        return torch.from_numpy(np.stack([frames[i] for i in np.maximum(chosen, 0)]))

    def front_end(self) -> nn.Module:
        """``VideoFrames``: Batch -> Features (N, 3, F, size, size)."""
        return VideoFrames()

    def augment(self) -> nn.Module | None:
        """``VideoAugment``: Batch -> Batch, or None."""
        return None if self.config.augment is None else self.config.augment.build()

    def describe(self, class_name: str) -> list[str]:
        """The bare words first, as captions have them: "HighJump" -> "high jump"."""
        words = " ".join(WORDS.findall(class_name)).lower()
        return [words, f"A video of {words}.", f"This clip shows {words}."]

    def _targets(self, seconds: float) -> np.ndarray:
        """(F,) times in seconds from the start of a part of that length."""
        c = self.config
        centres = np.arange(c.frames) + 0.5
        if c.sampling == "uniform":
            return centres * seconds / c.frames
        # A looped clip starts at its beginning, a longer one is cut out of the middle.
        return (max(0.0, (seconds - c.frames / c.fps) / 2) + centres / c.fps) % seconds

    def _made(self, recording: Recording) -> tuple[np.ndarray, float, list[np.ndarray]]:
        """As ``_read``, from ``recording.make``."""
        assert recording.make is not None
        array = np.asarray(recording.make())
        if array.ndim != 4 or array.shape[1] != 3 or 0 in array.shape or array.dtype != np.uint8:
            raise UserError(
                f"{recording.where}: the made array has shape {array.shape} and type "
                f"{array.dtype}; video is (F, 3, H, W) uint8, F, H, W >= 1."
            )
        size = self._scaled(array.shape[2], array.shape[3], recording.where)
        if size != array.shape[2:]:
            video = torch.from_numpy(array)
            array = nn.functional.interpolate(video, size, mode="bilinear", antialias=True).numpy()
        times = np.arange(len(array)) / self.config.fps
        return times, len(array) / self.config.fps, [self._fitted(frame) for frame in array]

    def _read(self, recording: Recording) -> tuple[np.ndarray, float, list[np.ndarray]]:
        """Presentation times from 0, the end of the last frame (seconds), fitted frames.

        Frames outside the recording's part are left out, but for the one on display at its start.
        """
        stop = np.inf if recording.duration is None else recording.start + recording.duration
        times, frames, end, step = list[float](), list[np.ndarray](), 0.0, 0.0
        with _opened(recording) as (container, stream):
            from av.video.reformatter import VideoReformatter

            reformatter = VideoReformatter()  # one a clip: making one costs more than a frame
            for time, step, frame in _timed(container, stream, recording.where):
                end = time + step
                if time >= stop:
                    continue
                if time <= recording.start:
                    times, frames = [], []
                times.append(time)
                frames.append(self._shrunk(frame, reformatter, recording.where))
                if len(frames) * frames[-1].nbytes > MOST_BYTES:
                    raise UserError(
                        f"{recording.where}: over {len(frames)} frames of {self.config.size} "
                        "pixels do not fit in 1 GiB; give the recording a start and a duration."
                    )
            if not step:
                raise UserError(f"{recording.where}: no frames in the file; remove or replace it.")
            _refuse_truncated(container, stream, end, step, recording.where)
        return np.array(times), end, frames

    def _shrunk(self, frame: VideoFrame, reformatter: VideoReformatter, where: str) -> np.ndarray:
        """(3, size, size) uint8."""
        height, width = self._scaled(frame.height, frame.width, where)
        scaled = reformatter.reformat(
            frame, width, height, format="rgb24", interpolation="BILINEAR", threads=1
        )
        turned = np.rot90(scaled.to_ndarray(), round(frame.rotation / 90))
        return self._fitted(turned.transpose(2, 0, 1))

    def _scaled(self, height: int, width: int, where: str) -> tuple[int, int]:
        """Height and width after scaling, before ``_fitted``."""
        short, long = min(height, width), max(height, width)
        if long > LARGEST_RATIO * short:
            raise UserError(
                f"{where}: {width} x {height} pixels; sides of a ratio over {LARGEST_RATIO} cannot "
                "be shown in a square; cut the clip to its centre."
            )
        scale = self.config.size / (short if self.config.fit == "crop" else long)
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        """(3, H, W) -> (3, size, size): the centre cut out, or black borders added."""
        size = self.config.size
        fitted = np.zeros((3, size, size), dtype=np.uint8)
        source, target = [slice(None)], [slice(None)]
        for side in image.shape[1:]:
            cut, border = max(0, side - size) // 2, max(0, size - side) // 2
            source.append(slice(cut, cut + size))
            target.append(slice(border, border + min(side, size)))
        fitted[tuple(target)] = image[tuple(source)]
        return fitted


@contextmanager
def _opened(recording: Recording) -> Iterator[tuple[InputContainer, VideoStream]]:
    """UserError without PyAV, and for whatever is wrong with the file, also while decoding it."""
    where, path = recording.where, recording.path
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise UserError(f"modality 'video' needs PyAV; {how_to_install('video')}.") from error
    if path is None or not path.is_file():
        raise UserError(f"{where}: no such file; correct the path or restore the file.")
    if path.stat().st_size == 0:
        raise UserError(f"{where}: empty file (0 bytes); copy it again or remove it.")
    with path.open("rb") as file:
        if file.read(23) == b"version https://git-lfs":
            raise UserError(f"{where}: a Git LFS pointer, not the data; run: git lfs pull")
    try:
        # The prefix keeps a colon in a name from meaning a protocol; a playlist opens no network.
        name = f"file:{path.absolute()}"
        with av.open(name, options={"protocol_whitelist": "file"}) as container:
            yield container, _video_stream(container, where)
    except FFmpegError as error:
        problem = f"damaged, truncated or not a video ({error.strerror or error})"
        raise UserError(f"{where}: {problem}; copy it again.") from error


def _video_stream(container: InputContainer, where: str) -> VideoStream:
    """The first one that is no cover picture of a sound file."""
    from av.stream import Disposition

    for stream in container.streams.video:
        # FFmpeg shows plain text as a film of a terminal, "tty".
        if container.format.name != "tty" and not stream.disposition & Disposition.attached_pic:
            stream.codec_context.thread_count = 1  # the callers' threads share the cores
            return stream
    raise UserError(f"{where}: the file holds no video stream; replace it or remove it.")


def _timed(
    container: InputContainer, stream: VideoStream, where: str
) -> Iterator[tuple[float, float, VideoFrame]]:
    """Frames in order, each with its presentation time (the first: 0) and duration in seconds."""
    usual = float(1 / stream.average_rate) if stream.average_rate else 1 / 25
    first, previous, number = None, None, 0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise UserError(f"{where}: truncated inside a frame; copy the file again.")
        for frame in packet.decode():
            time = frame.time
            if time is None:
                warnings.warn("no time stamps: frame number / rate is used instead", stacklevel=2)
                time = number * usual
            number += 1
            first = time if first is None else first
            step = usual if previous is None or time <= previous else time - previous
            if frame.duration and frame.time_base:
                step = float(frame.duration * frame.time_base)
            previous = time
            yield time - first, step, frame


def _refuse_truncated(
    container: InputContainer, stream: VideoStream, end: float, step: float, where: str
) -> None:
    """UserError if decoding ended over 1.5 frames (and 1 %) before the header's duration."""
    if container.format.name.split(",")[0] not in STATED:
        return
    stated = None
    if stream.duration is not None and stream.time_base is not None:
        stated = float(stream.duration * stream.time_base)
    elif "DURATION" in stream.metadata:  # Matroska: 00:00:02.000000000
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        stated = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    if stated is not None and end < stated - max(1.5 * step, 0.01 * stated):
        raise UserError(
            f"{where}: truncated, the header announces {stated:.3f} s but frames end at "
            f"{end:.3f} s; copy the file again."
        )
