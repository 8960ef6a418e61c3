"""What containers of video state about themselves: check sums, byte counts and durations."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from multimodal.errors import UserError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Only these containers state a duration in a header; elsewhere FFmpeg guesses it from the data.
STATED = {"mov", "avi", "matroska"}
CLOCK = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")  # Matroska: 00:00:02.000000000
EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
CRC32 = b"\xbf\x84"
UNFINISHED = (0, 0xFFFFFFFF)  # RIFF sizes of a recorder that was never stopped
ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
HEAD, CHUNK = 2**16, 2**20


def refuse_cut_off(path: Path, where: str) -> None:
    """UserError for a file that is shorter than it says, or one with a wrong check sum.

    Matroska and WebM: the Segment's length and, where the writer stored them (FFmpeg does in
    Matroska), the CRC-32 of the clusters. AVI, ASF and FLV: the length in the
    header. GIF: the mark at its end.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD)
        if head.startswith(EBML.to_bytes(4, "big")):
            file.seek(0)
            _check_matroska(file, size, where)
        elif head.startswith((b"GIF87a", b"GIF89a")):
            file.seek(0)
            if not _gif_ends(file):
                raise UserError(f"{where}: truncated, the GIF has no end; copy the file again.")
        elif (stated := _stated_bytes(head)) > size:
            raise _cut_off(where, stated, size)


def _cut_off(where: str, stated: int, size: int) -> UserError:
    return UserError(
        f"{where}: truncated, the file says that it has {stated:,} bytes and has {size:,}; copy "
        "it again."
    )


def _stated_bytes(head: bytes) -> int:
    """The length that the header of an AVI, ASF or FLV file states, else 0."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        (length,) = struct.unpack_from("<I", head, 4)
        return 0 if length in UNFINISHED else length + 8
    at = head.find(ASF_PROPERTIES) if head.startswith(ASF) else -1
    if 0 <= at <= len(head) - 48:
        return struct.unpack_from("<Q", head, at + 40)[0]
    at = head.find(b"filesize\0") if head.startswith(b"FLV") else -1
    if 0 <= at <= len(head) - 17:
        (length,) = struct.unpack_from(">d", head, at + 9)
        return int(length) if 0 < length < 2**53 else 0
    return 0


def _gif_ends(file: BinaryIO) -> bool:
    """Every block is there up to the trailer; what follows it does not count."""

    def colours(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    screen = file.read(13)
    if len(screen) < 13:
        return False
    file.seek(colours(screen[10]), 1)
    while (kind := file.read(1)) and kind != b";":
        if kind == b",":
            place = file.read(9)
            if len(place) < 9:
                return False
            file.seek(colours(place[8]), 1)
        file.seek(1, 1)  # the label of an extension, or the size of codes
        while (size := file.read(1)) and size != b"\0":
            file.seek(size[0], 1)
    return kind == b";"


def _check_matroska(file: BinaryIO, size: int, where: str) -> None:
    """What cannot be followed (a live recording's open ends) is left to the decoder."""
    header = _element(file)
    if header is None or header[1] is None:
        return
    file.seek(header[1], 1)
    segment = _element(file)
    if segment is None or segment[0] != SEGMENT or segment[1] is None:
        return
    end = file.tell() + segment[1]
    if end > size:
        raise _cut_off(where, end, size)
    while file.tell() < end:
        at, part = file.tell(), _element(file)
        if part is None:
            return
        name, length = part
        if length is None:
            return
        start = file.tell()
        if start + length > end:
            raise UserError(f"{where}: damaged, the part at byte {at:,} has no end; copy it again.")
        # Other parts may have been edited by hand (titles); pictures and times are in clusters.
        if name == CLUSTER and not _intact(file, length):
            raise UserError(
                f"{where}: damaged, wrong check sum (CRC-32) of the part at byte {at:,}; copy the "
                "file again."
            )
        file.seek(start + length)


def _element(file: BinaryIO) -> tuple[int, int | None] | None:
    """(id, length; None: not stated) of the EBML element that begins here; None: no element."""
    first = file.read(1)
    if not first or first[0] < 0x10:
        return None
    name = int.from_bytes(first + file.read(8 - first[0].bit_length()), "big")
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big") & ((1 << 7 * (more + 1)) - 1)
    return name, None if value == (1 << 7 * (more + 1)) - 1 else value


def _intact(file: BinaryIO, length: int) -> bool:
    """False if the element's first child is a CRC-32 that the rest does not have."""
    head = file.read(min(6, length))
    if len(head) < 6 or head[:2] != CRC32:
        return True
    found, left = 0, length - 6
    while left:
        data = file.read(min(CHUNK, left))
        if not data:
            return False
        found, left = zlib.crc32(data, found), left - len(data)
    return found == int.from_bytes(head[2:], "little")


def refuse_truncated(
    container: InputContainer,
    stream: VideoStream,
    first: float,
    end: float,
    step: float,
    where: str,
) -> None:
    """UserError if decoding ended over 1.5 frames (and 1 %) before the header's duration.

    first, end: of the decoded frames on the file's time line, seconds. MP4 states the length of
    what is shown, AVI the end; of Matroska's writers some state the one, some the other.
    """
    kind = container.format.name.split(",")[0]
    if kind not in STATED:
        return
    stated, reached = None, end - first
    if kind != "mov":
        reached = max(end, reached)
    if kind != "matroska" and stream.duration is not None and stream.time_base is not None:
        stated = float(stream.duration * stream.time_base)
    elif kind == "matroska":  # whose streams FFmpeg may give the duration of the whole file
        clock = CLOCK.fullmatch(stream.metadata.get("DURATION", ""))
        if clock is not None:
            hours, minutes, seconds = clock.groups()
            stated = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        elif len(container.streams) == 1 and container.duration is not None:
            stated = container.duration / 1e6
    if stated is not None and reached < stated - max(1.5 * step, 0.01 * stated):
        raise UserError(
            f"{where}: truncated, the header announces {stated:.3f} s but frames end at "
            f"{reached:.3f} s; copy the file again."
        )
