"""MPEG audio (MP3): its frames are counted, because headers estimate the length or state none.

mpg123, which libsndfile decodes with, estimates a length from the file's size unless a Xing header
states one, and libsndfile stops there: too early where the bit rate varies.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from multimodal.errors import UserError
from multimodal.modalities.sound.tags import tag_length, without_tail

_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
# kbit/s for the indices 1 to 14, by (is it MPEG 1, layer).
_BITS = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_BITS[False, 3] = _BITS[False, 2]
# The smallest of the tags that mpg123 passes over without a word.
_TAG = b"TAG" + bytes(125)


class Frame(NamedTuple):
    """length: bytes. samples: of each channel. kind: what all frames of a stream share.

    info: where a Xing header would stand in the frame.
    """

    length: int
    samples: int
    kind: tuple[int, int, int, bool]
    info: int


class Mp3Stream(NamedTuple):
    """content: with a header that states the number of frames, so that the decoder announces the
    true length (less the encoder's delay and padding), or with tags behind it that raise the
    decoder's estimate above the true length. samples: that length; None: what is announced."""

    content: bytes
    samples: int | None


@lru_cache(maxsize=4096)
def _frame(head: bytes) -> Frame | None:
    """What the four bytes say, None if they begin no frame."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    bits, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    hertz, first = _RATES[version][rate], version == 3
    speed, padding = 1000 * _BITS[first, layer][bits - 1], head[2] >> 1 & 1
    samples = {1: 384, 2: 1152, 3: 1152 if first else 576}[layer]
    if layer == 1:
        length = (12 * speed // hertz + padding) * 4
    else:
        length = samples // 8 * speed // hertz + padding
    mono = head[3] >> 6 == 3
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return Frame(length, samples, (version, layer, hertz, mono), 4 + side)


def is_mp3(data: bytes) -> bool:
    """Whether two frames of one kind follow one another after the tags, if any."""
    position = _after_tags(data, 0)
    first = _frame(data[position : position + 4])
    if first is None:
        return False
    position += first.length
    if position >= len(data):
        return True
    second = _frame(data[position : position + 4])
    return second is not None and second.kind == first.kind


def mp3_streams(data: bytes, where: str) -> list[Mp3Stream]:
    """One stream, or several that were written one after another, each with its own header."""
    found, runs = list[Mp3Stream](), list[tuple[int, int, Frame]]()
    position = 0
    while position < len(data):
        frame = _frame(data[position : position + 4])
        if frame is None:
            if runs and position == len(without_tail(data)):
                break
            after = _after_tags(data, position)
            hole = runs and not any(data[position : position + runs[-1][2].length])
            if after == position or (hole and after - position >= runs[-1][2].length):
                _refuse_junk(data, position, where)
            position = after
            continue
        end = position + frame.length
        if end > len(data):
            raise UserError(
                f"{where}: truncated, {len(data) - position} of {frame.length} bytes of its last "
                "frame are there; copy the file again."
            )
        if not (runs or found) and data[0] == 0 and not _mark(data, position, frame):
            raise UserError(
                f"{where}: it begins with {position} zeros, which may have been a header or sound; "
                "copy it again or encode it again."
            )
        if runs and _mark(data, position, frame):
            found.append(_stream(data, runs, where))
            runs = []
        if runs and runs[0][2].kind != frame.kind:
            raise UserError(
                f"{where}: damaged, the frame at byte {position} has another rate, layer or number "
                "of channels than those before it; copy it again or encode it again."
            )
        runs.append((position, end, frame))
        position = end
    if not runs:
        raise UserError(f"{where}: damaged, truncated or not audio (no MPEG frame); replace it.")
    return [*found, _stream(data, runs, where)]


def _after_tags(data: bytes, position: int) -> int:
    while position < len(data) and (length := tag_length(data, position)):
        position += length
    return position


def _refuse_junk(data: bytes, position: int, where: str) -> None:
    rest = len(data) - position
    if rest < 4 and data[position] == 0xFF:
        raise UserError(f"{where}: truncated inside its last frame; copy the file again.")
    raise UserError(
        f"{where}: damaged, at byte {position} of {len(data)} stands neither an MPEG frame nor a "
        "tag; copy it again or encode it again."
    )


def _mark(data: bytes, position: int, frame: Frame) -> int:
    """Where the name of the header stands that a frame carries instead of sound; 0: it does not."""
    if frame.kind[1] != 3:
        return 0
    own = position + frame.info
    for at in (own, own + 2):  # two bytes of a checksum may stand before the side information
        if data[at : at + 4] in (b"Xing", b"Info"):
            return at
    return position + 36 if data[position + 36 : position + 40] == b"VBRI" else 0


def _stream(data: bytes, runs: list[tuple[int, int, Frame]], where: str) -> Mp3Stream:
    """The frames of ``runs``, with a true header or without any."""
    begin, end, first = runs[0]
    mark = _mark(data, begin, first)
    header, sound = b"", runs[1:] if mark else runs
    if not sound:
        raise UserError(f"{where}: the file holds no samples; remove or replace it.")
    if mark and data[mark : mark + 4] != b"VBRI" and data[mark + 7] & 1:
        stated = int.from_bytes(data[mark + 8 : mark + 12], "big")
        # Some encoders count the header's own frame; a frame that was lost looks the same.
        alike = stated == len(runs) and _size_stated(data, mark) in (None, runs[-1][1] - begin)
        if stated != len(sound) and not alike:
            raise UserError(
                f"{where}: truncated or damaged, its header announces {stated} frames but "
                f"{len(sound)} are there; copy the file again."
            )
        header = data[begin : mark + 8] + len(sound).to_bytes(4, "big") + data[mark + 12 : end]
    name = (mark or begin + first.info) + 120
    if data[name : name + 4] in (b"LAME", b"Lavf", b"Lavc") and not (
        mark and _agrees(data[begin:end], mark - begin)
    ):
        raise UserError(f"{where}: damaged in its first frame, the header; copy the file again.")
    content = header + b"".join(data[one:two] for one, two, _ in sound)
    if header:
        return Mp3Stream(content, None)
    missing = (len(sound) + 2) * max(frame.length for _, _, frame in sound) - len(content)
    return Mp3Stream(content + _TAG * max(0, missing // 128 + 1), len(sound) * first.samples)


def _size_stated(data: bytes, mark: int) -> int | None:
    """The bytes from the header's beginning on, if it states them."""
    at = mark + 12
    return int.from_bytes(data[at : at + 4], "big") if data[mark + 7] & 2 else None


def _agrees(frame: bytes, mark: int) -> bool:
    """Whether the checksum of the encoder's delay and padding is right, or was left out.

    LAME's covers the bytes before it; FFmpeg's always 190 bytes, those of it and those that a
    shorter frame lacks as zeros.
    """
    at = mark + 154
    stated, without = frame[at : at + 2], frame[:at] + bytes(2) + frame[at + 2 :]
    covered = (frame[:at], without[:190].ljust(190, b"\0"))
    sums = (_crc16(part).to_bytes(2, "big") for part in covered)
    return stated in (b"", b"\0\0", *sums)


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0xA001 if value & 1 else 0)
    return value
