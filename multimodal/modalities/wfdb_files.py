"""WFDB records: every signal at its own rate, with damage refused instead of shortened."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from multimodal.errors import UserError, how_to_install
from multimodal.modalities.wfdb_formats import FLAC_BITS, MISSING, read_flac, read_samples
from multimodal.modalities.wfdb_header import HeaderFile, damaged, parse_header
from multimodal.modalities.wfdb_sizes import groups_of, length_of

FILE_ENDINGS = (".hea", ".dat", ".mat", ".atr")
# Of casefolded units; that turns the micro sign into a Greek mu.
MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "μv": 1e-3, "nv": 1e-6, "v": 1e3}
MILLIVOLTS |= {"millivolt": 1.0, "microvolt": 1e-3, "nanovolt": 1e-6, "volt": 1e3}
CHUNK_FRAMES = 2**18


class Piece(NamedTuple):
    """Frames [begin, begin + frames) of a record: one segment. file: None where nothing was stored.

    columns: for every signal of the record the place in ``file.signals``, None where it is missing.
    """

    begin: int
    frames: int
    file: HeaderFile | None
    columns: tuple[int | None, ...]


class Header(NamedTuple):
    """names: of the signals. rate: frames a second. per_frame: samples of each in a frame."""

    path: Path
    names: tuple[str, ...]
    rate: float
    frames: int
    per_frame: tuple[int, ...]
    pieces: tuple[Piece, ...]


def record_name(path: Path) -> Path:
    """The record's path without an extension, by which WFDB calls it."""
    return path.with_suffix("") if path.suffix in FILE_ENDINGS else path


def stamp(path: Path) -> tuple[int, ...]:
    """Changes when the header or the samples beside it are replaced; UserError if a file is
    missing. Of signal files of other names only the named one is looked at.
    """
    name, ending = os.path.splitext(path)
    needed = [f"{name}.hea", str(path)] if ending in FILE_ENDINGS else [f"{path}.hea"]
    beside = [needed[0].removesuffix(".hea") + ending for ending in (".dat", ".mat")]
    facts: list[int] = []
    for file in dict.fromkeys(needed + beside):  # called for every beat, so without Path
        try:
            s = os.stat(file)
        except OSError as error:
            if file not in needed:
                continue
            raise UserError(
                f"{file}: no such file; correct the path or restore the file."
            ) from error
        facts += (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)
    return tuple(facts)


def read_header(path: Path) -> Header:
    """UserError for a damaged header and for signal files of other lengths than it says.

    A header that states no length gets it from the size of its files.
    """
    file = parse_header(Path(f"{record_name(path)}.hea"))
    if file.segments:
        return _of_segments(file)
    frames = length_of(file)
    names = tuple(signal.name for signal in file.signals)
    per_frame = tuple(signal.per_frame for signal in file.signals)
    piece = Piece(0, frames, file, tuple(range(len(names))))
    return Header(file.path, names, file.rate, frames, per_frame, (piece,))


def read_millivolts(
    header: Header, first: int, last: int, columns: Sequence[int]
) -> list[np.ndarray]:
    """Frames [first, last) of the signals ``columns``, each (frames * per_frame,) float32 in mV.

    NaN where samples are missing. UserError for damaged files, for units other than volts and
    for files that are read whole and do not have the sum or first value in the header.
    """
    out = [np.full((last - first) * header.per_frame[c], np.nan, np.float32) for c in columns]
    for piece in header.pieces:
        begin, end = max(first, piece.begin), min(last, piece.begin + piece.frames)
        if begin >= end or piece.file is None:
            continue
        wanted = {
            piece.columns[c]: k for k, c in enumerate(columns) if piece.columns[c] is not None
        }
        factors = {i: _millivolts_a_unit(piece.file, i) for i in wanted if i is not None}
        found = _digital(piece.file, piece.frames, begin - piece.begin, end - piece.begin, factors)
        for i, samples in found:
            signal = piece.file.signals[i]
            values = (samples - float(signal.baseline)) / signal.gain * factors[i]
            values[samples == MISSING.get(signal.form)] = np.nan
            at = (begin - first) * signal.per_frame
            out[wanted[i]][at : at + len(values)] = values
    return out


def check_sums(header: Header) -> None:
    """Read all signals once, in pieces; UserError as soon as a sum or first value differs."""
    once = {piece.file.path: piece for piece in header.pieces if piece.file is not None}
    for piece in once.values():
        for name, members in groups_of(piece.file).items() if piece.file else ():
            assert piece.file is not None
            step = piece.frames if piece.file.signals[members[0]].form == "8" else CHUNK_FRAMES
            sums, starts = dict.fromkeys(members, 0), dict.fromkeys(members, 0)
            for first in range(0, piece.frames, step):
                last = min(first + step, piece.frames)
                for i, samples in _stored(piece.file, name, members, first, last):
                    sums[i] += int(samples.sum(dtype=np.int64))
                    starts[i] = starts[i] if first else int(samples[0])
            for i in members:
                _compare(piece.file, i, sums[i], starts[i])


def call_wfdb(function: str, path: Path, *args: Any, **options: Any) -> Any:
    """``wfdb.<function>(record, ...)``; what it raises becomes a UserError that names ``path``."""
    try:
        import wfdb
    except ImportError as error:
        raise UserError(
            f"Annotations of ECG records need the library wfdb; {how_to_install('medical')}."
        ) from error
    try:
        return getattr(wfdb, function)(str(record_name(path)), *args, **options)
    # Damaged files make wfdb raise nearly anything: ValueError, IndexError, TypeError, KeyError.
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path}: missing, damaged or not a WFDB record ({reason}); copy it again."
        ) from error


def _of_segments(file: HeaderFile) -> Header:
    """Segments one after the other; a first one without frames only names the signals."""
    folder, begin = file.path.parent, 0
    layout = file.segments[0][1] == 0
    pieces: list[tuple[int, int, HeaderFile | None]] = []
    names: tuple[str, ...] | None = None
    known: dict[str, HeaderFile | None] = {"~": None}  # a record may repeat a segment
    lengths: dict[str, int] = {}
    for name, frames in file.segments:
        if name not in known:
            known[name] = parse_header(folder / f"{name}.hea")
        part = known[name]
        if part is not None and (part.segments or part.rate != file.rate):
            raise damaged(file.path, f"segment {name} of other segments or another rate")
        if part is not None and names is None:
            names = tuple(signal.name for signal in part.signals)
        if frames == 0:
            continue
        if part is not None and name not in lengths:
            lengths[name] = length_of(part)
        if lengths.get(name, frames) != frames:
            raise damaged(file.path, f"segment {name} has {lengths[name]} frames, not {frames}")
        pieces.append((begin, frames, part))
        begin += frames
    if names is None or not begin or file.frames not in (0, begin):
        raise damaged(file.path, f"it announces {file.frames} frames, its segments hold {begin}")
    found = [Piece(b, n, f, _columns(file.path, names, f, layout)) for b, n, f in pieces]
    per_frame = tuple(_rate_of(file.path, name, c, found) for c, name in enumerate(names))
    return Header(file.path, names, file.rate, begin, per_frame, tuple(found))


def _columns(
    path: Path, names: tuple[str, ...], file: HeaderFile | None, layout: bool
) -> tuple[int | None, ...]:
    """By name; all segments of a record without layout have all signals, in the same order."""
    here = [signal.name for signal in file.signals] if file else []
    if file and (len(set(here)) < len(here) or not set(here) <= set(names)):
        raise damaged(path, f"segment {file.path.stem} has the signals {', '.join(here)}"[:200])
    if file and not layout and tuple(here) != names:
        raise damaged(path, f"segment {file.path.stem} has other signals than the first one")
    return tuple(here.index(name) if name in here else None for name in names)


def _rate_of(path: Path, name: str, column: int, pieces: list[Piece]) -> int:
    found = set()
    for piece in pieces:
        i = piece.columns[column]
        if piece.file is not None and i is not None:
            found.add(piece.file.signals[i].per_frame)
    if len(found) > 1:
        raise damaged(path, f"{name} has {sorted(found)} samples a frame in its segments")
    return found.pop() if found else 1


def _millivolts_a_unit(file: HeaderFile, i: int) -> float:
    signal = file.signals[i]
    factor = MILLIVOLTS.get(signal.unit.casefold().removesuffix("s"))
    if factor is None:
        raise UserError(
            f"{file.path}: signal {signal.name!r} is in {signal.unit!r}, not in mV, uV or V; "
            "correct the unit in the header, or leave the signal out with lead_names."
        )
    return factor


def _digital(
    file: HeaderFile, frames: int, first: int, last: int, wanted: dict[int, float]
) -> Iterator[tuple[int, np.ndarray]]:
    """(place, samples) of the signals ``wanted``, skew undone: fewer at the end of the file."""
    for name, members in groups_of(file).items():
        here = [i for i in members if i in wanted]
        late = max((file.signals[i].skew for i in here), default=0)
        whole = (first, last) == (0, frames)
        end = min(frames, last + late)
        for i, samples in _stored(file, name, members, first, end) if here else ():
            signal = file.signals[i]
            if whole:
                _compare(file, i, int(samples.sum(dtype=np.int64)), int(samples[0]))
            if i in wanted:
                begin = signal.skew * signal.per_frame
                yield i, samples[begin : begin + (last - first) * signal.per_frame]


def _stored(
    file: HeaderFile, name: str, members: list[int], first: int, last: int
) -> Iterator[tuple[int, np.ndarray]]:
    """(place, samples of frames [first, last)) of every signal in one file, as they are stored."""
    path, signals = file.path.parent / name, [file.signals[i] for i in members]
    form, offset, total = signals[0].form, signals[0].offset, sum(s.per_frame for s in signals)
    if form in FLAC_BITS:
        rate = signals[0].per_frame
        channels = read_flac(path, form, offset + first * rate, offset + last * rate)
        yield from zip(members, channels.T, strict=True)
        return
    start = 0 if form == "8" else first  # differences add up from the beginning
    flat = read_samples(path, form, offset, start * total, last * total)
    table, begin = flat.reshape(last - start, total), 0
    for i, signal in zip(members, signals, strict=True):
        samples = table[:, begin : begin + signal.per_frame].reshape(-1)
        begin += signal.per_frame
        if form == "8":
            sums = samples.cumsum(dtype=np.int64) + (signal.initial or 0)
            samples = sums[(first - start) * signal.per_frame :]
        yield i, samples


def _compare(file: HeaderFile, i: int, total: int, start: int) -> None:
    """The header's sum (of 16 bits) and first value; writers that know neither put zeros."""
    signal = file.signals[i]
    stated = [(signal.checksum, total % 2**16, "sum", 2**16)]
    if signal.form != "8":  # there it is what the first difference is added to
        stated.append((signal.initial, start, "first value", 2**63))
    for announced, found, words, modulus in stated:
        if announced and (announced - found) % modulus:
            raise UserError(
                f"{file.path.parent / signal.file}: the {words} of signal {signal.name!r} is "
                f"{found}, its header announces {announced}; damaged, copy the file again."
            )
