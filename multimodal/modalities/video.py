"""Video: any file that PyAV opens -> (F, 3, size, size) uint8, frames chosen by their times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from multimodal.errors import UserError
from multimodal.modalities import MODALITIES
from multimodal.modalities.augment import VideoAugmentConfig
from multimodal.modalities.budget import most_bytes, within_memory, words
from multimodal.modalities.video_frames import VideoFrames
from multimodal.modalities.video_reader import Shown, opened, shown
from multimodal.recordings import Recording
from multimodal.registry import Config

if TYPE_CHECKING:
    from av.video.reformatter import VideoReformatter

LARGEST_RATIO = 16
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
        return f"video/2 frames={c.frames} size={c.size} {c.sampling} fps={c.fps!r} {c.fit}"

    @within_memory
    def load(self, recording: Recording) -> Tensor:
        """Decode, keep F frames of the recording's part, resize.

        A part that reaches past the end of the clip ends there, and one before its first picture
        begins with that; the recording's start counts from where a player begins. Decoding always
        begins at the file's start. Of several video streams the first one of moving pictures is
        read. Display matrices (telephones) are applied; pixels count as square. An array from
        ``recording.make`` must be (F', 3, H, W) uint8 at ``config.fps``; any F', H, W >= 1.
        UserError: missing, empty, truncated or damaged file, no video in it, no frame in the
        part, sides of a ratio over 16, a part that takes more than ``budget.most_bytes`` resized.
        """
        read = self._made if recording.make is not None else self._read
        times, end, frames = read(recording)
        start = recording.start
        stop = end if recording.duration is None else min(end, start + recording.duration)
        begin = max([start, *times[:1]])  # sound may begin before pictures
        if not (len(times) and 0 <= start <= begin < stop):
            raise UserError(
                f"{recording.where}: no frame lies in the part start={start:g}, "
                f"duration={recording.duration} of a clip of {end:.3f} s; correct these two."
            )
        targets = begin + self._targets(stop - begin)
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
        times, frames, end = list[float](), list[np.ndarray](), 0.0
        with opened(recording) as (container, stream):
            from av.video.reformatter import VideoReformatter

            reformatter = VideoReformatter()  # one a clip: making one costs more than a frame
            for frame in shown(container, stream, recording.where):
                end = frame.time + frame.step
                if frame.time >= stop:
                    continue
                if frame.time <= recording.start:
                    times, frames = [], []
                times.append(frame.time)
                # Kept until the clip's end, and with it the choice of frames, is known.
                frames.append(self._shrunk(frame, reformatter, recording.where))
                if len(frames) * frames[-1].nbytes > most_bytes():
                    raise UserError(
                        f"{recording.where}: over {len(frames)} frames of {self.config.size} "
                        f"pixels do not fit in {words()}; give the recording a start and a "
                        "duration, or raise the limit."
                    )
        return np.array(times), end, frames

    def _shrunk(self, shown: Shown, reformatter: VideoReformatter, where: str) -> np.ndarray:
        """(3, size, size) uint8."""
        height, width = self._scaled(shown.frame.height, shown.frame.width, where)
        scaled = reformatter.reformat(
            shown.frame, width, height, format="rgb24", interpolation="BILINEAR", threads=1
        )
        return self._fitted(shown.turned(scaled.to_ndarray()).transpose(2, 0, 1))

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
