"""Decoding of DICOM: values against NumPy and the standard; damage is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from tests.multimodal.modalities.xray_files import SIDE, dicom, grey, load, refused, save


def test_dicom_without_window_uses_its_stored_bits(tmp_path: Path) -> None:
    pixels = grey(top=4095)
    path = dicom(tmp_path / "a.dcm", pixels)
    np.testing.assert_allclose(load(path), pixels / 4095, atol=1e-6)
    np.testing.assert_allclose(load(path.rename(tmp_path / "plain")), pixels / 4095, atol=1e-6)
    signed = pixels.astype(np.int16) - 2048
    path = dicom(tmp_path / "b.dcm", signed)
    np.testing.assert_allclose(load(path), pixels / 4095, atol=1e-6)


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_dicom_window_is_that_of_the_standard(tmp_path: Path, kind: str) -> None:
    """PS3.3, C.11.2.1.2.1: a line from c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2."""
    pixels, centre, width = grey(top=4095), 1500.0, 1001.0
    path = dicom(
        tmp_path / "a.dcm",
        pixels,
        PhotometricInterpretation=kind,
        RescaleSlope=2,
        RescaleIntercept=-1000,
        WindowCenter=[centre, 40],
        WindowWidth=[width, 400],
    )
    units = pixels * 2.0 - 1000
    shown = np.clip((units - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    expected = 1 - shown if kind == "MONOCHROME1" else shown
    np.testing.assert_allclose(load(path), expected, atol=1e-5)


def test_dicom_voi_lut(tmp_path: Path) -> None:
    table = (np.arange(4096) ** 2 // 4096).astype(np.uint16)
    lut = Dataset()
    lut.LUTDescriptor = [4096, 0, 12]
    lut.add_new("LUTData", "OW", table.tobytes())
    path = dicom(tmp_path / "a.dcm", grey(top=4095), VOILUTSequence=Sequence([lut]))
    expected = table[grey(top=4095)] / table.max()
    np.testing.assert_allclose(load(path), expected, atol=1e-6)


@pytest.mark.parametrize("missing", [("PixelRepresentation",), ("SamplesPerPixel",),
                                     ("PixelRepresentation", "SamplesPerPixel")])  # fmt: skip
@pytest.mark.parametrize(("top", "bits"), [(4095, 12), (255, 8)])
@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_elements_that_leave_no_doubt_may_be_missing(
    tmp_path: Path, missing: tuple[str, ...], top: int, bits: int, kind: str
) -> None:
    pixels, path = grey(top=top), tmp_path / "a.dcm"
    dicom(path, pixels, bits=bits, PhotometricInterpretation=kind, **dict.fromkeys(missing))
    expected = 1 - pixels / top if kind == "MONOCHROME1" else pixels / top
    np.testing.assert_allclose(load(path), expected, atol=1e-6)


def test_a_sign_that_may_be_there_is_not_guessed(tmp_path: Path) -> None:
    path, words = tmp_path / "a.dcm", "PixelRepresentation is missing"
    assert words in refused(dicom(path, grey(top=65535), bits=16, PixelRepresentation=None))
    signed = grey(top=4095).astype(np.int16) - 2048
    assert words in refused(dicom(path, signed, PixelRepresentation=None))


def test_other_dicom_is_refused(tmp_path: Path) -> None:
    pixels = grey(top=4095)
    cases = {
        "no pixel data": {"PixelData": None},
        "PhotometricInterpretation RGB is not a grey": {"PhotometricInterpretation": "RGB"},
        "3 frames in one file": {"NumberOfFrames": 3, "PixelData": pixels.tobytes() * 3},
        "undecodable DICOM": {"Rows": 2 * SIDE},
    }
    for words, fields in cases.items():
        assert words in refused(dicom(tmp_path / "a.dcm", pixels, **fields))
    (tmp_path / "b.dcm").write_bytes(b"no dicom at all")
    assert "undecodable DICOM" in refused(tmp_path / "b.dcm")


def test_a_cut_dicom_is_refused(tmp_path: Path) -> None:
    path = dicom(tmp_path / "a.dcm", grey(top=4095))
    content = path.read_bytes()
    assert dcmread(path).Rows == SIDE
    for end in np.unique(np.linspace(140, len(content) - 1, 40).astype(int)):
        path.write_bytes(content[:end])
        refused(path)


@pytest.mark.parametrize(("library", "ending"), [("PIL", "png"), ("pydicom", "dcm")])
def test_missing_library_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, ending: str
) -> None:
    save(grey(), tmp_path / "a.png")
    dicom(tmp_path / "a.dcm", grey(top=4095))
    monkeypatch.setitem(sys.modules, library, None)
    assert "install the extra 'medical'" in refused(tmp_path / f"a.{ending}")
