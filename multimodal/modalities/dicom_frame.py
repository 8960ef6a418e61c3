"""Pixels of a DICOM file with one frame: how large they say they are, and who decodes them.

One decoder for each transfer syntax, so that which one reads a file never depends on which one
stumbles over it. GDCM is none of them: on damaged JPEG Lossless it ends the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from multimodal.errors import UserError, how_to_install

if TYPE_CHECKING:
    from pydicom import Dataset

# Markers of JPEG and JPEG-LS that begin a frame: SOF0 to SOF15 without DHT, JPG and DAC; SOF55.
FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
PLUGINS = ("pyjpegls", "pylibjpeg", "pillow", "pydicom")  # of pydicom, best first


def decoded(data: Dataset, where: str) -> np.ndarray:
    """The stored values, (rows, columns); UserError: no decoder. Damage raises nearly anything."""
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1

    syntax = data.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        return pixel_array(data)
    wide = syntax == JPEGExtended12Bit and data.BitsStored > 8
    if wide or syntax in (JPEGLossless, JPEGLosslessSV1):
        return _decoded_jpeg(data, where)
    try:
        available = get_decoder(syntax).available_plugins
    except NotImplementedError as error:
        name = syntax.name if syntax.name.isprintable() else repr(syntax.name)
        raise UserError(f"{where}: pixels in {name}, which is not read; convert it.") from error
    plugin = next((name for name in PLUGINS if name in available), None)
    if plugin is None:
        raise _no_decoder(data, where)
    return pixel_array(data, decoding_plugin=plugin)


def _decoded_jpeg(data: Dataset, where: str) -> np.ndarray:
    """JPEG of more than 8 bits, by libjpeg-turbo."""
    try:
        from imagecodecs import jpeg8_decode
    except ImportError as error:
        raise _no_decoder(data, where) from error
    values = np.asarray(jpeg8_decode(_frame(data))).astype(np.int32)
    if values.max(initial=0) >> data.BitsStored:
        raise ValueError(f"more than the {data.BitsStored} bits of its header")
    if data.PixelRepresentation == 1:
        values -= values >> (data.BitsStored - 1) << data.BitsStored
    return values


def _no_decoder(data: Dataset, where: str) -> UserError:
    name = data.file_meta.TransferSyntaxUID.name
    return UserError(f"{where}: no decoder for {name} is there; {how_to_install('medical')}.")


def _frame(data: Dataset) -> bytes:
    from pydicom.encaps import get_frame

    return get_frame(data.PixelData, 0, number_of_frames=1)


def codestream_size(data: Dataset) -> tuple[int, int] | None:
    """(columns, rows) that a compressed image announces, before a decoder makes room for it.

    None where the compression has no such place (RLE).
    """
    frame = _frame(data)
    if frame[:4] == b"\xff\x4f\xff\x51":  # JPEG 2000, also with high throughput
        right, bottom, left, top = (int.from_bytes(frame[k : k + 4]) for k in (8, 12, 16, 20))
        return right - left, bottom - top
    place = 2
    while frame[:2] == b"\xff\xd8" and place + 9 <= len(frame):
        if frame[place] != 0xFF:
            return None
        marker = frame[place + 1]
        if marker == 0xFF:  # filling
            place += 1
        elif marker in ALONE:
            place += 2
        elif marker in FRAMES:
            rows, columns = (int.from_bytes(frame[place + k : place + k + 2]) for k in (5, 7))
            return columns, rows
        else:
            place += 2 + int.from_bytes(frame[place + 2 : place + 4])
    return None
