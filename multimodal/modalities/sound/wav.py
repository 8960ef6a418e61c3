"""Chunks of WAV: which of them stand beside the samples, and how many samples the file states."""

from __future__ import annotations

import re
import struct
from typing import BinaryIO

# Writers that cannot seek back leave sizes near 2**31 or 2**32 in the header: length unknown.
PLACEHOLDER = 0x7FFF0000
# No file has so many; what was overwritten with a pattern may look so.
MOST_CHUNKS = 10_000
# WAV's codes: PCM, float, A-law, mu-law, and the long form, of which libraries write only these.
UNCOMPRESSED = (1, 3, 6, 7, 0xFFFE)
# And those of codecs that libsndfile decodes or refuses for what else is wrong in the header.
_KNOWN = {*UNCOMPRESSED, 0, 2, 0x11, 0x31, 0x40, 0x55}
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
    kind, block, length = _format(file)
    stated = kind in UNCOMPRESSED and block and 0 < length < PLACEHOLDER
    return length // block if stated else None


def has_another_codec(file: BinaryIO) -> bool:
    """Whether it is WAV with sound of a codec that libsndfile does not have (MP2, AC3, FLAC)."""
    return _format(file)[0] not in _KNOWN


def _format(file: BinaryIO) -> tuple[int, int, int]:
    """The code of the codec, bytes a block, bytes of samples; 0 where they are not stated."""
    order = {b"RIFF": "<", b"RIFX": ">"}.get(file.read(4))
    kind, block, position = 0, 0, 12
    for _ in range(MOST_CHUNKS if order else 0):
        file.seek(position)
        head = file.read(24)
        if len(head) < 8:
            break
        name, length = struct.unpack_from(f"{order}4sI", head)
        if name == b"fmt " and len(head) == 24:
            kind, *_, block, _ = struct.unpack_from(f"{order}HHIIHH", head, 8)
        if name == b"data":
            return kind, block, length
        position += 8 + length + length % 2
    return kind, block, 0
