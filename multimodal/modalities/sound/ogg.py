"""Ogg (RFC 3533): every page is there and whole, and where one chained stream follows another.

Decoders leave out damaged and missing pages without a word, and libsndfile stops after the first
stream of several that follow one another.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from multimodal.errors import UserError
from multimodal.modalities.sound.tags import only_tags

_HEADER = struct.Struct("<4sBBqIIIB")
_FIRST, _LAST = 2, 4
# Ogg's CRC-32 is that of zlib with the bits of every byte, and of the result, turned round.
_TURNED = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))


class Page(NamedTuple):
    """begin, end: bytes of the file. serial: of the logical stream that it belongs to."""

    begin: int
    end: int
    flags: int
    serial: int
    number: int


def links(data: bytes, where: str) -> list[tuple[int, int]]:
    """Begin and end, in bytes, of each chained stream; UserError if anything is missing."""
    found, open_streams, in_heads = list[int](), dict[int, int](), False
    end = 0
    for page in _pages(data, where):
        if page.flags & _FIRST:
            if not in_heads:
                _refuse_unfinished(open_streams, where)
                found.append(page.begin)
            open_streams[page.serial] = page.number
        elif open_streams.get(page.serial, -2) + 1 != page.number:
            raise UserError(
                f"{where}: damaged, page {page.number} at byte {page.begin} does not follow the "
                "page before it in its stream; copy the file again."
            )
        open_streams[page.serial] = page.number
        if page.flags & _LAST:
            del open_streams[page.serial]
        in_heads, end = bool(page.flags & _FIRST), page.end
    _refuse_unfinished(open_streams, where)
    return list(zip(found, [*found[1:], end], strict=True))


def _pages(data: bytes, where: str) -> Iterator[Page]:
    position = 0
    while position < len(data):
        head = data[position : position + 27]
        if head[:4] != b"OggS":
            if position and only_tags(data[position:]):
                return
            raise UserError(
                f"{where}: damaged, no Ogg page at byte {position} of {len(data)}; copy the file "
                "again."
            )
        segments = data[position + 27 : position + 27 + head[26]] if len(head) == 27 else b""
        end = position + 27 + len(segments) + sum(segments)
        if len(head) < 27 or len(segments) < head[26] or end > len(data):
            raise UserError(f"{where}: truncated, its last page is not whole; copy the file again.")
        _, _, flags, _, serial, number, stated, _ = _HEADER.unpack(head)
        if _checksum(data[position:end]) != stated:
            raise UserError(
                f"{where}: damaged, the checksum of the page at byte {position} is wrong; copy the "
                "file again."
            )
        yield Page(position, end, flags, serial, number)
        position = end


def _checksum(page: bytes) -> int:
    plain = page[:22] + bytes(4) + page[26:]
    turned = zlib.crc32(plain.translate(_TURNED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(turned.to_bytes(4, "little").translate(_TURNED), "big")


def _refuse_unfinished(open_streams: dict[int, int], where: str) -> None:
    if open_streams:
        raise UserError(
            f"{where}: truncated, its end-of-stream page is missing; copy the file again."
        )
