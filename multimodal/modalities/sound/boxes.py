"""MP4 and Matroska: whether the outermost boxes are as long as they state.

FFmpeg reads a Matroska file that was cut as a shorter one.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from multimodal.errors import UserError

_MP4 = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def refuse_cut_boxes(path: Path, where: str) -> None:
    """UserError if the file ends inside a box; files of other formats pass."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        if head[4:8] in _MP4:
            end = _mp4_end(file, size)
        elif head[:4] == _EBML:
            end = _matroska_end(file)
        else:
            return
    if end > size:
        raise UserError(
            f"{where}: truncated, {size} of {end} bytes are there; copy the file again."
        )


def _mp4_end(file: BinaryIO, size: int) -> int:
    position = 0
    while position + 8 <= size:
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8 or not name.isalnum():  # 0: to the end of the file; else no box
            return position
        position += length
    return position


def _matroska_end(file: BinaryIO) -> int:
    """The end of the first segment; 0 where it was written without knowing it (live)."""
    file.seek(4)
    length = _number(file)
    if length is None:
        return 0
    file.seek(length, 1)
    if file.read(4) != _SEGMENT:
        return 0
    length = _number(file)
    return 0 if length is None else file.tell() + length


def _number(file: BinaryIO) -> int | None:
    """A number of EBML, whose first byte tells its width; None: unknown, or no number."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else value
