"""Tags that players put before, between and after the frames of MP3, AAC and FLAC."""

from __future__ import annotations

import re
import struct

_ZEROS = re.compile(rb"\0+")


def tag_length(data: bytes, position: int) -> int:
    """Bytes of the tag (ID3, APE, Lyrics3) or of the zeros at ``position``; 0: neither.

    May point past the end of ``data``: then the tag is cut.
    """
    head = data[position : position + 32]
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) < 0x80:
        size = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return size + (20 if head[5] & 0x10 else 10)
    if head[:3] == b"TAG":
        return 227 if head[:4] == b"TAG+" else 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        size = int.from_bytes(head[12:16], "little")
        return size + 32 if int.from_bytes(head[20:24], "little") & 0x2000_0000 else 32
    if head[:11] == b"LYRICSBEGIN":
        for end in (b"LYRICS200", b"LYRICSEND"):
            found = data.find(end, position)
            if found >= 0:
                return found + len(end) - position
    zeros = _ZEROS.match(data, position)
    return zeros.end() - position if zeros else 0


def only_tags(data: bytes) -> bool:
    """Whether these bytes, after the end of a signal, are tags or zeros and nothing else."""
    position = 0
    while position < len(data):
        length = tag_length(data, position)
        if not length:
            return False
        position += length
    return True


def without_tail(data: bytes) -> bytes:
    """Without ID3v1 and APE tags at the end; only there are APE tags found that have no header."""
    end = len(data)
    while True:
        length = 0
        if data[end - 128 : end - 125] == b"TAG":
            length = 227 if data[end - 227 : end - 223] == b"TAG+" else 128
        elif data[end - 32 : end - 24] == b"APETAGEX":
            size, _, flags = struct.unpack("<III", data[end - 20 : end - 8])
            length = size + (32 if flags & 0x8000_0000 else 0)
        if not 32 <= length <= end:
            return data[:end]
        end -= length
