"""Images and films that ask for much memory or time; each function writes one."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

# ---- images -----------------------------------------------------------------------------------


def png(folder: Path, width: int = 13_000, height: int = 13_000, extra: bytes = b"") -> Path:
    """Grey zeros, 8 bits. extra: chunks before the pixels."""
    packer, row = zlib.compressobj(1), bytes(1 + width)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    path = folder / "zeros.png"
    chunks = png_chunk(b"IHDR", head) + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def webp(folder: Path, side: int = 16_383) -> Path:
    """VP8L, lossless: one colour."""
    from PIL import Image

    path = folder / "one.webp"
    Image.new("RGB", (16, 16)).save(path, "WEBP", lossless=True)
    content = bytearray(path.read_bytes())
    at = content.index(b"VP8L") + 9
    bits = int.from_bytes(content[at : at + 4], "little")
    bits = bits & ~0xFFF_FFFF | (side - 1) | (side - 1) << 14
    content[at : at + 4] = bits.to_bytes(4, "little")
    path.write_bytes(content)
    return path


def webp_animated(folder: Path, side: int = 16_384) -> Path:
    """A canvas of side x side with frames of 16 x 16."""
    from PIL import Image

    path = folder / "animated.webp"
    frames = [Image.new("RGB", (16, 16), (0, 0, 200 * k)) for k in range(2)]
    frames[0].save(path, "WEBP", save_all=True, append_images=frames[1:])
    content = bytearray(path.read_bytes())
    at = content.index(b"VP8X") + 12
    content[at : at + 6] = 2 * (side - 1).to_bytes(3, "little")
    path.write_bytes(content)
    return path


def jpeg_of_scans(folder: Path, scans: int = 20_000, side: int = 4_000) -> Path:
    """Progressive: the last scan, which says nothing, time and again."""
    import io

    from PIL import Image

    memory = io.BytesIO()
    Image.new("L", (side, side), 128).save(memory, "JPEG", progressive=True)
    content = memory.getvalue()
    last = content.rindex(b"\xff\xda")
    scan = content[last:-2]
    path = folder / "scans.jpg"
    path.write_bytes(content[:-2] + scan * scans + content[-2:])
    return path


def tiff_of_pages(folder: Path, pages: int = 20_000) -> Path:
    """The first picture's directory, time and again."""
    import io

    from PIL import Image

    memory = io.BytesIO()
    Image.new("L", (16, 16)).save(memory, "TIFF")
    content = memory.getvalue()
    (begin,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, begin)
    end = begin + 2 + 12 * count  # there stands where the next one begins
    directory, at = content[begin:end], len(content)
    step = len(directory) + 4
    more = [directory + struct.pack("<I", at + step * (k + 1)) for k in range(pages - 1)]
    path = folder / "pages.tif"
    first = content[:end] + struct.pack("<I", at) + content[end + 4 :]
    path.write_bytes(first + b"".join(more) + directory + bytes(4))
    return path


def tiff_of_one_tile(folder: Path, side: int = 65_520) -> Path:
    """16 x 16 pixels in one compressed tile of side x side."""
    tags = [
        (256, 4, 16),
        (257, 4, 16),
        (258, 3, 8),
        (259, 3, 8),
        (262, 3, 1),
        (277, 3, 1),
        (322, 4, side),
        (323, 4, side),
        (324, 4, 0),
        (325, 4, 0),
    ]
    data = zlib.compress(bytes(2**24), 9)
    begin = 8 + 2 + 12 * len(tags) + 4
    found = {324: begin, 325: len(data)}
    rows = b"".join(
        struct.pack("<HHI", tag, kind, 1)
        + (struct.pack("<HH", value, 0) if kind == 3 else struct.pack("<I", found.get(tag, value)))
        for tag, kind, value in tags
    )
    path = folder / "tile.tif"
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, len(tags)) + rows + bytes(4) + data)
    return path


def dicom(folder: Path, *, deflated: bool = True, junk: int = 0, side: int = 64) -> Path:
    """16 bits of zeros; junk: bytes of zeros in a private element, in pieces of 256 MiB."""
    pydicom = __import__("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.filewriter import write_file_meta_info

    meta = FileMetaDataset()
    uids = pydicom.uid
    meta.TransferSyntaxUID = (
        uids.DeflatedExplicitVRLittleEndian if deflated else uids.ExplicitVRLittleEndian
    )
    meta.MediaStorageSOPClassUID = uids.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = uids.UID("1.2.3")
    data = Dataset()
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows = data.Columns = side
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, 0
    pixels = zlib.compressobj(9, wbits=-15)
    head = pydicom.filebase.DicomBytesIO()
    head.is_little_endian, head.is_implicit_VR = True, False
    pydicom.filewriter.write_dataset(head, data)
    path = folder / "zeros.dcm"
    with path.open("wb") as file:
        file.write(bytes(128) + b"DICM")
        write_file_meta_info(file, meta, enforce_standard=True)  # pyright: ignore
        pack = pixels.compress if deflated else bytes
        file.write(pack(head.getvalue()))
        for number in range(-(-junk // 2**28)):
            piece = min(2**28, junk - number * 2**28)
            file.write(pack(struct.pack("<HH2sHI", 0x7FD1, number + 0x1000, b"OB", 0, piece)))
            for _ in range(-(-piece // 2**20)):
                file.write(pack(bytes(min(2**20, piece))))
        file.write(pack(struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OW", 0, 2 * side * side)))
        for _ in range(side):
            file.write(pack(bytes(2 * side)))
        if deflated:
            file.write(pixels.flush())
    return path


def dicom_of_sequences(folder: Path, deep: int = 20_000) -> Path:
    """A sequence within an item within a sequence."""
    path = dicom(folder, deflated=False)
    one = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    one += struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    content = path.read_bytes()
    at = content.index(struct.pack("<HH2s", 0x0028, 0x0002, b"US"))
    path.write_bytes(content[:at] + one * deep + content[at:])
    return path


# ---- video ------------------------------------------------------------------------------------


def gif(folder: Path, side: int = 65_535, frames: int = 3) -> Path:
    """A screen of side x side, frames of one pixel."""
    image = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    head = b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + bytes(6)
    path = folder / "screen.gif"
    path.write_bytes(head + image * frames + b";")
    return path


def film(
    folder: Path,
    name: str = "still.mkv",
    codec: str = "mpeg4",
    width: int = 4_096,
    height: int = 4_096,
    frames: int = 3,
    form: str = "yuv420p",
) -> Path:
    """A black picture that does not move."""
    from fractions import Fraction

    import av

    path = folder / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, form  # pyright: ignore
        stream.codec_context.thread_count = 1
        frame = av.VideoFrame(width, height, form)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        for number in range(frames):
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))  # pyright: ignore
        container.mux(stream.encode(None))  # pyright: ignore
    return path


def playlist(folder: Path, kind: str = "live") -> Path:
    """Lists of other files that FFmpeg plays as one film: without an end, or of itself."""
    path = folder / "list.mkv"
    lines = {
        "live": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\npiece.ts\n",
        "itself": "ffconcat version 1.0\nfile list.mkv\n",
        "again": "ffconcat version 1.0\n" + "file piece.ts\n" * 100_000,
    }
    path.write_text(lines[kind])
    film(folder, "piece.ts", "mpeg2video", 64, 64)
    return path
