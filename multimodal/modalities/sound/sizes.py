"""Containers of uncompressed sound: the bytes of samples that they state, and those that are there.

libsndfile reads what it finds: a file that was cut short as a shorter, healthy one, one that states
too little as if the rest were not there, and one whose writer never filled in the size as empty.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from multimodal.errors import UserError
from multimodal.modalities.sound.tags import only_tags
from multimodal.modalities.sound.wav import (
    BESIDE,
    MOST_CHUNKS,
    PLACEHOLDER,
    UNCOMPRESSED,
    samples_end,
)

# Zeros after the last chunk, to the end of a disk's block; more may be silence that is not stated.
LARGEST_PADDING = 2**15


class Mend(NamedTuple):
    """position: of the size that the header leaves open. content: what belongs there."""

    position: int
    content: bytes


class Samples(NamedTuple):
    """begin: where they stand in the file. length: stated, in bytes; None: the header leaves it
    open. position, format: of the header's field, as ``struct`` packs it. last: nothing may follow,
    because libsndfile reads on to the end of such files."""

    begin: int
    length: int | None
    position: int = 0
    format: str = ""
    last: bool = False


class Layout(NamedTuple):
    """Of a container of chunks. header: of one, name and size. start: of the first. samples: names
    of the chunk that holds them. align: of the next chunk. whole: sizes count the header, too."""

    header: struct.Struct
    start: int
    samples: tuple[bytes, ...]
    align: int
    whole: bool = False


_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_LAYOUTS = {
    b"RIFF": Layout(struct.Struct("<4sI"), 12, (b"data",), 2),
    b"RIFX": Layout(struct.Struct(">4sI"), 12, (b"data",), 2),
    b"RF64": Layout(struct.Struct("<4sI"), 12, (b"data",), 2),
    b"FORM": Layout(struct.Struct(">4sI"), 12, (b"SSND", b"BODY"), 2),
    b"riff": Layout(struct.Struct("<16sQ"), 40, (_W64_DATA,), 8, whole=True),
    b"caff": Layout(struct.Struct(">4sq"), 8, (b"data",), 1),
}


def check_sizes(path: Path, where: str) -> Mend | None:
    """UserError if there are fewer, or more, bytes of samples than the file states.

    Returns what must be written into the header where it leaves the size open (libsndfile takes 0
    for an empty file and reads a block too many of others); None: nothing. Knows WAV, RF64, W64,
    AIFF, 8SVX, CAF, AU, NIST SPHERE, AVR and VOC; other files pass.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        layout = _LAYOUTS.get(magic)
        find = _FINDERS.get(magic, _in_chunks if layout else None)
        samples = find(file, magic, size, where) if find else None
        if samples is None:
            return None
        present = size - samples.begin
        mend = None
        if samples.format and 0 < present < PLACEHOLDER:
            last = samples_end(file, samples.begin, size, layout.header) if layout else size
            mend = Mend(samples.position, struct.pack(samples.format, last - samples.begin))
        if samples.length is None:
            return mend
        end = samples.begin + samples.length
        if end > size:
            raise UserError(
                f"{where}: truncated, {present} of {samples.length} bytes of samples are there; "
                "copy the file again."
            )
        if _rest_is_known(file, end, size, None if samples.last else layout):
            return None
        if samples.length == 0 and mend:
            return mend
    raise UserError(
        f"{where}: its header announces {samples.length} bytes of samples but {present} are there; "
        "correct the header or write the file again."
    )


def _chunks(
    file: BinaryIO, start: int, size: int, layout: Layout
) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and stated length of each chunk's content."""
    position = start
    for _ in range(MOST_CHUNKS):
        if position + layout.header.size > size:
            return
        file.seek(position)
        name, length = layout.header.unpack(file.read(layout.header.size))
        begin = position + layout.header.size
        length -= layout.header.size if layout.whole else 0
        yield name, begin, length
        if length < 0:
            return
        position = begin + length + -(begin + length) % layout.align


def _in_chunks(file: BinaryIO, magic: bytes, size: int, where: str) -> Samples | None:
    layout, large, stated = _LAYOUTS[magic], (0, 0), None
    for name, begin, length in _chunks(file, layout.start, size, layout):
        if name == b"ds64" and begin + 16 <= size:
            file.seek(begin + 8)
            large = (begin + 8, struct.unpack("<Q", file.read(8))[0])
        if name == b"COMM":
            stated = _aiff_bytes(file, begin)
        if name == b"fmt " and layout.header.size == 8:
            _refuse_contradiction(file, begin, layout.header.format[0], where)
        if name not in layout.samples:
            continue
        if magic == b"RF64" and length >= PLACEHOLDER:
            return Samples(begin, large[1], large[0], "<Q") if large[0] else None
        if length < 0:
            return Samples(begin, None)
        field = (begin - 4, layout.header.format[0] + "I") if layout.header.size == 8 else (0, "")
        if layout.header.size == 8 and length >= PLACEHOLDER:
            return Samples(begin, stated, *field)
        if stated is not None and length == stated + stated % 2:
            length = stated  # libsndfile counts the byte that makes it even
        if stated is not None and length not in (0, stated):
            raise UserError(
                f"{where}: its header announces {stated - 8} bytes of samples in one place and "
                f"{length - 8} in another; correct the header or write the file again."
            )
        own = magic == b"riff" or name == b"BODY"
        return Samples(begin, length or stated or 0, *field, last=own)
    return None


def _refuse_contradiction(file: BinaryIO, begin: int, order: str, where: str) -> None:
    """UserError if uncompressed samples of all channels do not make up what WAV calls a block."""
    file.seek(begin)
    content = file.read(16)
    if len(content) < 16:
        return
    kind, channels, rate, _, block, bits = struct.unpack(order + "HHIIHH", content)
    if kind in UNCOMPRESSED and block != channels * ((bits + 7) // 8):
        raise UserError(
            f"{where}: its header contradicts itself: {channels} channels of {bits} bits at {rate} "
            f"Hz are not {block} bytes a sample; correct the header or write the file again."
        )


def _aiff_bytes(file: BinaryIO, begin: int) -> int | None:
    """The length of SSND that COMM states; None if the sound may be compressed."""
    file.seek(8)
    kind = file.read(4)
    file.seek(begin)
    comm = file.read(8)
    if kind != b"AIFF" or len(comm) < 8:
        return None
    channels, frames, bits = struct.unpack(">HIH", comm)
    return 8 + frames * channels * ((bits + 7) // 8)


def _rest_is_known(file: BinaryIO, end: int, size: int, layout: Layout | None) -> bool:
    """Whether what follows the samples is other chunks, tags or padding; never more samples."""
    file.seek(end)
    if size - end < 8:
        return layout is not None or not any(file.read())
    if layout is None:
        return False
    starts = (end + -end % layout.align, end)
    return any(_are_chunks(file, start, size, layout) for start in starts)


def _are_tags(file: BinaryIO, start: int) -> bool:
    file.seek(start)
    rest = file.read(LARGEST_PADDING + 1)
    return only_tags(rest) and (len(rest) <= LARGEST_PADDING or not rest.startswith(b"\0"))


def _are_chunks(file: BinaryIO, start: int, size: int, layout: Layout) -> bool:
    end = start
    for name, begin, length in _chunks(file, start, size, layout):
        word = name[:4].decode("latin-1").strip(" \0")
        known = BESIDE.fullmatch(word) is not None
        if name in layout.samples or not (known or re.fullmatch(r"[ -~]{3,4}", word)):
            break
        if length < 0 or begin + length > size:
            return known
        end = begin + length
        end += -end % layout.align
    return end >= size or _are_tags(file, end)


def _in_au(file: BinaryIO, magic: bytes, size: int, where: str) -> Samples | None:
    order = ">" if magic == b".snd" else "<"
    field = file.read(8)
    if len(field) < 8:
        return None
    begin, length = struct.unpack(order + "II", field)
    return Samples(begin, None if length >= PLACEHOLDER else length, 8, order + "I")


def _in_nist(file: BinaryIO, magic: bytes, size: int, where: str) -> Samples | None:
    """NIST SPHERE: a header in words, its size on the second line."""
    head = magic + file.read(1020)
    if not head.startswith(b"NIST_1A\n") or not head[8:16].strip().isdigit():
        return None
    begin = int(head[8:16])
    head += file.read(max(0, begin - 1024))
    found = dict(re.findall(rb"\n(sample_count|sample_n_bytes|channel_count) -i (\d+)", head))
    if b"sample_count" not in found:
        return None
    count, width, channels = (
        int(found.get(key, b"1")) for key in (b"sample_count", b"sample_n_bytes", b"channel_count")
    )
    return Samples(begin, count * width * channels, last=True)


def _in_avr(file: BinaryIO, magic: bytes, size: int, where: str) -> Samples | None:
    """Audio Visual Research: 128 bytes of header."""
    head = magic + file.read(124)
    if len(head) < 128:
        return None
    stereo, bits = struct.unpack_from(">HH", head, 12)
    frames = struct.unpack_from(">I", head, 26)[0]
    return Samples(128, frames * (bits // 8) * (2 if stereo else 1), last=True)


def _in_voc(file: BinaryIO, magic: bytes, size: int, where: str) -> Samples | None:
    """Creative Voice: its first block of sound or silence; the end mark may follow."""
    file.seek(20)
    position = int.from_bytes(file.read(2), "little")
    while position + 4 <= size:
        file.seek(position)
        kind, length = file.read(1)[0], int.from_bytes(file.read(3), "little")
        if kind in (1, 2, 3, 9) or position + 4 + length > size:
            return Samples(position + 4, length, last=True)
        if kind == 0:
            return None
        position += 4 + length
    return None


_FINDERS = {
    b".snd": _in_au,
    b"dns.": _in_au,
    b"NIST": _in_nist,
    b"2BIT": _in_avr,
    b"Crea": _in_voc,
}
