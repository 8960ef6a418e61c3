"""Picture files: orientation, bits, palettes, alpha and inks against Pillow and closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from multimodal.modalities.xray import XrayConfig
from tests.multimodal.modalities.xray_files import SIDE, dicom, grey, load, refused, save


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("wide", [False, True])
def test_orientation(tmp_path: Path, ending: str, orientation: int, wide: bool) -> None:
    """What is dark grey stands where every viewer shows it."""
    if wide and ending in ("jpg", "webp"):
        return
    pixels = np.zeros((16, 24), np.uint16 if wide else np.uint8)
    pixels[:4, :4], pixels[:, :2], pixels[-2:, :] = 250, 100, 180
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{ending}"
    options = {"jpg": {"quality": 100, "subsampling": 0}, "webp": {"lossless": True}}
    Image.fromarray(pixels).save(path, exif=exif, **options.get(ending, {}))
    by_hand = {
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: pixels[::-1].T,
        7: pixels[::-1, ::-1].T,
        8: pixels[:, ::-1].T,
    }.get(orientation, pixels)
    side = np.zeros((24, 24))
    top, left = (24 - by_hand.shape[0]) // 2, (24 - by_hand.shape[1]) // 2
    side[top : top + by_hand.shape[0], left : left + by_hand.shape[1]] = by_hand
    expected = side / (65535 if wide else 255)
    tolerance = 4 / 255 if ending == "jpg" else 1e-6
    np.testing.assert_allclose(load(path, XrayConfig(size=24)), expected, atol=tolerance)
    with path.open("rb") as file, Image.open(file) as picture:
        shown = np.asarray(ImageOps.exif_transpose(picture))
    assert shown.shape[:2] == by_hand.shape


def test_broken_metadata_leave_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(grey()).save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    np.testing.assert_allclose(load(path), grey() / 255, atol=1e-6)


@pytest.mark.parametrize("ending", ["tif", "bmp", "webp"])
def test_lossless_files_of_other_formats(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(grey()).save(path, **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_allclose(load(path), grey() / 255, atol=1e-6)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_16_bit_tiff(tmp_path: Path, compression: str | None) -> None:
    values = grey(top=65535)
    Image.fromarray(values).save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_allclose(load(tmp_path / "a.tif"), values / 65535, atol=1e-7)


def tiff(path: Path, values: np.ndarray, bits: int, photometric: int, order: str = "<") -> Path:
    """An uncompressed TIFF written out by hand."""
    height, width = values.shape
    data = values.astype(f"{order}u{bits // 8}").tobytes()
    rows = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    rows += [(273, 4, 8 + 2 + 12 * 9 + 4), (277, 3, 1), (278, 4, height), (279, 4, len(data))]
    kind = "little" if order == "<" else "big"
    out = (b"II*\0" if order == "<" else b"MM\0*") + (8).to_bytes(4, kind) + (9).to_bytes(2, kind)
    for tag, form, value in rows:
        out += tag.to_bytes(2, kind) + form.to_bytes(2, kind) + (1).to_bytes(4, kind)
        out += value.to_bytes(4 if form == 4 else 2, kind) + b"\0" * (0 if form == 4 else 2)
    path.write_bytes(out + b"\0\0\0\0" + data)
    return path


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_where_white_is_zero(tmp_path: Path, bits: int, order: str) -> None:
    values = grey(top=2**bits - 1)
    expected = values / (2**bits - 1)
    path = tiff(tmp_path / "a.tif", values, bits, 1, order)
    np.testing.assert_allclose(load(path), expected, atol=1e-6)
    path = tiff(tmp_path / "b.tif", values, bits, 0, order)
    if (bits, order) == (16, ">"):
        assert "no image that can be read" in refused(path)
    else:
        np.testing.assert_allclose(load(path), 1 - expected, atol=1e-6)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_values_of_unknown_range_are_refused(tmp_path: Path, kind: type) -> None:
    Image.fromarray(grey().astype(kind)).save(tmp_path / "a.tif")
    assert "whose range the file does not say" in refused(tmp_path / "a.tif")


@pytest.mark.parametrize("ending", ["tif", "png", "webp"])
def test_several_pictures_in_one_file_are_refused(tmp_path: Path, ending: str) -> None:
    first, *others = (Image.fromarray(grey(seed=s)).convert("RGB") for s in range(3))
    first.save(tmp_path / f"a.{ending}", save_all=True, append_images=others)
    assert "several pictures in one file" in refused(tmp_path / f"a.{ending}")


@pytest.mark.parametrize("ending", ["jpg", "tif"])
def test_inks_become_luminance(tmp_path: Path, ending: str) -> None:
    """Of the light that cyan, magenta, yellow and black leave."""
    inks = np.random.default_rng(0).integers(0, 256, (4, 4, 4)).astype(np.uint8)
    inks = np.kron(inks, np.ones((8, 8, 1), np.uint8))
    options = {"quality": 100, "subsampling": 0} if ending == "jpg" else {}
    Image.fromarray(inks, "CMYK").save(tmp_path / f"a.{ending}", **options)
    light = (255.0 - inks[..., :3]) * (255.0 - inks[..., 3:]) / 255
    expected = light @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(load(tmp_path / f"a.{ending}"), expected, atol=5 / 255)


def test_alpha_is_dropped_and_not_mixed_in(tmp_path: Path) -> None:
    alpha = grey(seed=1)
    for mode, layers in (("LA", 1), ("RGBA", 3)):
        pixels = np.stack([grey()] * layers + [alpha], axis=-1)
        Image.fromarray(pixels, mode).save(tmp_path / "a.png")
        np.testing.assert_allclose(load(tmp_path / "a.png"), grey() / 255, atol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_fill_the_whole_range(tmp_path: Path, bits: int) -> None:
    values = grey(top=2**bits - 1)
    if bits == 1:
        Image.fromarray(values.astype(bool)).save(tmp_path / "a.png")
    else:
        steps = Image.fromarray(values).convert("P")
        steps.putpalette([v * 255 // (2**bits - 1) for v in range(2**bits) for _ in range(3)])
        steps.save(tmp_path / "a.png", bits=bits)
    np.testing.assert_allclose(load(tmp_path / "a.png"), values / (2**bits - 1), atol=1e-6)


def test_giants_are_refused_before_they_are_made(tmp_path: Path) -> None:
    path = save(grey(), tmp_path / "a.bmp")
    content = bytearray(path.read_bytes())
    content[18:26] = (60_000).to_bytes(4, "little") * 2
    path.write_bytes(content)
    assert "3600000000 pixels" in refused(path)  # in the words of Pillow
    content[18:26] = (9_001).to_bytes(4, "little") * 2
    path.write_bytes(content)
    assert "9001 x 9001 pixels; at most 80,000,000" in refused(path)
    path = tiff(tmp_path / "a.tif", grey(), 8, 1)
    content = bytearray(path.read_bytes())
    assert int.from_bytes(content[10:12], "little") == TiffImagePlugin.IMAGEWIDTH
    content[18:22] = content[30:34] = (60_000).to_bytes(4, "little")
    path.write_bytes(content)
    assert "3600000000 pixels" in refused(path)
    assert load(dicom(tmp_path / "a.dcm", grey(), bits=8)).shape[0] == SIDE


@pytest.mark.parametrize("tag", [1, 8])  # of the height, of the number of bytes
def test_tiff_with_less_than_it_announces_is_refused(tmp_path: Path, tag: int) -> None:
    """Pillow fills up with black, a 500 byte file to millions of pixels."""
    path = tiff(tmp_path / "a.tif", grey(), 8, 1)
    content = bytearray(path.read_bytes())
    place = 10 + 12 * tag + 8
    content[place : place + 4] = (2 * SIDE if tag == 1 else SIDE).to_bytes(4, "little")
    path.write_bytes(content)
    assert ("1 of 2 strips" if tag == 1 else f"{SIDE} bytes of") in refused(path)
