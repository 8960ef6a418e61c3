"""Grey transformations of DICOM against the pseudo-code of PS3.3, C.11.1 and C.11.2."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from multimodal.modalities.xray import XrayConfig
from tests.multimodal.modalities.xray_files import dicom, load, refused

SMALL = XrayConfig(size=16)
WINDOWS: dict[str, tuple[Any, Any]] = {
    "none": (None, None),
    "one": (300.0, 500.0),
    "several": ([300.0, 40.0], [500.0, 80.0]),
    "the first is empty": (["", 40.0], ["", 80.0]),
    "empty": ("", ""),
    "no centre": ("", 500.0),
    "zero": (300.0, 0.0),
    "one wide": (300.0, 1.0),
    "half wide": (300.25, 0.5),
    "negative": (300.0, -20.0),
    "outside": (99_999.0, 10.0),
}
SLOPES: list[Any] = [2.0, -10.0, 0.5, -0.25, "", None]
STORED = [(8, False), (8, True), (12, False), (12, True), (16, True), (16, False), (10, False)]


def stored(bits: int, signed: bool) -> np.ndarray:
    """(16, 16) from the smallest to the largest value of the stored bits."""
    low = -(2 ** (bits - 1)) if signed else 0
    values = np.linspace(low, low + 2**bits - 1, 256).round().reshape(16, 16)
    return values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def oracle(
    x: float, ends: tuple[float, float], window: tuple[float, float] | None, function: str
) -> float:
    """One value of the modality -> what is shown, as in the standard's pseudo-code."""
    if window is None:
        return (x - min(ends)) / (max(ends) - min(ends))
    c, w = window
    if function == "SIGMOID":
        return 1 / (1 + math.exp(min(700, -4 * (x - c) / w)))
    if function == "LINEAR":
        if x <= c - 0.5 - (w - 1) / 2:
            return 0.0
        if x > c - 0.5 + (w - 1) / 2:
            return 1.0
        return (x - (c - 0.5)) / (w - 1) + 0.5
    if x <= c - w / 2:
        return 0.0
    return 1.0 if x > c + w / 2 else (x - c) / w + 0.5


def usable(name: str, function: str) -> tuple[float, float] | None:
    by_hand = {"one": (300.0, 500.0), "several": (300.0, 500.0), "one wide": (300.0, 1.0)}
    by_hand |= {"the first is empty": (40.0, 80.0), "outside": (99_999.0, 10.0)}
    if function != "LINEAR":
        by_hand["half wide"] = (300.25, 0.5)
    return by_hand.get(name)


@pytest.mark.parametrize("window", list(WINDOWS))
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("slope", SLOPES)
def test_slope_window_and_sign(tmp_path: Path, window: str, function: str, slope: Any) -> None:
    centre, width = WINDOWS[window]
    fields: dict[str, Any] = {"VOILUTFunction": "" if function == "LINEAR" else function}
    if slope is not None:
        fields |= {"RescaleSlope": slope, "RescaleIntercept": "" if slope == "" else 120}
    if window != "none":
        fields |= {"WindowCenter": centre, "WindowWidth": width}
    rescale = (slope or 1.0, 120 if slope else 0)
    place = list(WINDOWS).index(window) + 5 * SLOPES.index(slope) + len(function)
    for bits, signed in (STORED[place % len(STORED)], STORED[(place // 2 + 1) % len(STORED)]):
        values = stored(bits, signed)
        units = values.astype(float) * rescale[0] + rescale[1]
        ends = (units[0, 0], units[-1, -1])
        chosen = usable(window, function)
        expected = np.vectorize(lambda x, e=ends, c=chosen: oracle(x, e, c, function))(units)
        kind = f"MONOCHROME{1 + (place + bits // 2) % 2}"
        path = dicom(
            tmp_path / "a.dcm", values, bits=bits, PhotometricInterpretation=kind, **fields
        )
        shown = 1 - expected if kind == "MONOCHROME1" else expected
        np.testing.assert_allclose(load(path, SMALL), shown, atol=1e-5)


def lut(table: np.ndarray, first: int, bits: int, packed: bool = False) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(table) % 2**16, first, bits])
    item.add_new("LUTData", "OW", table.astype("u1" if packed else "<u2").tobytes())
    return Sequence([item])


@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("kind", ["rising", "falling", "valley", "short", "packed"])
def test_tables(tmp_path: Path, name: str, kind: str) -> None:
    """Values before the first and behind the last entry get those; largest to smallest is shown."""
    x, first = np.arange(4096), 0
    table = {
        "rising": x // 2,
        "falling": 4095 - x,
        "valley": abs(x - 2000) + 50,
        "short": np.arange(256) * 16,
        "packed": np.arange(200)[::-1],
    }[kind]
    first = 1000 if kind in ("short", "packed") else 0
    values = stored(12, False)
    entries = table[np.clip(values.astype(int) - first, 0, len(table) - 1)]
    path = dicom(tmp_path / "a.dcm", values, **{name: lut(table, first, 12 - 4 * (kind == "packed"),
                 kind == "packed")})  # fmt: skip
    expected = (entries - table.min()) / (table.max() - table.min())
    np.testing.assert_allclose(load(path, SMALL), expected, atol=1e-6)


def test_a_modality_table_then_a_window_and_a_voi_table_on_rescaled_values(tmp_path: Path) -> None:
    values, table = stored(12, False), np.arange(4096)[::-1]
    path = dicom(
        tmp_path / "a.dcm", values, ModalityLUTSequence=lut(table, 0, 12),
        WindowCenter=2000, WindowWidth=101,
    )  # fmt: skip
    expected = np.clip((4095.0 - values - 1999.5) / 100 + 0.5, 0, 1)
    np.testing.assert_allclose(load(path, SMALL), expected, atol=1e-6)
    table = np.arange(1001)
    path = dicom(
        tmp_path / "a.dcm", values, VOILUTSequence=lut(table, 500, 10),
        RescaleSlope=-1, RescaleIntercept=2000, WindowCenter=1, WindowWidth=2,
    )  # fmt: skip
    expected = np.clip(2000.0 - values - 500, 0, 1000) / 1000
    np.testing.assert_allclose(load(path, SMALL), expected, atol=1e-6)


def test_bits_beyond_the_stored_ones_are_no_value(tmp_path: Path) -> None:
    """Old files keep overlays in them."""
    values = stored(12, False)
    path = dicom(tmp_path / "a.dcm", values | np.uint16(0xA000), bits=12)
    np.testing.assert_allclose(load(path, SMALL), values / 4095, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 1}, "RescaleSlope 0 gives every pixel the same"),
        (
            {"WindowCenter": 1, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
            "VOILUTFunction 'CUBIC'",
        ),
        ({"VOILUTSequence": lut(np.zeros(4096), 0, 12)}, "every pixel the same value"),
        ({"HighBit": 15}, "12 of 16 bits with the highest at 15"),
        ({"BitsStored": 17, "HighBit": 16}, "17 of 16 bits"),
    ],
)
def test_what_cannot_be_shown_is_refused(tmp_path: Path, fields: dict, words: str) -> None:
    assert words in refused(dicom(tmp_path / "a.dcm", stored(12, False), **fields))


def test_short_tables_and_long_pixels_are_refused(tmp_path: Path) -> None:
    values, short = stored(12, False), lut(np.arange(100), 0, 12)
    short[0].LUTDescriptor = [200, 0, 12]
    message = refused(dicom(tmp_path / "a.dcm", values, VOILUTSequence=short))
    assert "VOILUTSequence announces 200 values of 12 bits and has 100" in message
    more = values.tobytes() + b"\0" * 40
    assert load(dicom(tmp_path / "a.dcm", values, PixelData=more), SMALL).shape == (16, 16)
    more = values.tobytes() + b"\0\1" * 20
    assert "552 bytes of pixels" in refused(dicom(tmp_path / "a.dcm", values, PixelData=more))
