"""WFDB records through the library ``wfdb``, with damage refused instead of shortened."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from multimodal.errors import UserError, how_to_install

FILE_ENDINGS = (".hea", ".dat", ".mat", ".atr")
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "µv": 1e-3, "μv": 1e-3, "v": 1e3}
BYTES_A_SAMPLE = {"8": 1, "16": 2, "24": 3, "32": 4, "61": 2, "80": 1, "160": 2, "212": 1.5}


class Header(NamedTuple):
    """names: of the signals. rate: Hz. frames: samples of each signal."""

    names: tuple[str, ...]
    rate: float
    frames: int


def record_name(path: Path) -> Path:
    """The record's path without an extension, by which WFDB calls it."""
    return path.with_suffix("") if path.suffix in FILE_ENDINGS else path


def stamp(path: Path) -> tuple[int, ...]:
    """Changes when the header or the file itself is replaced; UserError if one is missing."""
    name, ending = os.path.splitext(path)
    files = [f"{name}.hea", str(path)] if ending in FILE_ENDINGS else [f"{path}.hea"]
    times = []
    for file in files:  # called for every beat, so without Path and with one system call each
        try:
            times.append(os.stat(file).st_mtime_ns)
        except OSError as error:
            raise UserError(
                f"{file}: no such file; correct the path or restore the file."
            ) from error
    return tuple(times)


def read_header(path: Path) -> Header:
    """UserError for a damaged header and for data files shorter than it says."""
    header: Any = call_wfdb("rdheader", path)
    if not header.n_sig or not header.sig_len or not header.fs:
        raise UserError(
            f"{record_name(path)}.hea: it announces {header.n_sig} signals of {header.sig_len} "
            f"samples at {header.fs} Hz; nothing can be read."
        )
    if getattr(header, "file_name", None):  # records of several segments have none
        _refuse_short_files(path, header)
        names = tuple(map(str, header.sig_name))
    else:
        names = tuple(map(str, call_wfdb("rdrecord", path, sampto=1).sig_name))
    return Header(names, float(header.fs), int(header.sig_len))


def read_millivolts(path: Path, first: int, last: int) -> np.ndarray:
    """(signals, last - first) float32 mV in the file's order; NaN where samples are missing.

    UserError for a damaged file and for units other than uV, mV and V.
    """
    record: Any = call_wfdb("rdrecord", path, sampfrom=first, sampto=last, return_res=32)
    factors = []
    for name, unit in zip(record.sig_name, record.units, strict=True):
        factor = MILLIVOLTS.get(str(unit).strip().lower())
        if factor is None:
            raise UserError(
                f"{path}: signal {name!r} is in {unit!r}, not in mV, uV or V; correct the unit in "
                "the header, or leave the signal out of it."
            )
        factors.append(factor)
    samples = record.p_signal.T * np.array(factors, dtype=np.float32)[:, None]
    if samples.shape[1] != last - first:
        raise UserError(
            f"{path}: truncated, {samples.shape[1]} of {last - first} samples could be decoded; "
            "copy the file again."
        )
    return samples


def call_wfdb(function: str, path: Path, *args: Any, **options: Any) -> Any:
    """``wfdb.<function>(record, ...)``; what it raises becomes a UserError that names ``path``."""
    try:
        import wfdb
    except ImportError as error:
        raise UserError(
            f"ECG records need the library wfdb; {how_to_install('medical')}."
        ) from error
    try:
        return getattr(wfdb, function)(str(record_name(path)), *args, **options)
    # Damaged files make wfdb raise nearly anything: ValueError, IndexError, TypeError, KeyError.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path}: missing, damaged or not a WFDB record ({reason}); copy it again."
        ) from error


def _refuse_short_files(path: Path, header: Any) -> None:
    sizes: dict[str, float] = defaultdict(float)
    start: dict[str, int] = {}
    rows = (header.file_name, header.fmt, header.samps_per_frame, header.byte_offset)
    for name, kind, per_frame, offset in zip(*rows, strict=True):
        # Compressed formats say nothing about the file's size; decoding them fails by itself.
        sizes[name] += BYTES_A_SAMPLE.get(kind, 0) * (per_frame or 1) * header.sig_len
        start[name] = offset or 0
    for name, size in sizes.items():
        file = path.parent / name
        if not file.is_file():
            raise UserError(f"{path}: its header names {name}, but there is no {file}; restore it.")
        present, announced = file.stat().st_size, start[name] + int(size)
        if present == 0:
            raise UserError(f"{file}: empty file (0 bytes); copy it again or remove it.")
        if present < announced:
            raise UserError(
                f"{file}: truncated, {present} of {announced} bytes of samples are there; "
                "copy the file again."
            )
