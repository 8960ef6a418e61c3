"""Which signals share a file of a WFDB record, and whether the files are as long as it says."""

from __future__ import annotations

from multimodal.errors import UserError
from multimodal.modalities.wfdb_formats import (
    BLOCKS,
    FLAC_BITS,
    bytes_of,
    flac_samples,
    samples_in,
)
from multimodal.modalities.wfdb_header import HeaderFile, damaged


def groups_of(file: HeaderFile) -> dict[str, list[int]]:
    """Signal file -> places in ``file.signals`` of what it holds; UserError for unknown formats."""
    groups: dict[str, list[int]] = {}
    for i, signal in enumerate(file.signals):
        if signal.form not in ("0", *BLOCKS, *FLAC_BITS):
            known = ", ".join([*BLOCKS, *FLAC_BITS])
            raise UserError(f"{file.path}: storage format {signal.form} is none of {known}.")
        if signal.form != "0" and signal.file != "~":
            groups.setdefault(signal.file, []).append(i)
    for name, members in groups.items():
        signals = [file.signals[i] for i in members]
        offsets = {s.offset for s in signals[1:]} - {0, signals[0].offset}
        rates = {s.per_frame for s in signals} if signals[0].form in FLAC_BITS else {1}
        if len({s.form for s in signals}) > 1 or len(rates) > 1 or offsets:
            raise damaged(file.path, f"signals in {name} of several formats, rates or places")
    return groups


def length_of(file: HeaderFile) -> int:
    """How many frames a record of one segment has; UserError unless all of its files say so."""
    groups = groups_of(file)
    frames = file.frames
    if not frames:
        frames = min((_frames_in(file, *group) for group in groups.items()), default=0)
    if not frames:
        raise damaged(file.path, "no length and no sample in its files")
    for name, members in groups.items():
        _refuse_other_sizes(file, name, members, frames)
    late = [s for s in file.signals if s.skew >= frames]
    if late:
        raise damaged(file.path, f"{late[0].name} is {late[0].skew} of {frames} frames late")
    return frames


def _size(file: HeaderFile, name: str) -> int:
    path = file.path.parent / name
    if not path.is_file():
        raise UserError(
            f"{file.path}: its header names {name}, but there is no {path}; restore it."
        )
    size = path.stat().st_size
    if not size:
        raise UserError(f"{path}: empty file (0 bytes); copy it again or remove it.")
    return size


def _frames_in(file: HeaderFile, name: str, members: list[int]) -> int:
    signal, size = file.signals[members[0]], _size(file, name)
    if signal.form in FLAC_BITS:
        samples = flac_samples(file.path.parent / name, len(members)) - signal.offset
        return max(0, samples) // signal.per_frame
    total = sum(file.signals[i].per_frame for i in members)
    return samples_in(signal.form, max(0, size - signal.offset)) // total


def _refuse_other_sizes(file: HeaderFile, name: str, members: list[int], frames: int) -> None:
    signal, present = file.signals[members[0]], _size(file, name)
    path = file.path.parent / name
    if signal.form in FLAC_BITS:
        unit, present = "samples", flac_samples(path, len(members))
        fewest = most = signal.offset + frames * signal.per_frame
    else:
        total = sum(file.signals[i].per_frame for i in members)
        unit, (fewest, most) = "bytes of samples", bytes_of(signal.form, frames * total)
        fewest, most = fewest + signal.offset, most + signal.offset
    if present < fewest:
        raise UserError(
            f"{path}: truncated, {present} of {fewest} {unit} are there; copy the file again."
        )
    if present > most:
        raise UserError(
            f"{path}: {present} {unit} are there, its header announces {most}; copy both again, or "
            "correct the number of samples in the header."
        )
