"""The ECG adapter against NumPy, closed forms and a decoder of format 212 written out here."""

from __future__ import annotations

import builtins
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wfdb
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from multimodal.batch import Batch
from multimodal.errors import UserError
from multimodal.modalities import MODALITIES, ecg
from multimodal.modalities.ecg import LEADS, EcgConfig
from multimodal.modalities.ecg_signal import band_passed, interpolated, resampled, runs
from multimodal.recordings import Recording

RATE = 250
MIMIC = ["I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6"]


def write(
    folder: Path,
    digital: np.ndarray,
    names: list[str],
    *,
    rate: int = RATE,
    form: str = "16",
    unit: str = "mV",
    gain: float = 1000.0,
    name: str = "rec",
) -> Path:
    """Digital samples (T, k) as a WFDB record with baseline 0."""
    count = len(names)
    options: dict[str, Any] = {
        "fs": rate,
        "units": [unit] * count,
        "sig_name": names,
        "d_signal": digital.astype(np.int64),
        "fmt": [form] * count,
        "adc_gain": [gain] * count,
        "baseline": [0] * count,
        "write_dir": str(folder),
    }
    wfdb.wrsamp(name, **options)
    return folder / f"{name}.dat"


def noise(steps: int = 1000, leads: int = 12, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-900, 900, (steps, leads))


def recording(path: Path, **fields: Any) -> Recording:
    return Recording(path.name, (0,), "train", path=path, **fields)


def load(path: Path, config: EcgConfig | None = None, **fields: Any) -> torch.Tensor:
    return (config or EcgConfig()).build().load(recording(path, **fields))


def refused(path: Path, config: EcgConfig | None = None, **fields: float) -> str:
    with pytest.raises(UserError) as caught:
        (config or EcgConfig()).build().load(recording(path, **fields))
    message = str(caught.value)
    assert "\n" not in message
    assert path.stem in message
    return message


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


def test_runs_and_interpolation_by_hand() -> None:
    bad = np.array([True, False, True, True, False, True])
    assert runs(bad) == [(0, 1), (2, 4), (5, 6)]
    assert runs(~bad) == [(1, 2), (4, 5)]
    assert runs(np.zeros(3, bool)) == []
    samples = np.array([[np.nan, 1, np.nan, np.nan, 4, np.nan]], dtype=np.float32)
    assert interpolated(samples, bad[None]).tolist() == [[1, 1, 2, 3, 4, 4]]


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


def bump(rate: int, seconds: float = 10.0) -> np.ndarray:
    """A sum of sines below 20 Hz on an offset, in mV."""
    time = np.arange(round(rate * seconds)) / rate
    waves = [0.5 * np.sin(2 * np.pi * f * time + f) / (1 + f / 4) for f in (1.0, 5.0, 19.0)]
    return 1.5 + np.sum(waves, axis=0)


@pytest.mark.parametrize("rate", [100, 250, 360, 500])
@pytest.mark.parametrize("target", [100, 250, 500])
def test_resampling_keeps_waves_amplitude_and_offset(rate: int, target: int) -> None:
    out = resampled(bump(rate)[None].astype(np.float32), rate, target)
    assert out.shape == (1, 10 * target)
    error = np.abs(out[0] - bump(target))
    assert error[target // 2 : -target // 2].max() < 2e-3
    assert error.max() < 0.3  # no ringing of the size of the offset at the ends


def test_files_are_resampled(tmp_path: Path) -> None:
    digital = np.round(bump(360)[:, None] * 1000)
    signal = load(write(tmp_path, digital, ["II"], rate=360), EcgConfig(sample_rate=100))
    assert signal.shape == (12, 1000)
    assert np.abs(signal[1].numpy() - bump(100))[50:-50].max() < 3e-3


def test_band_pass_equals_its_closed_form() -> None:
    # Forwards and backwards: the gain is |H|^2 of an analogue-prototype Butterworth at the
    # pre-warped frequency, the phase is zero.
    rate, low, high = 250, 1.0, 40.0
    time = np.arange(40 * rate) / rate

    def warp(f: float) -> float:
        return float(np.tan(np.pi * f / rate))

    for f in (0.3, 1.0, 7.0, 40.0, 80.0):
        out = band_passed(np.cos(2 * np.pi * f * time)[None].astype(np.float32), (low, high), rate)
        w, a, b = warp(f), warp(low), warp(high)
        gain = 1 / (1 + ((w * w - a * b) / (w * (b - a))) ** 4)
        middle = slice(15 * rate, 25 * rate)
        np.testing.assert_allclose(
            out[0, middle], gain * np.cos(2 * np.pi * f * time)[middle], atol=2e-3
        )


def test_filter_works_on_the_whole_record_before_the_cut(tmp_path: Path) -> None:
    path = write(tmp_path, noise(2000, 2), ["II", "V1"])
    config = EcgConfig(band_pass=(0.5, 40.0))
    whole = load(path, config)
    part = load(path, config, start=2.0, duration=0.5)
    np.testing.assert_array_equal(part.numpy(), whole[:, 500:625].numpy())
    assert load(write(tmp_path, noise(3, 1), ["I"], name="tiny"), config).shape == (12, 3)


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
    monkeypatch.setattr(ecg, "read_millivolts", lambda *a: reads.append(a[1:]) or real(*a))
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


@pytest.mark.parametrize("form", ["16", "212"])
@pytest.mark.parametrize("keep", [0, 1, 500, -1])
def test_truncated_files(tmp_path: Path, form: str, keep: int) -> None:
    path = write(tmp_path, noise(), list(LEADS), form=form)
    path.write_bytes(path.read_bytes()[:keep])
    assert ("empty file" if keep == 0 else "truncated") in refused(path)
    assert ("empty file" if keep == 0 else "truncated") in refused(path, start=0.5, duration=0.1)


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "gone.dat")
    path = write(tmp_path, noise(), list(LEADS))
    for text, words in {
        "": "not a WFDB record",
        "rec": "not a WFDB record",
        "\x00\xff rec": "not a WFDB record",
        "rec 12 x y\n": "samples at 250 Hz; nothing can be read",
        "rec 0 250 1000\n": "0 signals",
    }.items():
        (tmp_path / "rec.hea").write_text(text)
        assert words in refused(path), text
    write(tmp_path, noise(), list(LEADS))
    path.unlink()
    assert "no such file" in refused(path)
    assert "names rec.dat, but there is no" in refused(tmp_path / "rec.hea")
    with pytest.raises(UserError, match="neither a file nor a made array"):
        EcgConfig().build().load(Recording("x", (0,), "train"))


def test_without_wfdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, noise(), list(LEADS), name="unseen")
    real = builtins.__import__

    def absent(name: str, *args: Any, **options: Any) -> Any:
        if name == "wfdb":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match=r"pip install 'medley\[medical\]'"):
        load(path)


def batch_of(signals: list[torch.Tensor], extra: int = 0) -> Batch:
    lengths = torch.tensor([s.shape[1] for s in signals])
    inputs = torch.zeros(len(signals), 12, int(lengths.max()) + extra)
    for row, signal in zip(inputs, signals, strict=True):
        row[:, : signal.shape[1]] = signal
    index = torch.arange(len(signals))
    return Batch(inputs, lengths, torch.zeros_like(index), index)


def test_front_end_keeps_amplitudes_and_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    signals = [torch.randn(12, n, generator=generator) + 3 for n in (40, 25)]
    signals[0][[0, 7]] = 0
    front_end = EcgConfig(lead_mask=True, scale_mv=0.5).build().front_end()
    assert not list(front_end.parameters())
    values, lengths = front_end(batch_of(signals))
    assert values.shape == (2, 24, 40)
    assert lengths.tolist() == [40, 25]
    for row, signal in zip(values, signals, strict=True):
        x = signal.numpy().astype(np.float64)
        expected = (x - x.mean(1, keepdims=True)) / 0.5
        np.testing.assert_allclose(row[:12, : x.shape[1]].numpy(), expected, atol=1e-5)
        assert not row[:, x.shape[1] :].any()
    assert values[0, 12:].amax(1).tolist() == [0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]
    assert values[1, 12:, :25].eq(1).all()
    padded = front_end(batch_of(signals, extra=9)).values
    torch.testing.assert_close(padded[..., :40], values)
    # Twice the amplitude is twice the feature, and an offset stays without ``centre``.
    double = front_end(batch_of([2 * s for s in signals])).values
    torch.testing.assert_close(double[:, :12], 2 * values[:, :12], atol=1e-5, rtol=1e-5)
    raw = EcgConfig(centre=False, scale_mv=1.0).build().front_end()(batch_of(signals)).values
    assert raw.equal(batch_of(signals).inputs)


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
