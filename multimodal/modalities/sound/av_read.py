"""Sound that PyAV decodes (AAC in MP4, WebM, WMA, of videos), on the file's time line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal.errors import UserError, how_to_install
from multimodal.modalities.pyav_files import pyav_source
from multimodal.modalities.sound.adts import adts_frames
from multimodal.modalities.sound.boxes import refuse_cut_boxes
from multimodal.modalities.sound.mp3 import mp3_streams
from multimodal.modalities.sound.part import Kept, Part

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer

# Containers round durations to their time base, codecs to whole frames (AAC: 1024 samples).
DURATION_TOLERANCE = 0.1
# 1,105 samples of MP3 at 8 kHz are 0.14 s.
LONGEST_DELAY = 0.2
# Less is a rounding of time stamps or what an encoder puts before the first sample.
SHORTEST_SILENCE = 0.01
# These state the duration of the whole file in a header, and time stamps that never start anew.
STATED = {"mov", "matroska", "avi", "flv"}
# In these a time stamp tells when the sound begins.
TIMED = STATED | {"asf", "mpegts", "mpeg"}
# In these FFmpeg guesses durations from the bit rate.
GUESSED = {"aac", "mp3", "ac3", "eac3", "dts", "amr", "mpeg", "mpegts", "loas", "gsm", "truehd"}


def read_with_pyav(path: Path, part: Part) -> tuple[np.ndarray, int]:
    """(T,) float32, T >= 1: the mean of the channels of the part; and the sound's rate in Hz.

    The stream that the file marks as its default, else the first. Where sound begins later than
    the file's first picture, by 10 ms or more, silence is put before it, so that ``start`` counts
    from the picture; what begins earlier is kept as it is. UserError: as ``read_sound`` has them,
    and without PyAV or without sound.
    """
    where = part.where
    try:
        import av
        from av.container import InputContainer
        from av.error import FFmpegError
    except ImportError as error:
        raise UserError(
            f"{where}: libsndfile does not know this format; if it is sound, PyAV may, or convert "
            f"it to WAV, FLAC, Ogg or MP3. For PyAV {how_to_install('video')}."
        ) from error
    try:
        # A playlist opens no network. Old cameras and programs write titles that are no UTF-8.
        with (
            pyav_source(path, where) as source,
            av.open(
                source, options={"protocol_whitelist": "file"}, metadata_errors="replace"
            ) as container,
        ):
            assert isinstance(container, InputContainer)
            stream = _stream(container, where)
            refuse_cut_boxes(path, where)
            kept = _decoded(container, stream, path, part)
    except (FFmpegError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{where}: damaged, truncated or not audio ({_reason(error)}); replace it or convert "
            "it to WAV, FLAC, Ogg or MP3."
        ) from error
    if kept is None:
        raise UserError(f"{where}: the file holds no samples; remove or replace it.")
    return kept.joined(), kept.rate


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).replace("\n", " ")


def _stream(container: InputContainer, where: str) -> AudioStream:
    from av.stream import Disposition

    streams = container.streams.audio
    if not streams:
        raise UserError(f"{where}: it has no sound, only other streams; remove it.")
    marked = [s for s in streams if s.disposition & Disposition.default]
    stream = (marked or streams)[0]
    if stream.codec_context is None:
        raise UserError(f"{where}: no decoder for its sound is here; convert it to WAV or FLAC.")
    stream.codec_context.thread_count = 1  # the callers' threads share the cores
    return stream


def _decoded(container: InputContainer, stream: AudioStream, path: Path, part: Part) -> Kept | None:
    """What of the stream lies in the part; None: the stream has no samples."""
    ends = Ends(container, stream, part.where)
    line, frames = None, 0
    for frame in ends.frames():
        if frame.is_corrupt:
            raise UserError(f"{part.where}: damaged, a frame of its sound; copy the file again.")
        line = line or _TimeLine(container, stream, frame, part)
        line.add(frame)
        frames += 1
        if line.kept.complete:
            return line.kept
    if line is None:
        return None
    line.finish()
    ends.refuse_truncated(line.seconds)
    if container.format.name in ("aac", "mp3"):
        data = path.read_bytes()
        if container.format.name == "mp3":
            mp3_streams(data, part.where)
        elif (stated := adts_frames(data, part.where)) != frames:
            raise UserError(
                f"{part.where}: damaged, {frames} of its {stated} frames could be decoded; copy "
                "the file again."
            )
    return line.kept


class _TimeLine:
    """Puts frames where the file's time line has them."""

    def __init__(
        self, container: InputContainer, stream: AudioStream, first: AudioFrame, part: Part
    ) -> None:
        import av

        self.kept, self.where = Kept(part, first.sample_rate), part.where
        self._to_float = av.AudioResampler(format="fltp")
        kind = container.format.name.split(",")[0]
        self._fills = stream.codec_context.name in ("opus", "libopus")  # sends nothing in pauses
        # AVI has no time stamps; FFmpeg guesses them from bytes, far off for many codecs.
        self._begin = first.time if kind in STATED - {"avi"} else None
        self._container, self._stretch = container, first.samples if kind == "mov" else 0
        self._count, late = 0, 0.0
        if kind in TIMED and first.time is not None:
            late = first.time - _origin(container)
        if late >= SHORTEST_SILENCE:
            self._refuse_implausible(container, late)
            self.kept.add_silence(round(late * self.kept.rate))

    @property
    def seconds(self) -> float:
        """Of sound so far, without the silence before it."""
        return self._count / self.kept.rate

    def add(self, frame: AudioFrame) -> None:
        if frame.sample_rate != self.kept.rate:
            raise UserError(
                f"{self.where}: its sound changes from {self.kept.rate} to {frame.sample_rate} Hz; "
                "split the file."
            )
        if self._begin is not None and frame.time is not None:
            self._bridge(frame.time - self._begin - self.seconds)
        self._put(self._to_float.resample(frame))

    def finish(self) -> None:
        self._put(self._to_float.resample(None))

    def _put(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            self._count += frame.samples
            self.kept.add(frame.to_ndarray().mean(axis=0, dtype=np.float32))

    def _bridge(self, gap: float) -> None:
        """Silence where a codec leaves pauses out; elsewhere nothing may be missing.

        MP4 in fragments has no edit list: its writers let the first frame last until sound begins.
        """
        if abs(gap) <= DURATION_TOLERANCE:
            return
        late = 0 < self._count <= self._stretch
        if late and gap > 0:
            self._refuse_implausible(self._container, gap)
        elif gap < 0 or not self._fills:
            raise UserError(
                f"{self.where}: damaged, its sound's time stamps jump by {gap:.2f} s after "
                f"{self.seconds:.2f} s; copy the file again or convert it to WAV or FLAC."
            )
        count = round(gap * self.kept.rate)
        self._count += count
        self.kept.part.refuse_long(count, self.kept.rate)
        self.kept.add_silence(count)

    def _refuse_implausible(self, container: InputContainer, late: float) -> None:
        whole = _seconds(container.duration, 1e-6)
        if whole is not None and late > whole + DURATION_TOLERANCE:
            raise UserError(
                f"{self.where}: damaged, its sound begins after {late:.2f} s of a file of "
                f"{whole:.2f} s; copy the file again."
            )
        self.kept.part.refuse_long(round(late * self.kept.rate), self.kept.rate)


def _seconds(count: int | None, base: Any) -> float | None:
    return None if count is None or base is None else float(count * base)


def _origin(container: InputContainer) -> float:
    """When the first picture is shown; never, if the file has only sound (and its cover)."""
    from av.stream import Disposition

    films = [v for v in container.streams.video if not v.disposition & Disposition.attached_pic]
    begins = [_seconds(s.start_time, s.time_base) for s in films]
    return min((b for b in begins if b is not None), default=float("inf"))


class Ends:
    """Decodes one stream and remembers where every stream of the file ended."""

    def __init__(self, container: InputContainer, stream: AudioStream, where: str) -> None:
        self._container, self._stream, self._where = container, stream, where
        self._kind = container.format.name.split(",")[0]
        self._last, self._steps = dict[int, float](), dict[int, float]()
        self._first = dict[int, float]()

    def frames(self) -> Iterator[AudioFrame]:
        import av

        for packet in self._container.demux():
            if packet.is_corrupt:
                raise UserError(f"{self._where}: truncated inside a frame; copy the file again.")
            self._note(packet)
            if packet.stream_index == self._stream.index:
                for frame in packet.decode():
                    assert isinstance(frame, av.AudioFrame)
                    yield frame

    def _note(self, packet: Any) -> None:
        time = _seconds(packet.pts, packet.time_base)
        if time is None:
            return
        index, step = packet.stream_index, _seconds(packet.duration, packet.time_base) or 0.0
        self._first.setdefault(index, time)
        before = self._last.get(index, time)
        self._steps[index] = step or abs(time - before)
        self._last[index] = max(before, time + step)

    def refuse_truncated(self, decoded: float) -> None:
        """UserError if less was decoded, or less is in the file, than a header announces."""
        stream, container = self._stream, self._container
        if self._kind not in GUESSED:
            # ASF counts from the file's beginning, and its codecs keep their last samples back.
            there = self._last.get(stream.index, 0.0) if self._kind == "asf" else decoded
            self._compare(_seconds(stream.duration, stream.time_base), there, DURATION_TOLERANCE)
        if self._kind not in STATED or not self._last:
            return
        # Packets need not state how long they are: then the last one ends where its sound does.
        own = max(self._last.get(stream.index, 0.0), self._first.get(stream.index, 0.0) + decoded)
        # Matroska's writers count the encoder's delay, which FFmpeg takes off the time stamps.
        delay = min(2.5 * self._steps.get(stream.index, 0.0), LONGEST_DELAY)
        tag = stream.metadata.get("DURATION")  # Matroska: 00:00:02.000000000
        if tag and tag.count(":") == 2:
            hours, minutes, seconds = tag.split(":")
            stated = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
            self._compare(stated, own, max(DURATION_TOLERANCE, delay))
        begin = _seconds(container.start_time, 1e-6) or 0.0
        index = max(self._last, key=lambda i: self._last[i])
        spare = max(DURATION_TOLERANCE, 1.5 * self._steps[index], delay)
        length = max(own, self._last[index], self._last[index] - begin)
        self._compare(_seconds(container.duration, 1e-6), length, spare)

    def _compare(self, stated: float | None, there: float, spare: float) -> None:
        if stated is not None and there < stated - spare:
            raise UserError(
                f"{self._where}: truncated, the header announces {stated:.2f} s but only "
                f"{there:.2f} s could be decoded; copy the file again."
            )
