"""Storage formats of WFDB signal files, as signal(5) of the WFDB library describes them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from multimodal.errors import UserError

# Samples and bytes of the smallest piece that can be decoded by itself.
BLOCKS = {
    "8": (1, 1),
    "16": (1, 2),
    "24": (1, 3),
    "32": (1, 4),
    "61": (1, 2),
    "80": (1, 1),
    "160": (1, 2),
    "212": (2, 3),
    "310": (3, 4),
    "311": (3, 4),
}
FLAC_BITS = {"508": 8, "516": 16, "524": 24}
# What stands for a sample that is missing; format 8 holds differences and has no such value.
MISSING = {
    "16": -(2**15),
    "24": -(2**23),
    "32": -(2**31),
    "61": -(2**15),
    "80": -(2**7),
    "160": -(2**15),
    "212": -(2**11),
    "310": -(2**9),
    "311": -(2**9),
    "508": -(2**7),
    "516": -(2**15),
    "524": -(2**23),
}
FLAC_CHUNK = 2**16


def bytes_of(form: str, samples: int) -> tuple[int, int]:
    """The fewest and the most bytes that ``samples`` samples take; writers fill up blocks."""
    in_block, size = BLOCKS[form]
    whole, rest = divmod(samples, in_block)
    most = size * (whole + bool(rest))
    fewest = {("212", 1): 2, ("310", 1): 2, ("311", 1): 2, ("311", 2): 3}.get((form, rest), size)
    return (size * whole + fewest if rest else most), most


def samples_in(form: str, size: int) -> int:
    """The most samples that ``size`` bytes hold."""
    in_block, block = BLOCKS[form]
    samples = size // block * in_block
    while bytes_of(form, samples + 1)[0] <= size:
        samples += 1
    return samples


def read_samples(path: Path, form: str, offset: int, first: int, last: int) -> np.ndarray:
    """Samples [first, last) of a file without compression, int32 in the order of the file.

    offset: bytes before the first sample. Format 8 gives differences. UserError: too few bytes.
    """
    in_block, size = BLOCKS[form]
    begin = first // in_block
    need = bytes_of(form, last - begin * in_block)[0]
    data = np.fromfile(path, dtype=np.uint8, count=need, offset=offset + begin * size)
    if len(data) < need:
        raise UserError(f"{path}: truncated while it was read; copy the file again.")
    data = np.pad(data, (0, -need % size))
    return _unpacked(form, data)[first - begin * in_block : last - begin * in_block]


def _unpacked(form: str, data: np.ndarray) -> np.ndarray:
    """Whole blocks of bytes -> int32."""
    if form in ("8", "80"):
        return data.view(np.int8).astype(np.int32) if form == "8" else data.astype(np.int32) - 128
    if form in ("16", "61"):
        return data.view("<i2" if form == "16" else ">i2").astype(np.int32)
    if form == "160":
        return data.view("<u2").astype(np.int32) - 2**15
    if form == "32":
        return data.view("<i4").astype(np.int32)
    if form == "24":
        low, middle, high = data.reshape(-1, 3).astype(np.int32).T
        return _signed(low | middle << 8 | high << 16, 24)
    if form == "212":
        low, both, high = data.reshape(-1, 3).astype(np.int32).T
        pair = np.stack([low | (both & 15) << 8, high | (both >> 4) << 8], axis=1)
        return _signed(pair.reshape(-1), 12)
    if form == "310":
        one, two = data.view("<u2").reshape(-1, 2).astype(np.int32).T
        three = one >> 11 | (two >> 11) << 5
        triple = np.stack([one >> 1 & 1023, two >> 1 & 1023, three], axis=1)
        return _signed(triple.reshape(-1), 10)
    assert form == "311", form
    word = data.view("<u4").astype(np.int64)
    triple = np.stack([word & 1023, word >> 10 & 1023, word >> 20 & 1023], axis=1)
    return _signed(triple.reshape(-1).astype(np.int32), 10)


def _signed(values: np.ndarray, bits: int) -> np.ndarray:
    return values - (values >> (bits - 1) << bits)


def flac_samples(path: Path, channels: int) -> int:
    """Samples of each channel that a FLAC file announces; UserError for other numbers of them."""
    import soundfile

    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:  # pyright: ignore[reportArgumentType]
            if file.format != "FLAC" or file.channels != channels:
                raise UserError(
                    f"{path}: {file.format} of {file.channels} channels, its header announces "
                    f"FLAC of {channels}; copy both again."
                )
            return file.frames
    except soundfile.SoundFileError as error:
        raise _no_flac(path, error) from error


def read_flac(path: Path, form: str, first: int, last: int) -> np.ndarray:
    """Samples [first, last) of every channel, (last - first, channels) int32.

    UserError: damaged, fewer samples, more bits than ``form`` has.
    """
    import soundfile

    pieces, left = [], last - first
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:  # pyright: ignore[reportArgumentType]
            bits = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}.get(file.subtype, 32)
            if bits > FLAC_BITS[form]:
                raise UserError(f"{path}: {bits} bits a sample, format {form} has fewer; copy it.")
            file.seek(first)
            while left:  # in pieces: a damaged file may announce any length
                piece: np.ndarray = np.asarray(
                    file.read(min(left, FLAC_CHUNK), dtype="int32", always_2d=True)
                )
                if not len(piece):
                    raise UserError(
                        f"{path}: truncated, {left} samples are missing; copy it again."
                    )
                pieces.append(piece >> (32 - bits))
                left -= len(piece)
    except soundfile.SoundFileError as error:
        raise _no_flac(path, error) from error
    return np.concatenate(pieces)


def _no_flac(path: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:120]
    return UserError(f"{path}: damaged or no FLAC file ({reason}); copy it again.")
