"""FLAC: the number of samples that STREAMINFO states, and one stream after another."""

from __future__ import annotations

import re

from multimodal.errors import UserError
from multimodal.modalities.sound.tags import only_tags, without_tail

# The mark and the header of STREAMINFO, which is always first and 34 bytes long.
_BEGIN = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")

_RATES = dict(
    enumerate((88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000), 1)
)


def flac_streams(data: bytes, where: str) -> list[tuple[bytes, int]]:
    """Each stream with its length made unknown, and the length that it stated (0: it did not).

    So a decoder reads to the end instead of to where it was told to stop.
    """
    begins = [match.start() for match in _BEGIN.finditer(data)]
    if not begins or not only_tags(data[: begins[0]]):
        raise UserError(f"{where}: damaged, its FLAC header is not whole; copy the file again.")
    found = []
    for begin, end in zip(begins, [*begins[1:], len(data)], strict=True):
        stream = bytearray(data[begin:end])
        if len(stream) < 42:
            raise UserError(f"{where}: truncated in its FLAC header; copy the file again.")
        rate, stated = stated_length(stream)
        own = _rate_of_first_frame(stream)
        if own not in (None, rate):
            raise UserError(
                f"{where}: damaged, its header states {rate} Hz and its frames {own} Hz; copy the "
                "file again."
            )
        stream[21] &= 0xF0
        stream[22:26] = bytes(4)
        # A tag at the end, as some programs append it, a decoder takes for a damaged frame.
        found.append((without_tail(bytes(stream)), stated))
    return found


def stated_length(head: bytes | bytearray) -> tuple[int, int]:
    """Rate in Hz and samples of each channel, of the 42 bytes that a stream begins with."""
    rate = int.from_bytes(head[18:21], "big") >> 4
    return rate, int.from_bytes(head[21:26], "big") & 0xF_FFFF_FFFF


def _rate_of_first_frame(stream: bytes | bytearray) -> int | None:
    """Hz; None if the frame leaves it to STREAMINFO, or if no frame stands after the metadata."""
    position, last = 4, False
    while not last and position + 4 <= len(stream):
        last = stream[position] >= 0x80
        position += 4 + int.from_bytes(stream[position + 1 : position + 4], "big")
    frame = stream[position : position + 4]
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xFC != 0xF8:
        return None
    return _RATES.get(frame[2] & 0x0F)
