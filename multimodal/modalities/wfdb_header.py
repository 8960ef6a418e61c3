"""Header files of WFDB records, as header(5) of the WFDB library describes them.

Read here and not by the library ``wfdb``, which drops the bytes of micro signs (so that µV becomes
V), stops at dates that it cannot read, and takes a line for shorter than it is without a word.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import NamedTuple

from multimodal.errors import UserError

RATE, GAIN = 250.0, 200.0  # of headers that state none
LARGEST_HEADER = 2**20
_NUMBER = r"[-+]?(?:\d{1,18}\.?\d{0,18}|\.\d{1,18})(?:[eE][-+]?\d{1,3})?"
_RECORD = re.compile(
    rf"(?P<name>[^\s/]+)(?:/(?P<segments>\d{{1,9}}))?\s+(?P<signals>\d{{1,9}})"
    rf"(?:\s+(?P<rate>{_NUMBER})(?:/\S*)?(?:\s+(?P<frames>\d{{1,15}})(?:\s+.*)?)?)?"
)
_SIGNAL = re.compile(
    r"(?P<file>\S+)\s+(?P<form>\d{1,4})(?:x(?P<per_frame>\d{1,9}))?(?::(?P<skew>\d{1,15}))?"
    r"(?:\+(?P<offset>\d{1,15}))?(?:\s+(?P<rest>.*))?"
)
_SCALE = re.compile(rf"(?P<gain>{_NUMBER})?(?:\((?P<baseline>{_NUMBER})\))?(?:/(?P<unit>\S+))?")
# Where a gain could stand, this is a damaged one and no lead's name; so are numbers that are no
# integers where integers belong.
_NO_NUMBER = r"[-+]?(?:nan|inf)"
_NO_SCALE = re.compile(rf"(?:[-+.]*\d\S*|{_NO_NUMBER})?[(/]\S*", re.IGNORECASE)
_NO_INTEGER = re.compile(rf"{_NUMBER}|{_NO_NUMBER}", re.IGNORECASE)
_INTEGER = re.compile(r"[-+]?\d{1,18}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SEGMENT = re.compile(r"(?P<name>\S+)\s+(?P<frames>\d{1,15})(?:\s.*)?")


class Signal(NamedTuple):
    """A signal line. form: the number of its storage format; "0" has no samples.

    per_frame: samples in each frame of the record. skew: frames by which its samples stand late in
    the file. initial, checksum: None where the header does not state them.
    """

    name: str
    file: str
    form: str
    per_frame: int
    skew: int
    offset: int
    gain: float
    baseline: float
    unit: str
    initial: int | None
    checksum: int | None


class HeaderFile(NamedTuple):
    """rate: frames a second. frames: 0 where not stated. segments: (record, frames) of each."""

    path: Path
    rate: float
    frames: int
    signals: tuple[Signal, ...]
    segments: tuple[tuple[str, int], ...]


def parse_header(path: Path) -> HeaderFile:
    """The header file ``path`` (.hea); UserError if it is missing or cannot be understood."""
    try:
        if path.stat().st_size > LARGEST_HEADER:
            raise damaged(path, f"{path.stat().st_size} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: no such file; correct the path or restore the file.") from error
    lines = _lines(content)
    broken = [line for line in lines if _CONTROL.search(line)]
    if broken:
        raise damaged(path, f"control characters in {broken[0][:60]!r}")
    found = _RECORD.fullmatch(lines[0]) if lines else None
    if found is None:
        raise damaged(path, f"first line {lines[0][:60]!r}" if lines else "no line")
    rate = float(found["rate"] or RATE)
    if not (math.isfinite(rate) and rate > 0):
        raise damaged(path, f"{rate:g} frames a second")
    frames = int(found["frames"] or 0)
    stated = int(found["segments"] or found["signals"])
    if stated != len(lines) - 1 or stated == 0:
        kind = "segments" if found["segments"] else "signals"
        raise damaged(path, f"it announces {stated} {kind} and describes {len(lines) - 1}")
    if found["segments"]:
        segments = tuple(_segment(line, path) for line in lines[1:])
        return HeaderFile(path, rate, frames, (), segments)
    signals = tuple(_signal(line, path) for line in lines[1:])
    return HeaderFile(path, rate, frames, signals, ())


def damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: damaged or not a WFDB record ({reason}); copy it again.")


def _lines(content: bytes) -> list[str]:
    """Lines that are neither empty nor comments. Old headers are in Latin-1."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = (line.replace("\t", " ").strip() for line in re.split(r"\r\n|\r|\n", text))
    return [line for line in lines if line and not line.startswith("#")]


def _segment(line: str, path: Path) -> tuple[str, int]:
    found = _SEGMENT.fullmatch(line)
    if found is None:
        raise damaged(path, f"segment {line[:60]!r}")
    return _beside(found["name"], path), int(found["frames"])


def _signal(line: str, path: Path) -> Signal:
    """A field may be left out where all numbers after it are; what is left over is the name."""
    found = _SIGNAL.fullmatch(line)
    rest = (found["rest"] or "").strip() if found else ""
    scale, after = _next(rest, _SCALE)
    if found is None or (scale is None and _next(rest, _NO_SCALE)[0]):
        raise damaged(path, f"signal {line[:60]!r}")
    gain = float(scale["gain"] or 0) if scale else 0.0
    if not math.isfinite(gain):
        raise damaged(path, f"gain {gain}")
    numbers: list[int] = []
    for _ in range(5):  # ADC resolution, ADC zero, initial value, checksum, block size
        number, after = _next(after, _INTEGER)
        if number is None:
            break
        numbers.append(int(number[0]))
    if len(numbers) < 5 and _next(after, _NO_INTEGER)[0]:
        raise damaged(path, f"signal {line[:60]!r}")
    zero, initial, checksum = (numbers[k] if k < len(numbers) else None for k in (1, 2, 3))
    stated = scale["baseline"] if scale else None
    baseline = float(stated or zero or 0)
    if not math.isfinite(baseline):
        raise damaged(path, f"baseline {baseline}")
    return Signal(
        name=after,
        file=_beside(found["file"], path),
        form=found["form"],
        per_frame=int(found["per_frame"] or 1) or 1,
        skew=int(found["skew"] or 0),
        offset=int(found["offset"] or 0),
        gain=gain or GAIN,
        baseline=baseline,
        unit=(scale["unit"] if scale else None) or "mV",
        initial=initial,
        checksum=checksum,
    )


def _next(text: str, pattern: re.Pattern[str]) -> tuple[re.Match[str] | None, str]:
    """The first word of ``text`` where it is of ``pattern``, and what follows it."""
    word, _, after = text.partition(" ")
    found = pattern.fullmatch(word) if word else None
    return (found, after.strip()) if found else (None, text)


def _beside(name: str, path: Path) -> str:
    name = re.sub(r"^(?:\./)+", "", name)
    if "/" in name or "\\" in name or name in ("", ".", ".."):
        raise damaged(path, f"{name[:60]!r} lies in another folder")
    return name
