"""Decoded frames of a video file with their times; what is damaged or cut short is refused.

Frame counts and rates in headers are unreliable and rates may vary, so only the time stamps of
decoded frames decide. Damage shows in what the container states (``video_containers``), in packets
that end early, and in the decoder's own marks; a changed byte that decodes as another legal picture
shows nowhere (much of MJPEG, HEVC and VP8, little of H.264, MPEG-4 and VP9).
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from multimodal.errors import UserError, how_to_install
from multimodal.modalities.budget import most_bytes, words
from multimodal.modalities.pyav_files import pyav_source
from multimodal.modalities.video_containers import refuse_cut_off, refuse_truncated
from multimodal.recordings import Recording

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream


# FFmpeg's own decoders of these read past the end of a damaged picture; the same pixels otherwise.
STRICTER = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# These patch what they cannot decode and mark such a frame; others must be told to raise. To be
# told, H.264 would also raise for odd notes beside intact pictures.
MARKING = {"h264", "mpeg1video", "mpeg2video", "mpeg4", "h263", "flv", "vc1"}
MARKING |= {"wmv1", "wmv2", "wmv3", "msmpeg4v1", "msmpeg4v2", "msmpeg4"}
Matrix = tuple[int, int, int, int]
LONGEST = 512  # budgets of all pictures together: 3 hours of 1080p at 25 a second
JUMP = 4  # frames back: another recording begins (joined files); less is a careless time stamp


@contextmanager
def opened(recording: Recording) -> Iterator[tuple[InputContainer, VideoStream]]:
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
    refuse_cut_off(path, where)
    try:
        # A playlist opens no network. Titles of old cameras are no UTF-8; nobody reads them here.
        with (
            pyav_source(path, where) as source,
            av.open(
                source, "r", options={"protocol_whitelist": "file"}, metadata_errors="replace"
            ) as container,
        ):
            stream = _video_stream(container, where)
            _refuse_huge(stream.width, stream.height, where)
            yield container, stream
    except FFmpegError as error:
        problem = f"damaged, truncated or not a video ({error.strerror or error})"
        raise UserError(f"{where}: {problem}; copy it again.") from error


def _video_stream(container: InputContainer, where: str) -> VideoStream:
    """The first one of moving pictures: no cover of a sound file, no preview."""
    from av.stream import Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    for stream in container.streams.video:
        # FFmpeg shows plain text as a film of a terminal, "tty".
        if container.format.name != "tty" and not stream.disposition & still:
            if stream.codec_context is None:
                raise UserError(f"{where}: no decoder for its kind of video; convert it to MP4.")
            return stream
    raise UserError(f"{where}: the file holds no video stream; replace it or remove it.")


def most_pixels() -> int:
    """Of one picture: a decoder holds some eight at a time, up to four bytes a pixel."""
    return most_bytes() // 32


def _refuse_huge(width: int, height: int, where: str) -> None:
    if width * height > most_pixels():
        raise UserError(
            f"{where}: {width} x {height} pixels; at most {most_pixels():,} are read within "
            f"{words()}. Raise the limit, reduce the film, or copy it again if it is damaged."
        )


class Shown(NamedTuple):
    """A frame, its time and duration in seconds, and its display matrix (a, b, c, d) if any."""

    time: float
    step: float
    frame: VideoFrame
    matrix: Matrix | None

    def turned(self, image: np.ndarray) -> np.ndarray:
        """(H, W, C) as a player shows it: telephones turn and mirror by the display matrix.

        ISO 14496-12: pixel (x, y) goes to (a x + c y, b x + d y). Only quarter turns are applied.
        """
        if self.matrix is None:
            return image
        a, b, c, d = self.matrix
        if abs(b) > abs(a):
            image, a, d = image.transpose(1, 0, 2), c, b
        return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def shown(container: InputContainer, stream: VideoStream, where: str) -> Iterator[Shown]:
    """Frames in order of display.

    Times never fall; 0 is where the file begins for a player, which is its first sound if the
    pictures begin later. UserError: no frame, damage, and a file that ends before it should.
    """
    usual = float(1 / stream.average_rate) if stream.average_rate else 1 / 25
    origin = max(0.0, (container.start_time or 0) / 1e6)
    first, last, shift, step, decoded = None, 0.0, 0.0, usual, 0
    for stamp, frame, matrix in _stamped(container, stream, usual, where):
        decoded += 3 * frame.width * frame.height
        if decoded > LONGEST * most_bytes():
            raise UserError(
                f"{where}: {decoded / 2**30:,.0f} GiB of pictures, {LONGEST} times {words()}; cut "
                "the film into pieces, or raise the limit."
            )
        if first is None:
            first = last = stamp
            origin = min(origin, stamp)
        if stamp + shift < last - JUMP * step:
            shift = last + step - stamp
        time = max(stamp + shift, last)
        step = time - last if time > last else usual
        if frame.duration and frame.time_base:
            step = float(frame.duration * frame.time_base)
        last = time
        yield Shown(time - origin, step, frame, matrix)
    if first is None:
        raise UserError(f"{where}: no frames in the file; remove or replace it.")
    refuse_truncated(container, stream, first, last + step, step, where)


def _stamped(
    container: InputContainer, stream: VideoStream, usual: float, where: str
) -> Iterator[tuple[float, VideoFrame, Matrix | None]]:
    """Intact frames in order of display, each with its time stamp in seconds.

    An AVI file has no time stamps but one slot a frame, so the k-th frame is shown in the k-th
    filled slot; FFmpeg's guess is wrong where frames are stored in another order.
    """
    slots = deque[float]()
    avi, number = container.format.name == "avi", 0
    for packet, frames, turn in _decoded(container, stream, where):
        if avi and packet.size and packet.dts is not None and packet.time_base:
            slots.append(float(packet.dts * packet.time_base))
        for frame in frames:
            stamp = slots.popleft() if slots else frame.time
            if stamp is None:
                warnings.warn("no time stamps: frame number / rate is used instead", stacklevel=2)
                stamp = number * usual
            number += 1
            if frame.is_corrupt:
                raise UserError(
                    f"{where}: damaged, the picture at {stamp:.3f} s cannot be restored; copy the "
                    "file again."
                )
            yield stamp, frame, _matrix(frame) or turn


def _decoded(
    container: InputContainer, stream: VideoStream, where: str
) -> Iterator[tuple[Packet, list[VideoFrame], Matrix | None]]:
    """Packets, the frames that each gives, and the display matrix where frames do not have it."""
    decoder, turn = _decoder(stream), None
    for number, packet in enumerate(container.demux(stream)):
        if packet.is_corrupt:
            raise UserError(f"{where}: truncated inside a frame; copy the file again.")
        if number == 0 and decoder is not stream.codec_context and packet.size:
            turn = next(map(_matrix, stream.codec_context.decode(packet)), None)
        # The last packet is empty: it asks for the frames that the decoder still holds.
        yield packet, decoder.decode(packet), turn


def _decoder(stream: VideoStream) -> VideoCodecContext:
    """That of the file, or one of the same pixels that notices more damage."""
    import av

    decoder = stream.codec_context
    if STRICTER.get(decoder.name) in av.codecs_available:
        decoder = av.VideoCodecContext.create(STRICTER[decoder.name], "r")
        assert isinstance(decoder, av.VideoCodecContext)
    options = {"max_pixels": str(most_pixels())}  # also where it grows on the way
    if decoder.name not in (*MARKING, *STRICTER.values()):
        options["err_detect"] = "crccheck+explode"
    decoder.options = options
    decoder.thread_count = 1  # the callers' threads share the cores
    return decoder


def _matrix(frame: VideoFrame) -> Matrix | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    a, b, _, c, d = np.frombuffer(data, dtype=np.int32)[:5].tolist()
    return a, b, c, d
