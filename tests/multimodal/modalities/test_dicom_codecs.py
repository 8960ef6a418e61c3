"""DICOM in every compression: what other encoders than the decoders' own made of known pixels.

The three streams below were made once, of ``pixels()``: by OpenJPH (HTJ2K), liblj92 (JPEG
Lossless) and libjpeg-turbo (JPEG of 12 bits, quality 100).
"""

from __future__ import annotations

import io
import sys
from base64 import b64decode
from pathlib import Path

import numpy as np
import pydicom.pixels
import pytest
from PIL import Image
from pydicom import dcmread, uid

from multimodal.modalities import dicom_frame
from multimodal.modalities.xray import XrayConfig
from tests.multimodal.modalities.xray_files import compressed, dicom, grey, load, refused

SMALL = XrayConfig(size=16)
HTJ2K = b64decode(
    """
/0//UQApQAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wA
EyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAX4AAf+TwAAmqfYFB3QAAMAAE0AA
E0AAEoA8+QMHdACe+AMHdADwAMd0AMAAFTAABVQAATgXcOALKQFCtAAdYMABK/4BRrQA2L74AAC0AMAAFqwAAWtAABagvvER
YIAjRp4QEvTAYuMGOjiEtzcAneMaAS1pTSC6odqAFAvsAIioeSGXALZGFoWQZde7zqK3Agb4AaBEUrYAwAAvRoAAXosAAL0Y
MQgCFmGHAW2itWWyuLuDk6+wywz1auTZ63vRR51xEvIRD00AgoNwFLDU10BImgSRkxId5QPBoc9OOz1OO596BEWCCCGSAclK
C/agyIrlgLBZJZhxokcDLco4MI9FdcESMWRehjJgARs+aoUg0wQLIziinuBBwUdswfkKBBSVH0IrCXiUB+TE5FuRAVVA+DnO
htE0p3Za3ze3aKrR89EIbjKpVhRiERAZ+iyw7Cz8JgXWOAvKkFmPZJZgXc4bKOfuCBQpogdzHR12WeCDaOQxsQH/2Q==
"""
)
JPEG_LOSSLESS = b64decode(
    """
/9j/xAAcAAEBAQEBAQADAAAAAAAAAAAHBgUIBAECAwv/wwALDAAQABABABEA/9oACAEAAAYAAP4Kba6tXQzR0K+dJdguXTiz
0b1M1MV6jPmx0Uo7yna2GT0Fd1PsQnfzWF5pobfUZNewZi5QPfRO30l6GpuumTefnpBddVM2utc5CZ1H9VT7mKnr2DDet9CZ
HH99IiJCLcrtDtKCfmOKbdVbA0/mv0N2iNfr8vR1nU6nZNwu7655ehNSv2ert1Q1k5le6xFsFWwvulJtS20XW6Ir1dIYvU3Z
D7i1vV9Tp9R7KvhWfUSPTaTTaJqtKKd/TLG91FfXG4gsLQkKtx0FmICj43ilQ+ibdhQfGr0N7+fRV14+q/y+rfWtVW6zf9vF
Nl/T0EqzqY1SDm2bXu3nis0mXoma1XtEvbpdpUdpdaqxQq36upuwnaTA/9k=
"""
)
JPEG_12_BITS = b64decode(
    """
/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB
AQEBAQEBAQEBAQEBAQEBAQH/wQALDAAQABABAREA/8QAFQABAQAAAAAAAAAAAAAAAAAADgr/xAAfEAADAAEFAQEBAAAAAAAA
AAAEBQYDAQIHCAwWFBX/2gAIAQEAAD8AOa/m3vOuoXc70fp+R+glG/XjCS6jTY/4YSSTCo1AwTwdJSjMKDjlnZIWQIKE5zkU
6LBiJN04vS5ujIkk7QQNBQ+az88GTI5eiK/d08vjT9svByWzBu48V/DKddqbH81mgc8tALnBC+jmZm4QZj5JwysgmkKSkrsJ
LXCobx0xHmqvPG4/1dF11t0rpyWUHybxGUWx4yjKMOKnh6K9hEWBpkriQKJo2Oof6dCacLrQDVC7BRPAAp7Nsp6wsJA3+aS8
86o4/wA3UEOq6EqWxMTu48dsg4WFUzL9RMrq+AAWIwauQAlVOQgDcOwNVTMbjEW0T2ryoKRTw9oxoZam/9k=
"""
)
FOREIGN = {
    uid.HTJ2KLossless: (HTJ2K, 0),
    uid.HTJ2KLosslessRPCL: (HTJ2K, 0),
    uid.HTJ2K: (HTJ2K, 0),
    uid.JPEGLossless: (JPEG_LOSSLESS, 0),
    uid.JPEGLosslessSV1: (JPEG_LOSSLESS, 0),
    uid.JPEGExtended12Bit: (JPEG_12_BITS, 1),
}


def pixels() -> np.ndarray:
    """(16, 16) of 12 bits."""
    ramp = np.add.outer(np.arange(16) * 120, np.arange(16) * 130)
    return (ramp + np.random.default_rng(0).integers(0, 99, (16, 16))).astype(np.uint16)


@pytest.mark.parametrize("syntax", list(FOREIGN), ids=lambda s: s.name)
def test_streams_of_other_encoders(tmp_path: Path, syntax: uid.UID) -> None:
    stream, tolerance = FOREIGN[syntax]
    path = compressed(dicom(tmp_path / "a.dcm", pixels()), syntax, stream)
    np.testing.assert_allclose(load(path, SMALL), pixels() / 4095, atol=tolerance / 4095 + 1e-6)


@pytest.mark.parametrize(
    "syntax", [uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.RLELossless], ids=lambda s: s.name
)
@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_copies_are_exact(tmp_path: Path, syntax: uid.UID, bits: int, signed: bool):
    values, config = grey(64, 64, top=2**bits - 1), XrayConfig(size=64)
    if signed:
        values = (values.astype(np.int32) - 2 ** (bits - 1)).astype(f"i{values.itemsize}")
    path = dicom(tmp_path / "a.dcm", values, bits=bits)
    plain = load(path, config)
    data = dcmread(path)
    if syntax == uid.JPEGLSLossless and signed:
        return  # its encoder refuses signs
    data.compress(syntax)
    data.save_as(path, enforce_file_format=True)
    np.testing.assert_array_equal(load(path, config), plain)


def test_jpeg_of_8_bits(tmp_path: Path) -> None:
    values = (pixels() >> 4).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", quality=100)
    path = dicom(tmp_path / "a.dcm", values, bits=8)
    for syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        found = load(compressed(path, syntax, buffer.getvalue()), SMALL)
        np.testing.assert_allclose(found, values / 255, atol=2 / 255)


def test_deflated(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", pixels())
    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    np.testing.assert_allclose(load(path, SMALL), pixels() / 4095, atol=1e-6)


@pytest.mark.parametrize("strip", [7, 64, 2**22])
@pytest.mark.parametrize("behind", [b"", b"\0", bytes(2), bytes(65), b"\x03\x00"])
def test_what_stands_behind_a_deflated_stream(
    tmp_path: Path, monkeypatch, behind: bytes, strip: int
) -> None:
    """Such as the byte that makes its length even: it is read past, in whatever pieces."""
    monkeypatch.setattr("multimodal.modalities.dicom.STRIP", strip)
    path = dicom(tmp_path / "a.dcm", pixels())
    data = dcmread(path)
    data.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    whole = path.read_bytes().removesuffix(b"\0")
    path.write_bytes(whole + behind)
    np.testing.assert_allclose(load(path, SMALL), pixels() / 4095, atol=1e-6)
    path.write_bytes(whole[:-40])
    refused(path)


@pytest.mark.parametrize("syntax", list(FOREIGN), ids=lambda s: s.name)
def test_other_sizes_than_the_header_are_refused(tmp_path: Path, syntax: uid.UID) -> None:
    path = compressed(dicom(tmp_path / "a.dcm", grey(16, 15, 4095)), syntax, FOREIGN[syntax][0])
    assert "announces 15 x 16 pixels and its compressed image 16 x 16" in refused(path)


def test_giant_headers_are_refused(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", pixels(), Rows=60_000, Columns=60_000)
    assert "60000 x 60000 pixels; at most 80,000,000" in refused(path)
    stream = bytearray(HTJ2K)
    stream[8:12] = (60_000).to_bytes(4)
    path = compressed(dicom(tmp_path / "a.dcm", pixels()), uid.HTJ2KLossless, bytes(stream))
    assert "its compressed image 60000 x 16" in refused(path)


@pytest.mark.parametrize("library", ["imagecodecs", "plugins"])
def test_a_missing_decoder_names_the_extra(tmp_path: Path, monkeypatch, library: str) -> None:
    path = dicom(tmp_path / "a.dcm", pixels())
    if library == "imagecodecs":
        compressed(path, uid.JPEGLossless, JPEG_LOSSLESS)
        monkeypatch.setitem(sys.modules, "imagecodecs", None)
    else:
        compressed(path, uid.HTJ2KLossless, HTJ2K)
        monkeypatch.setattr(dicom_frame, "PLUGINS", ())
    message = refused(path)
    assert "no decoder for " in message
    assert "install the extra 'medical'" in message
    compressed(path, uid.MPEG2MPML, JPEG_LOSSLESS)
    assert "pixels in MPEG2 Main Profile / Main Level, which is not read" in refused(path)


@pytest.mark.parametrize(
    ("syntax", "plugin"),
    [
        (uid.HTJ2KLossless, "pylibjpeg"),
        (uid.HTJ2K, "pylibjpeg"),
        (uid.JPEG2000, "pylibjpeg"),
        (uid.JPEGLSLossless, "pyjpegls"),
        (uid.JPEGLSNearLossless, "pyjpegls"),
        (uid.JPEGBaseline8Bit, "pillow"),
        (uid.RLELossless, "pydicom"),
    ],
)
def test_the_preferred_decoder_is_installed(syntax: uid.UID, plugin: str) -> None:
    available = pydicom.pixels.get_decoder(syntax).available_plugins
    assert next(name for name in dicom_frame.PLUGINS if name in available) == plugin


def test_signs_of_jpeg_lossless(tmp_path: Path) -> None:
    """Two's complement in the stored bits: the same stream, read with a sign."""
    path = dicom(tmp_path / "a.dcm", pixels(), PixelRepresentation=1)
    signed = pixels().astype(int) - 4096 * (pixels() > 2047)
    found = load(compressed(path, uid.JPEGLosslessSV1, JPEG_LOSSLESS), SMALL)
    np.testing.assert_allclose(found, (signed + 2048) / 4095, atol=1e-6)
