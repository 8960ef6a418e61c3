"""WFDB records as they lie about: rates, skew, segments, sparse headers, and files that lie."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from multimodal.errors import UserError
from multimodal.modalities import ecg
from multimodal.modalities.ecg import EcgConfig
from multimodal.modalities.wfdb_files import check_sums, read_header, read_millivolts
from tests.multimodal.modalities.ecg_files import load, noise, refused, write_text


def wave(rate: float, seconds: float, hertz: float) -> np.ndarray:
    """Digital samples of 1 mV at 1000 a mV."""
    time = np.arange(round(rate * seconds)) / rate
    return np.round(1000 * np.sin(2 * np.pi * hertz * time + 1)).astype("<i2")


@pytest.mark.parametrize("frame_rate", [62.5, 125, 62.4725, 100])
@pytest.mark.parametrize("target", [250, 500])
def test_every_lead_has_its_own_rate(tmp_path: Path, frame_rate: float, target: int) -> None:
    """40 Hz and 10 Hz, sampled 4, 2 and 8 times a frame, against the sines themselves."""
    rates, hertz, seconds = (4, 2, 8), (40.0, 10.0, 40.0), 1600 / frame_rate
    leads = [wave(frame_rate * r, seconds, f) for r, f in zip(rates, hertz, strict=True)]
    frames = np.concatenate([s.reshape(1600, -1) for s in leads], axis=1)
    lines = [f"rec 3 {frame_rate} 1600"]
    lines += [f"rec.dat 16x{r} 1000/mV 16 0 {s[0]} {int(s.sum()) % 65536} 0 {n}"
              for r, s, n in zip(rates, leads, ("II", "V1", "aVR"), strict=True)]  # fmt: skip
    path = write_text(tmp_path, "\n".join(lines), rec=frames.astype("<i2"))
    signal = load(path, EcgConfig(sample_rate=target)).numpy()
    assert signal.shape == (12, round(seconds * target))
    time = np.arange(signal.shape[1]) / target
    inner = slice(target, -target)
    for row, f in ((1, 40.0), (6, 10.0), (3, 40.0)):
        expected = np.sin(2 * np.pi * f * time + 1)
        assert np.abs(signal[row] - expected)[inner].max() < 4e-3
    part = load(path, EcgConfig(sample_rate=target), start=4.0, duration=2.0).numpy()
    np.testing.assert_array_equal(part, signal[:, 4 * target : 6 * target])


def test_parts_of_long_records_with_several_rates(tmp_path: Path, monkeypatch) -> None:
    fast, slow = wave(500, 60, 30.0), wave(125, 60, 7.0)
    fast[0], slow[0] = 7, 7  # else the sums are zero, as if not stated
    frames = np.concatenate([fast.reshape(-1, 4), slow.reshape(-1, 1)], axis=1)
    sums = [int(s.sum()) % 65536 for s in (fast, slow)]
    lines = f"rec 2 125\nrec.dat 16x4 1000 16 0 {fast[0]} {sums[0]} 0 I\n"
    lines += f"rec.dat 16 1000 16 0 {slow[0]} {sums[1]} 0 V6\n"
    path = write_text(tmp_path, lines, rec=frames).with_suffix(".dat")
    whole = load(path)
    monkeypatch.setattr(ecg, "LARGEST_WHOLE", 1000)
    np.testing.assert_allclose(load(path, start=31.0, duration=3.0), whole[:, 7750:8500], atol=1e-3)
    frames[7, 2] += 1  # far from the part
    path.write_bytes(frames.tobytes())
    assert "the sum of signal 'I' is" in refused(path, start=31.0, duration=3.0)


def test_skew_in_frames_for_every_lead(tmp_path: Path) -> None:
    """Sample t of a lead stands at frame t + skew; what would lie behind the end is missing."""
    flat = np.arange(50 * 3, dtype="<i2")
    path = write_text(tmp_path, "rec 2 250 50\nrec.dat 16x2:3 1 16 0 0 0 0 I\nrec.dat 16 1 16\n"
                      .replace("1 16\n", "1 16 0 0 0 0 II\n"), rec=flat)  # fmt: skip
    one, two = read_millivolts(read_header(path), 0, 50, [0, 1])
    pairs = flat.reshape(50, 3)[:, :2]
    np.testing.assert_array_equal(one[:94], pairs[3:].reshape(-1))
    assert np.isnan(one[94:]).all()
    np.testing.assert_array_equal(two, flat.reshape(50, 3)[:, 2])
    part, _ = read_millivolts(read_header(path), 10, 20, [0, 1])
    np.testing.assert_array_equal(part, pairs[13:23].reshape(-1))


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("mV", 1.0), ("uV", 1e-3), ("\u00b5V", 1e-3), ("\u03bcV", 1e-3), ("\u00b5v", 1e-3), ("V", 1e3),
     ("nV", 1e-6), ("microvolts", 1e-3), ("Millivolt", 1.0)],
)  # fmt: skip
@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "latin-1"])
def test_units_in_any_coding(tmp_path: Path, unit: str, factor: float, coding: str) -> None:
    digital = noise(leads=1)[:, 0].astype("<i2")
    text = f"rec 1 250 1000\nrec.dat 16 50000(4)/{unit} 16 0 0 0 0 II\n"
    if unit == "\u03bcV" and coding == "latin-1":
        return
    path = write_text(tmp_path, text.encode(coding), rec=digital)
    expected = (digital - 4) / 50000 * factor
    np.testing.assert_allclose(load(path)[1].numpy(), expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("record", "signal", "scale"),
    [
        ("rec 1 250 1000", "rec.dat 16 100(5)/mV 12 0 0 0 0 II", (5, 100)),
        ("rec 1 250 1000 12:00:00 24/13/0000", "rec.dat 16 100 II", (0, 100)),
        ("rec 1 250/60(3.5) 1000 0:0:0", "rec.dat 16 0 12 7 0 0 0 II", (7, 200)),
        ("rec 1 250", "rec.dat 16 1e2/mV 12 7 0 0 0 II", (7, 100)),
        ("rec 1 250 0", "rec.dat 16 100(0)/mV 12 7 0 0 0  II", (0, 100)),
        ("rec 1", "rec.dat 16x1:0+0 -100.0(+3) 12 7 0 0 0\tII", (3, -100)),
        ("rec.2 1 250.0", "rec.dat 16 0.1e3(-3)/mV II", (-3, 100)),
        ("rec 1 250 1000", "rec.dat 16 1000(0.0)/mV 16 7 0 0 0 II", (0, 1000)),
        ("rec 1 250 1000", "./rec.dat 16 200(-12.5)/mV 16 0 0 0 0 II", (-12.5, 200)),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n# a comment\n   \n"])
def test_sparse_headers(tmp_path: Path, record: str, signal: str, scale, end: str) -> None:
    """The defaults of header(5): 250 Hz, 200 a mV, baseline = ADC zero, length from the bytes."""
    digital = noise(leads=1)[:, 0].astype("<i2") // 10
    path = write_text(tmp_path, end.join(["#first", "", record, signal, ""]), rec=digital)
    expected = (digital - scale[0]) / scale[1]
    np.testing.assert_allclose(load(path)[1].numpy(), expected, rtol=1e-6)


def test_signals_that_are_left_out_may_be_anything(tmp_path: Path) -> None:
    digital = np.stack([np.arange(500), np.arange(500) + 7], axis=1).astype("<i2")
    lines = "rec 2 250 500\nrec.dat 16 1000 16 0 0 0 0 II\nrec.dat 16 10/mmHg 16 0 0 0 0 ABP\n"
    path = write_text(tmp_path, lines, rec=digital)
    config = EcgConfig.parse({"lead_names": {"ABP": None}})
    np.testing.assert_allclose(load(path, config)[1], digital[:, 0] / 1000, atol=1e-7)
    assert "is in 'mmHg'" in refused(path, EcgConfig.parse({"lead_names": {"ABP": "V1"}}))


def test_large_baselines_are_exact(tmp_path: Path) -> None:
    digital = (2**30 + np.arange(500)).astype("<i4")
    lines = f"rec 1 250 500\nrec.dat 32 1000({2**30})/mV 32 0 0 0 0 II\n"
    signal = load(write_text(tmp_path, lines, rec=digital))[1]
    np.testing.assert_allclose(signal, np.arange(500) / 1000, atol=1e-7)


def segments(folder: Path, layout: bool) -> tuple[Path, np.ndarray]:
    """Three segments and a gap of 30 frames; (header, (2, 330) mV with NaN)."""
    a, b, c = (noise(100, 2, seed).astype("<i2") for seed in range(3))
    names = ("II", "V1")
    for key, array, order in (("a", a, (0, 1)), ("b", b, (1, 0)), ("c", c, (0,))):
        order = order if layout else (0, 1)
        lines = [f"{key} {len(order)} 250 100"]
        lines += [f"{key}.dat 16 {500 * (i + 1)} 16 0 0 0 0 {names[i]}" for i in order]
        write_text(folder, "\n".join(lines), key, **{key: array[:, list(order)]})
    write_text(folder, "lay 2 250 0\n~ 0 500 16 0 0 0 0 II\n~ 0 1000 16 0 0 0 0 V1\n", "lay")
    first = "lay 0\n" if layout else ""
    count = 5 if layout else 4
    path = write_text(folder, f"rec/{count} 2 250 330\n{first}a 100\n~ 30\nb 100\nc 100\n")
    gap = np.full((30, 2), np.nan)
    expected = np.concatenate([a, gap, b, c]) / [500, 1000]
    if layout:
        expected[230:, 1] = np.nan
    return path, expected.T


@pytest.mark.parametrize("layout", [True, False])
def test_records_of_segments(tmp_path: Path, layout: bool) -> None:
    path, expected = segments(tmp_path, layout)
    header = read_header(path)
    assert (header.names, header.frames) == (("II", "V1"), 330)
    for first, last in ((0, 330), (90, 245), (110, 115)):
        found = np.stack(read_millivolts(header, first, last, [0, 1]))
        np.testing.assert_allclose(found, expected[:, first:last], rtol=1e-6)
    check_sums(header)
    assert "lead II misses 30 samples in a row at 0.40 s" in refused(path)
    part = load(path, start=0.52, duration=0.3)
    np.testing.assert_allclose(part[[1, 6]], expected[:, 130:205], atol=1e-6)
    path.write_text(path.read_text().replace(" 330", " 331"))
    assert "331 frames, its segments hold 330" in refused(path)
    path.write_text(path.read_text().replace(" 331", "").replace("c 100", "c 99"))
    assert "segment c has 100 frames, not 99" in refused(path)


@pytest.mark.parametrize("form", ["8", "16", "24", "212", "310", "311"])
@pytest.mark.parametrize("change", [-40, -3, 3, 40, 4000])
def test_files_of_other_lengths_are_refused(tmp_path: Path, form: str, change: int) -> None:
    from tests.multimodal.modalities.test_wfdb_formats import packed

    content = packed(form, np.arange(600) % 100)
    lines = f"rec 2 250 300\nrec.dat {form} 200 12 0 0 0 0 II\nrec.dat {form} 200 12 0 0 0 0 V1\n"
    path = write_text(tmp_path, lines).with_suffix(".dat")
    path.write_bytes(content)
    assert load(path).shape == (12, 300)
    longer = content + bytes(max(0, change))
    path.write_bytes(longer[: len(content) + change])
    assert ("truncated" if change < 0 else "its header announces") in refused(path)
    assert "rec.dat" in refused(path, start=0.1, duration=0.1)


@pytest.mark.parametrize("form", ["8", "16", "212"])
def test_sums_and_first_values_are_compared(tmp_path: Path, form: str) -> None:
    from tests.multimodal.modalities.test_wfdb_formats import packed

    digital = np.abs(noise(400, 1)[:, 0]) % 100 + 5
    digital[0] = 5
    total, start = int(digital.sum()), 0 if form == "8" else 5
    (tmp_path / "rec.dat").write_bytes(packed(form, digital))
    for announced in (total, total - 65536, total + 65536, 0):
        write_text(tmp_path, f"rec 1 250 400\nrec.dat {form} 200 12 0 {start} {announced} 0 II\n")
        assert load(tmp_path / "rec.hea").shape == (12, 400)
    text = f"rec 1 250 400\nrec.dat {form} 200 12 0 {start} {total + 1} 0 II\n"
    assert f"the sum of signal 'II' is {total % 65536}" in refused(write_text(tmp_path, text))
    if form != "8":
        text = f"rec 1 250 400\nrec.dat {form} 200 12 0 6 {total} 0 II\n"
        assert "the first value of signal 'II' is 5" in refused(write_text(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rec 1 0.01 500\nrec.dat 16 200 12 0 0 0 0 II", "0.01 samples a second are no ECG's"),
        ("rec 1 1e9 500\nrec.dat 16 200 12 0 0 0 0 II", "1e+09 samples a second"),
        ("rec 1 1e999 500\nrec.dat 16 200 12 0 0 0 0 II", "inf frames a second"),
        ("rec 1 0 500\nrec.dat 16 200 12 0 0 0 0 II", "0 frames a second"),
        ("rec 1 250 500\nrec.dat 16:100000000 200 12 0 0 0 0 II", "100000000 of 500 frames late"),
        ("rec 1 250 500\nrec.dat 16x100000000 200 12 0 0 0 0 II", "truncated, 1000 of"),
        ("rec 1 250 999999999999\nrec.dat 16 200 12 0 0 0 0 II", "truncated, 1000 of"),
        ("rec 1 250 999999999999\n~ 0 200 12 0 0 0 0 II", "hours of 1 leads are too much"),
        ("rec 1 250 500\n~ 0 200 12 0 0 0 0 II", "no lead has a single sample"),
        ("rec 1 250\n~ 0 200 12 0 0 0 0 II", "no length and no sample"),
        ("rec/2 1 250\nrec 500\n~ 999999999999", "segment rec of other segments"),
        ("rec 1 250 500\nrec.dat 99 200 12 0 0 0 0 II", "storage format 99 is none of 8, 16"),
        ("rec 1 250 500\n../rec.dat 16 200 12 0 0 0 0 II", "lies in another folder"),
        ("rec 2 250 250\nrec.dat 16 200\nrec.dat 212 200", "of several formats"),
        ("rec 2 250 250\nrec.dat 16 200", "announces 2 signals and describes 1"),
        ("rec 1 250 500\nrec.dat 16+2000 200 12 0 0 0 0 II", "truncated, 1000 of 3000"),
        ("rec 1 250 500\nrec.dat 516 200 12 0 0 0 0 II", "damaged or no FLAC file"),
        ("rec 1 250 500\nrec.dat 16 1e999 12 0 0 0 0 II", "gain inf"),
    ],
)
def test_absurd_headers_give_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = write_text(tmp_path, text, rec=np.arange(500, dtype="<i2"))
    assert words in refused(path)


@pytest.mark.parametrize(
    "fields",
    ["200(0,0)/mV 16 0 0 0 0 II", "200(0/mV 16 0 0 0 0 II", "2OO/mV 16 0 0 0 0 II",
     "nan/mV 16 0 0 0 0 II", "200() 16 0 0 0 0 II", "(x)/mV 16 0 0 0 0 II", "200/ 16 0 0 0 0 II",
     "200/mV 16.0 1024 0 0 0 II", "200/mV 16 0 nan 0 0 II", "200/mV 16 0 0 -1e3 0 II"],
)  # fmt: skip
def test_a_damaged_field_is_no_part_of_a_name(tmp_path: Path, fields: str) -> None:
    """Else the gain would be the default 200 and the baseline 0, without a word."""
    text = f"rec 1 250 500\nrec.dat 16 {fields}\n"
    path = write_text(tmp_path, text, rec=np.arange(500, dtype="<i2"))
    config = EcgConfig.parse({"lead_names": {fields: "II"}})
    assert "damaged or not a WFDB record (signal 'rec.dat 16 " in refused(path, config)


@pytest.mark.realdata
@pytest.mark.parametrize("pattern", ["mitbih/*.hea", "cinc2021/*.hea"])
def test_real_records_are_intact(real_data: Path, pattern: str, monkeypatch) -> None:
    """Sums and first values agree, and are stated: one changed digit is found."""
    paths = sorted(real_data.glob(pattern))
    assert len(paths) > 20
    for path in paths[:: 5 if "mitbih" in pattern else 1]:
        header = read_header(path)
        check_sums(header)
        assert header.pieces[0].file
        assert sum(bool(s.checksum) for s in header.pieces[0].file.signals) > len(header.names) / 2
    monkeypatch.setattr(ecg, "LARGEST_WHOLE", 1000)
    assert load(paths[0], start=5.0, duration=1.0).any()


def test_a_real_checksum_line_by_hand(tmp_path: Path) -> None:
    text = "rec 1 250 3\nrec.dat 16 200 16 0 3 -4 0 II\n"
    path = write_text(tmp_path, text, rec=np.array([3, -10, 3], dtype="<i2"))
    check_sums(read_header(path))
    (tmp_path / "rec.dat").write_bytes(np.array([3, -9, 3], dtype="<i2").tobytes())
    with pytest.raises(UserError, match=re.escape("is 65533, its header announces -4")):
        check_sums(read_header(path))
