"""Storage formats of WFDB against bytes packed here by the specification, and against ``wfdb``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import wfdb

from multimodal.modalities.wfdb_files import read_header, read_millivolts
from multimodal.modalities.wfdb_formats import BLOCKS, FLAC_BITS, MISSING, bytes_of, samples_in
from tests.multimodal.modalities.ecg_files import refused, write_text

BITS = {"8": 7, "16": 16, "24": 24, "32": 32, "61": 16, "80": 8, "160": 16, "212": 12}
BITS |= {"310": 10, "311": 10, **FLAC_BITS}


def packed(form: str, samples: np.ndarray) -> bytes:
    """One sample after another, as integers of any length and shifts: slow and plain."""
    if form == "8":
        return np.diff(samples, prepend=0).astype(np.int8).tobytes()
    out = bytearray()
    if form in ("212", "310", "311"):
        in_block = BLOCKS[form][0]
        mask = (1 << BITS[form]) - 1
        for begin in range(0, len(samples), in_block):
            s = [int(v) & mask for v in samples[begin : begin + in_block]]
            count = len(s)
            s += [0] * (in_block - count)
            if form == "212":
                block = bytes([s[0] & 255, s[0] >> 8 | s[1] >> 8 << 4, s[1] & 255])
            elif form == "310":
                low = s[0] << 1 | (s[2] & 31) << 11
                block = (low | (s[1] << 1 | s[2] >> 5 << 11) << 16).to_bytes(4, "little")
            else:
                block = (s[0] | s[1] << 10 | s[2] << 20).to_bytes(4, "little")
            out += block[: bytes_of(form, count)[0]]
        return bytes(out)
    size, offset = BITS[form] // 8, {"80": 128, "160": 32768}.get(form, 0)
    for value in samples:
        whole = (int(value) + offset) & ((1 << BITS[form]) - 1)
        out += whole.to_bytes(size, "big" if form == "61" else "little")
    return bytes(out)


def stored(form: str, count: int, seed: int = 0) -> np.ndarray:
    """(count,) values of the whole range of a format, the smallest and the largest among them."""
    if form == "8":
        return np.random.default_rng(seed).integers(-128, 128, count).cumsum()
    top = 2 ** (BITS[form] - 1)
    values = np.random.default_rng(seed).integers(-top, top, count)
    values[0], values[-1] = -top, top - 1
    return values


@pytest.mark.parametrize("form", list(BLOCKS))
@pytest.mark.parametrize("frames", [1, 2, 3, 4, 50, 51, 52])
@pytest.mark.parametrize("rates", [(1,), (1, 1), (4, 1, 2)])
def test_every_format_in_whole_and_in_part(
    tmp_path: Path, form: str, frames: int, rates: tuple[int, ...]
) -> None:
    table = [stored(form, frames * rate, seed) for seed, rate in enumerate(rates)]
    flat = np.concatenate(
        [s.reshape(frames, rate) for s, rate in zip(table, rates, strict=True)], axis=1
    ).reshape(-1)
    if form == "8":
        differences = [np.diff(s, prepend=0).reshape(frames, -1) for s in table]
        content = np.concatenate(differences, axis=1).astype(np.int8).tobytes()
    else:
        content = packed(form, flat)
    (tmp_path / "rec.dat").write_bytes(content)
    lines = [f"rec {len(rates)} 100 {frames}"]
    for s, rate, name in zip(table, rates, "abc", strict=False):
        total = int(s.sum()) % 65536
        lines.append(f"rec.dat {form}x{rate} 1(0)/mV 0 0 0 {total} 0 {name}")
    header = read_header(write_text(tmp_path, "\n".join(lines)))
    assert (header.frames, header.per_frame) == (frames, rates)
    for first, last in {(0, frames), (frames // 2, frames), (frames // 3, frames - frames // 3)}:
        found = read_millivolts(header, first, last, range(len(rates)))
        for values, s, rate in zip(found, table, rates, strict=True):
            expected = s[first * rate : last * rate].astype(np.float32)
            expected[s[first * rate : last * rate] == MISSING.get(form)] = np.nan
            np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("form", list(BLOCKS))
def test_the_library_reads_the_same(tmp_path: Path, form: str) -> None:
    values = stored(form, 3 * 40)
    if form == "311":
        values = abs(values)  # the library takes a bit too many of the third sample
    (tmp_path / "rec.dat").write_bytes(packed(form, values))
    path = write_text(tmp_path, f"rec 1 100 40\nrec.dat {form}x3 200(7)/mV 0 0 0 0 0 II\n")
    peer: Any = wfdb.rdrecord(str(path.with_suffix("")), smooth_frames=False)
    ours = read_millivolts(read_header(path), 0, 40, [0])
    np.testing.assert_allclose(ours[0], peer.e_p_signal[0], rtol=1e-6)


@pytest.mark.parametrize("form", list(BLOCKS))
def test_sizes_are_those_of_packed_samples(form: str) -> None:
    for count in range(1, 20):
        fewest, most = bytes_of(form, count)
        assert len(packed(form, np.zeros(count, np.int64))) == fewest <= most
        assert count <= samples_in(form, fewest) <= samples_in(form, most)
        assert samples_in(form, most) < count + BLOCKS[form][0]


@pytest.mark.parametrize("form", list(FLAC_BITS))
@pytest.mark.parametrize("rate", [1, 3])
def test_flac(tmp_path: Path, form: str, rate: int) -> None:
    bits, frames = FLAC_BITS[form], 1000
    values = np.stack([stored(form, frames * rate, seed) for seed in range(2)], axis=1)
    subtype = {8: "PCM_S8", 16: "PCM_16", 24: "PCM_24"}[bits]
    shifted = (values << (32 - bits)).astype(np.int32)
    soundfile.write(tmp_path / "rec.dat", shifted, 250, subtype, format="FLAC")
    sums = values.sum(axis=0) % 65536
    lines = [f"rec.dat {form}x{rate} 1/mV 0 0 0 {s} 0 {n}" for s, n in zip(sums, "ab", strict=True)]
    for length in (f" {frames}", ""):
        path = write_text(tmp_path, "\n".join([f"rec 2 250{length}", *lines]))
        header = read_header(path)
        assert header.frames == frames
        for first, last in ((0, frames), (137, 138), (900, 1000)):
            found = np.stack(read_millivolts(header, first, last, [0, 1]), axis=1)
            part = values[first * rate : last * rate]
            expected = np.where(part == MISSING[form], np.nan, part)
            np.testing.assert_array_equal(found, expected.astype(np.float32))
        if length:  # which the library needs
            peer: Any = wfdb.rdrecord(
                str(path.with_suffix("")), physical=False, smooth_frames=False
            )
            np.testing.assert_array_equal(np.stack(peer.e_d_signal, axis=1), values)
    content = (tmp_path / "rec.dat").read_bytes()
    (tmp_path / "rec.dat").write_bytes(content[: len(content) // 2])
    write_text(tmp_path, f"rec 2 250 {frames}\nrec.dat {form}x{rate}\nrec.dat {form}x{rate} 1 0\n")
    with pytest.raises(ValueError, match=r"rec\.dat: (truncated|damaged)"):
        read_millivolts(read_header(path), 0, frames, [0, 1])
    write_text(tmp_path, f"rec 2 250 {frames + 1}\nrec.dat {form}x{rate}\nrec.dat {form}x{rate}\n")
    assert "truncated" in refused(path)
