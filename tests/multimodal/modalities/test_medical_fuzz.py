"""Damaged ECG, DICOM and picture files: decoded whole, or refused in one line.

Mutations are seeded and counted: ``FEW`` a kind of file always, ``MANY`` in slow tests. A decode
may take ``SECONDS`` and the whole process no more memory than ``BYTES`` beyond what it has.
"""

from __future__ import annotations

import io
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from pydicom import dcmread, uid

from multimodal.errors import UserError
from multimodal.modalities import ecg
from multimodal.modalities.ecg import EcgConfig
from multimodal.modalities.xray import XrayConfig
from multimodal.recordings import Recording
from tests.multimodal.modalities.ecg_files import write_text
from tests.multimodal.modalities.test_dicom_codecs import (
    HTJ2K,
    JPEG_12_BITS,
    JPEG_LOSSLESS,
    pixels,
)
from tests.multimodal.modalities.test_wfdb_formats import packed, stored
from tests.multimodal.modalities.xray_files import compressed, dicom, grey

FEW, MANY, SECONDS, BYTES = 25, 1000, 5.0, 2 * 2**30
ECG, XRAY = EcgConfig().build(), XrayConfig(size=16).build()


def wfdb_record(folder: Path, form: str) -> tuple[Path, list[Path]]:
    """(header, files to damage): two leads, the first with two samples a frame."""
    frames, table = 60, []
    for seed, rate in ((0, 2), (1, 1 if form != "516" else 2)):
        table.append((stored(form, frames * rate, seed) // 4).reshape(frames, rate))
    lines = [f"rec 2 250 {frames}"]
    for samples, name in zip(table, ("II", "V1"), strict=True):
        total = int(samples.sum()) % 65536
        lines.append(f"rec.dat {form}x{samples.shape[1]} 1e7(0)/mV 0 0 0 {total} 0 {name}")
    if form == "516":
        both = np.stack([t.reshape(-1) for t in table], axis=1).astype(np.int16)
        soundfile.write(folder / "rec.dat", both, 500, "PCM_16", format="FLAC")
    elif form == "8":
        steps = [np.diff(t.reshape(-1), prepend=0).reshape(frames, -1) for t in table]
        content = np.concatenate(steps, axis=1).astype(np.int8).tobytes()
        (folder / "rec.dat").write_bytes(content)
    else:
        (folder / "rec.dat").write_bytes(packed(form, np.concatenate(table, axis=1).reshape(-1)))
    path = write_text(folder, "\n".join(lines))
    return folder / "rec.dat", [path, folder / "rec.dat"]


def segments(folder: Path, _: str) -> tuple[Path, list[Path]]:
    wfdb_record(folder, "16")
    path = write_text(folder, "all/3 2 250 130\nrec 60\n~ 10\nrec 60\n", "all")
    return path, [path]


def dicom_file(folder: Path, kind: str) -> tuple[Path, list[Path]]:
    window = {"WindowCenter": -3e3, "WindowWidth": 2e3}
    small = dicom(folder / "a.dcm", pixels(), RescaleSlope=-2, RescaleIntercept=9, **window)
    streams = {
        "JPEG Lossless": (uid.JPEGLosslessSV1, JPEG_LOSSLESS),
        "HTJ2K": (uid.HTJ2KLossless, HTJ2K),
        "JPEG of 12 bits": (uid.JPEGExtended12Bit, JPEG_12_BITS),
    }
    syntaxes = {
        "RLE": uid.RLELossless,
        "JPEG-LS": uid.JPEGLSLossless,
        "JPEG 2000": uid.JPEG2000Lossless,
    }
    if kind in streams:
        compressed(small, *streams[kind])
    elif kind == "JPEG":
        buffer, values = io.BytesIO(), (pixels() >> 4).astype(np.uint8)
        Image.fromarray(values).save(buffer, "JPEG")
        compressed(dicom(small, values, bits=8), uid.JPEGBaseline8Bit, buffer.getvalue())
    elif kind in syntaxes:
        data = dcmread(dicom(small, grey(64, 64, 4095)))
        data.compress(syntaxes[kind])
        data.save_as(small, enforce_file_format=True)
    elif kind == "deflated":
        data = dcmread(small)
        data.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
        data.save_as(small, enforce_file_format=True)
    return small, [small]


def picture(folder: Path, kind: str) -> tuple[Path, list[Path]]:
    name, _, option = kind.partition(" ")
    wide = option == "16"
    path = folder / f"a.{name.lower()}"
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"compression": option} if name == "TIFF" and option and not wide else {}
    options |= {"progressive": True} if option == "progressive" else {}
    image = Image.fromarray(grey(24, 16, 65535 if wide else 255))
    image.save(path, name, **options, **({} if name == "BMP" else {"exif": exif}))
    return path, [path]


FORMS = ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311", "516"]
KINDS: dict[str, tuple[Callable[[Path, str], tuple[Path, list[Path]]], str]] = {
    **{f"WFDB {form}": (wfdb_record, form) for form in FORMS},
    "WFDB of segments": (segments, ""),
    **{
        f"DICOM {kind}": (dicom_file, kind)
        for kind in ("raw", "deflated", "RLE", "JPEG", "JPEG of 12 bits", "JPEG Lossless",
                     "JPEG-LS", "JPEG 2000", "HTJ2K")
    },
    **{
        kind: (picture, kind)
        for kind in ("PNG", "PNG 16", "JPEG", "JPEG progressive", "BMP", "WEBP", "TIFF", "TIFF 16",
                     "TIFF tiff_lzw", "TIFF packbits", "TIFF tiff_adobe_deflate", "TIFF jpeg")
    },
}  # fmt: skip
TEXT = b"0123456789 x:+/()-.\n~e" + "µV".encode("latin-1")


def damaged(content: bytes, chance: random.Random, text: bool) -> bytes:
    """1 to 8 bytes changed, for headers mostly into others that a header may have; some cut."""
    out = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 3, 8])):
        place = chance.randrange(len(out))
        byte = chance.choice(TEXT) if text and chance.random() < 0.8 else chance.randrange(256)
        if text and chance.random() < 0.5:
            out[place:place] = bytes([byte]) * chance.choice([1, 1, 9])
        else:
            out[place] = byte
    kept = chance.randrange(len(out)) if chance.random() < 0.15 else len(out)
    return bytes(out[:kept]) + (b"\0" * 9 if chance.random() < 0.05 else b"")


@contextmanager
def limited_memory() -> Iterator[None]:
    """Of addresses, beyond those that the process has already."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def fuzz(folder: Path, kind: str, count: int) -> Counter[str]:
    """How many of ``count`` damaged copies were decoded and refused."""
    make, option = KINDS[kind]
    path, files = make(folder, option)
    adapter = ECG if kind.startswith("WFDB") else XRAY
    contents = {file: file.read_bytes() for file in files}
    found: Counter[str] = Counter()
    with limited_memory():
        for number in range(count):
            chance = random.Random(f"{kind} {number}")
            file = chance.choice(files)
            for other, content in contents.items():
                other.write_bytes(content)
            file.write_bytes(damaged(contents[file], chance, file.suffix == ".hea"))
            recording = Recording(f"{number}", (0,), "train", path=path)
            begin = time.monotonic()
            ecg._header.cache_clear()  # files change faster than their times
            words = ""
            try:
                signal = adapter.load(recording).numpy()
            except UserError as error:
                signal, words = np.zeros(1), str(error)
            assert np.isfinite(signal).all(), number
            assert len(words.splitlines()) <= 1, (number, words)
            found["refused" if words else "decoded"] += 1
            assert time.monotonic() - begin < SECONDS, number
    return found


@pytest.mark.parametrize("kind", list(KINDS))
def test_damage_is_decoded_whole_or_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    assert fuzz(tmp_path, kind, FEW).total() == FEW


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_much_damage(tmp_path: Path, kind: str) -> None:
    assert fuzz(tmp_path, kind, MANY).total() == MANY


@pytest.mark.parametrize("kind", list(KINDS))
def test_what_is_damaged_there_was_whole(tmp_path: Path, kind: str) -> None:
    make, option = KINDS[kind]
    path, _ = make(tmp_path, option)
    adapter = ECG if kind.startswith("WFDB") else XRAY
    assert adapter.load(Recording("whole", (0,), "train", path=path)).std() > 0
