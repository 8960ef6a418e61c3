"""The ECG adapter against NumPy and a decoder of format 212 written out here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.errors import UserError
from multimodal.modalities import MODALITIES, ecg
from multimodal.modalities.ecg import LEADS, EcgConfig
from multimodal.recordings import Recording
from tests.multimodal.modalities.ecg_files import RATE, load, noise, recording, refused, write

MIMIC = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]


def test_registered_and_adapter_attributes() -> None:
    adapter = MODALITIES.parse({"name": "ecg", "band_pass": [0.5, 40]}).build()  # pyright: ignore
    assert (adapter.length_axis, adapter.axes, adapter.channels) == (-1, 1, 12)
    assert adapter.dtype == torch.float32
    assert EcgConfig(lead_mask=True).build().channels == 24
    assert adapter.describe("V")[0] == "ventricular ectopic beat"
    assert all("my class" in prompt for prompt in adapter.describe("my_class"))


def test_fingerprint_changes_exactly_with_what_changes_the_signal() -> None:
    def fingerprint(**fields: Any) -> str:
        return EcgConfig(**fields).build().fingerprint

    assert fingerprint() == fingerprint(scale_mv=1.0, centre=False, lead_mask=True)
    changes = [
        {"sample_rate": 100},
        {"seconds": 2.0},
        {"band_pass": (0.5, 40.0)},
        {"max_gap_seconds": 0.2},
        {"lead_names": {"ECG": "II"}},
        {"lead_names": {"ECG": None}},
    ]
    assert len({fingerprint(), *(fingerprint(**c) for c in changes)}) == 1 + len(changes)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"sample_rate": 10}, "sample_rate"),
        ({"band_pass": [40, 0.5]}, "0 < low < high < sample_rate / 2 = 125 Hz"),
        ({"band_pass": [0.5, 125.0]}, "band_pass"),
        ({"seconds": 0}, "seconds"),
        ({"lead_names": {"ECG": "V7"}}, "lead_names"),
        ({"scale_mv": 0}, "scale_mv"),
    ],
)
def test_config_refuses(fields: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        EcgConfig.parse(fields)


@pytest.mark.parametrize("form", ["16", "212"])
@pytest.mark.parametrize("names", [list(LEADS), MIMIC, [n.upper() for n in reversed(LEADS)]])
def test_leads_are_found_by_name(tmp_path: Path, form: str, names: list[str]) -> None:
    digital = noise()
    path = write(tmp_path, digital, names, form=form)
    signal = load(path)
    assert (signal.shape, signal.dtype) == ((12, 1000), torch.float32)
    upper = [n.upper() for n in names]
    for row, lead in enumerate(LEADS):
        expected = digital[:, upper.index(lead.upper())] / 1000
        np.testing.assert_allclose(signal[row].numpy(), expected, atol=1e-6)
    np.testing.assert_array_equal(load(tmp_path / "rec.hea").numpy(), signal.numpy())
    np.testing.assert_array_equal(load(tmp_path / "rec").numpy(), signal.numpy())


def test_missing_leads_are_zero_and_reported(tmp_path: Path) -> None:
    digital = noise(leads=2)
    path = write(tmp_path, digital, ["V5", "MLII"])  # record 114 has this order
    signal = load(path)
    np.testing.assert_allclose(signal[1].numpy(), digital[:, 1] / 1000, atol=1e-6)
    np.testing.assert_allclose(signal[10].numpy(), digital[:, 0] / 1000, atol=1e-6)
    others = [row for row in range(12) if row not in (1, 10)]
    assert not signal[others].any()
    missing = EcgConfig().build().missing_leads(recording(path))
    assert missing == tuple(LEADS[row] for row in others)


@pytest.mark.parametrize(("unit", "factor"), [("mV", 1.0), ("uV", 1e-3), ("V", 1e3)])
def test_units_become_millivolts(tmp_path: Path, unit: str, factor: float) -> None:
    path = write(tmp_path, noise(leads=1) // 10, ["II"], unit=unit)
    expected = (noise(leads=1)[:, 0] // 10) / 1000 * factor
    np.testing.assert_allclose(load(path)[1].numpy(), expected, rtol=1e-5, atol=1e-9)


def test_unknown_units_and_amplitudes_no_ecg_has(tmp_path: Path) -> None:
    assert "is in 'kPa', not in mV" in refused(write(tmp_path, noise(leads=1), ["II"], unit="kPa"))
    message = refused(write(tmp_path, noise(leads=1), ["II"], gain=1.0))
    assert "mV, no ECG does" in message


def test_unknown_lead_names(tmp_path: Path) -> None:
    path = write(tmp_path, noise(leads=2), ["ECG1", "vx"])
    assert "'ECG1' is no lead; leads: I, II" in refused(path)
    renamed = EcgConfig.parse({"lead_names": {"ecg1": "II", "vx": None}})
    np.testing.assert_allclose(load(path, renamed)[1].numpy(), noise(leads=2)[:, 0] / 1000)
    nothing = EcgConfig.parse({"lead_names": {"ecg1": None, "vx": None}})
    assert "leaves out all" in refused(path, nothing)
    twice = EcgConfig.parse({"lead_names": {"ecg1": "V2", "vx": "V2"}})
    assert "more than one signal is lead V2" in refused(path, twice)


def test_short_gaps_are_bridged_long_ones_named(tmp_path: Path) -> None:
    digital = np.tile(np.arange(1000)[:, None] - 500, (1, 2))
    digital[100:125, 0] = -32768  # NaN in format 16; 0.1 s
    path = write(tmp_path, digital, ["II", "V1"])
    np.testing.assert_allclose(load(path)[1].numpy(), (np.arange(1000) - 500) / 1000, atol=1e-6)
    digital[600:626, 1] = -32768
    path = write(tmp_path, digital, ["II", "V1"], name="long")
    assert "lead V1 misses 26 samples in a row at 2.40 s; raise max_gap" in refused(path)
    assert load(path, EcgConfig(max_gap_seconds=0.2)).isfinite().all()
    # Only parts with the gap suffer.
    assert load(path, start=0.0, duration=2.4).shape == (12, 600)
    assert "at 2.40 s" in refused(path, start=2.5, duration=1.0)
    assert load(path, start=2.504, duration=1.0).shape == (12, 250)


def test_leads_and_records_without_any_sample(tmp_path: Path) -> None:
    digital = noise(leads=2)
    digital[:, 0] = -32768
    signal = load(write(tmp_path, digital, ["I", "V6"]))
    assert not signal[:11].any()
    assert signal[11].any()
    digital[:, 1] = -32768
    assert "all NaN" in refused(write(tmp_path, digital, ["I", "V6"], name="blank"))


@settings(max_examples=25, deadline=None)
@given(start=st.floats(0, 3.9), duration=st.none() | st.floats(0.01, 9), limit=st.floats(0.01, 9))
def test_parts_are_slices(start: float, duration: float | None, limit: float, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    if not (folder / "parts.dat").exists():
        write(folder, noise(), list(LEADS), name="parts")
    path = folder / "parts.dat"
    signal = load(path, EcgConfig(seconds=limit), start=start, duration=duration)
    count = min(round(x * RATE) for x in (duration, limit) if x is not None)
    first = round(start * RATE)
    expected = noise()[first : first + count].T / 1000
    np.testing.assert_allclose(signal.numpy(), expected, atol=1e-6)


def test_long_records_are_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, noise(20_000, 2), ["II", "V1"], rate=360)
    config = EcgConfig(band_pass=(1.0, 40.0))
    short = load(path, config, start=30.0, duration=2.0)
    monkeypatch.setattr(ecg, "LARGEST_WHOLE", 1000)
    reads = []
    real = ecg.read_millivolts
    monkeypatch.setattr(ecg, "read_millivolts", lambda *a: reads.append(a[1:3]) or real(*a))
    part = load(path, config, start=30.0, duration=2.0)
    assert reads == [(20 * 360, 42 * 360)]
    np.testing.assert_allclose(part.numpy(), short.numpy(), atol=2e-3)
    assert "behind the end of the signal" in refused(path, config, start=99.0, duration=1.0)


def test_parts_outside_the_signal(tmp_path: Path) -> None:
    path = write(tmp_path, noise(), list(LEADS))
    for fields in ({"start": 4.0}, {"start": -0.5}, {"duration": 0.0}, {"duration": -1.0}):
        assert "signal that ends at 4.000 s" in refused(path, None, **fields)


def test_threads_decode_a_record_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, noise(5000), list(LEADS))
    adapter, reads = EcgConfig().build(), []
    real = ecg.read_millivolts
    monkeypatch.setattr(ecg, "read_millivolts", lambda *a: reads.append(a) or real(*a))
    parts = [recording(path, start=i / 10, duration=0.5) for i in range(150)]
    with ThreadPoolExecutor(8) as pool:
        signals = list(pool.map(adapter.load, parts))
    assert len(reads) == 1
    for part, signal in zip(parts, signals, strict=True):
        first = round(part.start * RATE)
        expected = noise(5000)[first : first + 125].T / 1000
        np.testing.assert_allclose(signal.numpy(), expected, atol=1e-6)


def test_a_replaced_file_is_read_again(tmp_path: Path) -> None:
    import os

    path = write(tmp_path, noise(), list(LEADS))
    adapter = EcgConfig().build()
    before = adapter.load(recording(path, start=1.0))
    write(tmp_path, noise(seed=1), list(LEADS))
    os.utime(path, ns=(1, 1))
    assert not adapter.load(recording(path, start=1.0)).equal(before)


def test_made_arrays_are_canonical_already() -> None:
    array = np.arange(12 * 500, dtype=np.float64).reshape(12, 500) / 1e4
    made = Recording("made", (0,), "train", make=lambda: array, start=1.0)
    signal = EcgConfig(seconds=0.5).build().load(made)
    np.testing.assert_array_equal(signal.numpy(), array[:, 250:375].astype(np.float32))
    for wrong in (array[:2], array[0], array[:, :0]):
        made = Recording("made", (0,), "train", make=lambda wrong=wrong: wrong)
        with pytest.raises(UserError, match=r"made: the made array has shape .* \(12, T\)"):
            EcgConfig().build().load(made)
    made = Recording("made", (0,), "train", make=lambda: array * np.nan)
    with pytest.raises(UserError, match="NaN"):
        EcgConfig().build().load(made)


def format_212(data: bytes) -> np.ndarray:
    """(T, 2) from three bytes a pair of 12-bit two's-complement samples."""
    b = np.frombuffer(data, dtype=np.uint8).reshape(-1, 3).astype(np.int64)
    pairs = np.stack([b[:, 0] | (b[:, 1] & 15) << 8, b[:, 2] | (b[:, 1] & 240) << 4], axis=1)
    return pairs - 4096 * (pairs > 2047)


@pytest.mark.realdata
@pytest.mark.parametrize(("record", "rows"), [("101", [1, 6]), ("114", [10, 1])])
def test_real_records_equal_the_format_written_out(record: str, rows: list[int], real_data: Path):
    path = real_data / "mitbih" / f"{record}.dat"
    expected = (format_212(path.read_bytes()) - 1024) / 200
    assert expected.shape == (650_000, 2)
    signal = load(path, EcgConfig(sample_rate=360)).numpy()
    np.testing.assert_allclose(signal[rows], expected.T, atol=1e-5)
    part = load(path, EcgConfig(sample_rate=360), start=100.0, duration=0.65).numpy()
    np.testing.assert_array_equal(part, signal[:, 36_000:36_234])
