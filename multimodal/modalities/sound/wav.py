"""Chunks of WAV: which of them stand beside the samples, and how many samples the file states."""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

# Writers that cannot seek back leave sizes near 2**31 or 2**32 in the header: length unknown.
PLACEHOLDER = 0x7FFF0000
# WAV's codes: PCM, float, A-law, mu-law, and the long form, of which libraries write only these.
UNCOMPRESSED = (1, 3, 6, 7, 0xFFFE)
# Chunks beside the samples; one that is cut costs no sample.
BESIDE = re.compile(
    "LIST|INFO|bext|cue|smpl|inst|fact|JUNK|junk|PAD|FLLR|iXML|axml|acid|PEAK|cart|_PMX|DISP|afsp|"
    "levl|minf|elm1|regn|umid|strc|id3|ID3|COMT|ANNO|NAME|AUTH|MARK|INST|MIDI|APPL|SAXL|info|strg|"
    "ovvw|peak|mark|uuid|free"
)
_AT_END = re.compile(rf"(?=((?:{BESIDE.pattern})[ \0]?))".encode())
# Such chunks are looked for in so many bytes; pictures of covers are smaller.
LARGEST_TAIL = 2**24


def samples_end(file: BinaryIO, begin: int, size: int, header: struct.Struct) -> int:
    """Where samples end whose length is not stated: before the chunks that end with the file."""
    start = max(begin, size - LARGEST_TAIL)
    file.seek(start)
    data = file.read(size - start)
    ends = {len(data)}
    for found in sorted((m.start() for m in _AT_END.finditer(data)), reverse=True):
        if (start + found) % 2 or found + header.size > len(data):
            continue
        name, length = header.unpack_from(data, found)
        stop = found + header.size + length
        whole = BESIDE.fullmatch(name.decode("latin-1").strip(" \0"))
        if whole and length and ends & {stop, stop + stop % 2}:
            ends.add(found)
    return start + min(ends)


def wav_frames(file: BinaryIO) -> int | None:
    """Samples of each channel that an uncompressed WAV states; None: it does not, or is none."""
    order = {b"RIFF": "<", b"RIFX": ">"}.get(file.read(4))
    block, position = 0, 12
    while order:
        file.seek(position)
        head = file.read(24)
        if len(head) < 8:
            break
        name, length = struct.unpack_from(order + "4sI", head)
        if name == b"fmt " and len(head) == 24:
            kind, *_, block, _ = struct.unpack_from(order + "HHIIHH", head, 8)
            block = block if kind in UNCOMPRESSED else 0
        if name == b"data":
            return length // block if block and 0 < length < PLACEHOLDER else None
        position += 8 + length + length % 2
    return None
