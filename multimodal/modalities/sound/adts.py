"""AAC as a bare stream (ADTS): its frames are counted, for nothing states its length."""

from __future__ import annotations

from multimodal.errors import UserError
from multimodal.modalities.sound.tags import tag_length


def adts_frames(data: bytes, where: str) -> int:
    """Number of frames that must be decoded; UserError for a cut one and for anything between."""
    position, count, before = 0, 0, len(data)
    while position < len(data):
        head = data[position : position + 7]
        if len(head) == 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
            length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
            count, before = count + 1, length
            whole = length >= 7
        else:
            length = tag_length(data, position)
            whole = length > 0 and (length < before or any(data[position : position + before]))
        if not whole:
            raise UserError(
                f"{where}: damaged or truncated, at byte {position} of {len(data)} stands neither "
                "an AAC frame nor a tag; copy it again or encode it again."
            )
        if position + length > len(data):
            raise UserError(
                f"{where}: truncated, {len(data) - position} of {length} bytes of its last frame "
                "are there; copy the file again."
            )
        position += length
    return count
