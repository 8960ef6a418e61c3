"""Sound that libsndfile decodes, whole or in part, and refused unless all of it is there."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from multimodal.errors import UserError
from multimodal.modalities.sound.flac import flac_streams, stated_length
from multimodal.modalities.sound.mp3 import is_mp3, mp3_streams
from multimodal.modalities.sound.ogg import links
from multimodal.modalities.sound.part import Kept, Part
from multimodal.modalities.sound.sizes import check_sizes
from multimodal.modalities.sound.tags import tag_length
from multimodal.modalities.sound.wav import has_another_codec, wav_frames

# Values read at once: few enough that a header's lie about the length costs no memory.
BLOCK = 2**22
# Beyond this libsndfile does not know a length and reads to the end.
UNKNOWN = 2**40
# In these any sample can be decoded without those before it, and libsndfile finds its place.
# Elsewhere (Vorbis, Opus, MP3, GSM, G.72x) it is decoded from the beginning.
EXACT_PLACE = {"PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW", "ALAC", "IMA", "MS"}
# libsndfile opens them, but not even it compares the length that they state.
UNCHECKED = {"MAT4", "MAT5", "MPC2K", "WVE", "XI", "SDS", "SD2"}

# libsndfile's error codes for a container it does not know and for a codec it cannot decode.
UNKNOWN_FORMAT, UNKNOWN_CODEC = 1, 4
# What it says of FFmpeg's FLAC in Ogg, whose pages have been checked when it is opened.
FLAC_ERROR = 161
# Of a WAV that is damaged there, and of codecs that it does not know.
WAV_FORMAT_ERROR = 64


class UnknownSound(UserError):
    """libsndfile does not know the container or the codec; another library may."""


class Stream(NamedTuple):
    """What libsndfile opens: a path or bytes. stated: the samples that must come out of it, None:
    as many as libsndfile announces, 0: any number. to_the_end: whatever libsndfile announces."""

    source: Path | bytes
    stated: int | None = None
    to_the_end: bool = False


class Forward(soundfile.SoundFile):
    """Reads on without the seek that soundfile makes after each read: codecs lose their state by
    it, some cannot seek at all, and none can whose length is unknown."""

    def seekable(self) -> bool:
        return False


def read_sound(path: Path, part: Part) -> tuple[np.ndarray, int]:
    """(T,) float32, T >= 1: the mean of the channels of the part; and the file's rate in Hz.

    Streams that follow one another in a file are one signal. UserError: empty, truncated, damaged,
    not audio, longer than stated, rates that differ or are no recording's, no sample in the part.
    """
    kept = None
    try:
        for stream in _streams(path, part):
            with _opened(stream.source) as file:
                if file.format in UNCHECKED:
                    raise UserError(
                        f"{part.where}: whether a file in the format {file.format} is whole cannot "
                        "be checked; convert it to WAV or FLAC."
                    )
                _refuse_misread(file, stream.source, part.where)
                kept = kept or Kept(part, file.samplerate)
                if file.samplerate != kept.rate:
                    raise UserError(
                        f"{part.where}: its streams have different rates, {kept.rate} and "
                        f"{file.samplerate} Hz; split the file."
                    )
                _drain(file, stream, kept)
            if kept.complete:
                break
    # soundfile answers a name that ends in .raw with a TypeError.
    except (soundfile.SoundFileError, TypeError) as error:
        reason = getattr(error, "error_string", error)
        code = getattr(error, "code", None)
        unknown = code in (UNKNOWN_FORMAT, UNKNOWN_CODEC) or (kept is None and _unread(path, code))
        raise (UnknownSound if unknown else UserError)(
            f"{part.where}: damaged, truncated or not audio ({reason}); replace it or convert it "
            "to WAV, FLAC, Ogg or MP3."
        ) from error
    assert kept is not None  # a file has one stream or more
    return kept.joined(), kept.rate


def stated_frames(path: Path) -> tuple[int, int]:
    """Samples of each channel and Hz, as a file's header states them; UnknownSound: it does not."""
    try:
        with _opened(path) as file:
            if 0 < file.frames < UNKNOWN and file.samplerate > 0:
                return file.frames, file.samplerate
    except (soundfile.SoundFileError, TypeError, OSError) as error:
        raise UnknownSound(f"{path}: no length is known ({error}).") from error
    raise UnknownSound(f"{path}: no length is known.")


def refuse_damaged_container(path: Path, where: str) -> None:
    """UserError if the file is empty or there is less, or more, in it than its container says."""
    for _ in _streams(path, Part(where, 0.0, None, None, 1)):
        return


def _refuse_misread(file: Forward, source: Path | bytes, where: str) -> None:
    """UserError if libsndfile found something else in the file than what stands in it.

    mpg123 looks for MPEG frames behind anything, and starts amid them; libsndfile loses its place
    behind chunks of WAV that are shorter than it takes them for.
    """
    if file.format == "MP3" and isinstance(source, Path):
        raise UserError(
            f"{where}: damaged, at its beginning stands neither an MPEG frame nor a tag; copy it "
            "again or encode it again."
        )
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as content:
        stated = wav_frames(content)
    if stated not in (None, file.frames):
        raise UserError(
            f"{where}: its header announces {stated} frames but libsndfile finds {file.frames}; a "
            "chunk before them may be damaged. Write the file again."
        )


def _unread(path: Path, code: int | None) -> bool:
    """Whether an error of damage stands for a codec that libsndfile does not have."""
    with path.open("rb") as file:
        if code == WAV_FORMAT_ERROR:
            return has_another_codec(file)
        return code == FLAC_ERROR and file.read(4) == b"OggS"


def _opened(source: Path | bytes) -> Forward:
    # Names need not be UTF-8.
    where = io.BytesIO(source) if isinstance(source, bytes) else os.fsencode(source)
    return Forward(where)  # pyright: ignore[reportArgumentType]


def _streams(path: Path, part: Part) -> Iterator[Stream]:
    where = part.where
    if path.stat().st_size == 0:
        raise UserError(f"{where}: empty file (0 bytes); copy it again or remove it.")
    with path.open("rb") as file:
        magic = file.read(4)
    if magic == b"OggS":
        data = path.read_bytes()
        found = links(data, where)
        if len(found) == 1:
            yield Stream(path)
        else:
            yield from (Stream(data[begin:end]) for begin, end in found)
    elif magic == b"fLaC":
        yield from _flac(path, part)
    elif magic[:3] == b"ID3" or magic[:1] == b"\xff" or magic in (b"APET", bytes(4)):
        yield from _tagged(path, where)
    elif mend := check_sizes(path, where):
        data = bytearray(path.read_bytes())
        data[mend.position : mend.position + len(mend.content)] = mend.content
        yield Stream(bytes(data))
    else:
        yield Stream(path)


def _flac(path: Path, part: Part) -> Iterator[Stream]:
    with path.open("rb") as file:
        rate, stated = stated_length(file.read(42))
    first, stop = part.frames(rate)
    if first > 0 and stop is not None and stop <= stated:
        yield Stream(path)  # within the first stream, where FLAC finds every sample
        return
    found = flac_streams(path.read_bytes(), part.where)
    yield from (Stream(data, count, to_the_end=True) for data, count in found)


def _tagged(path: Path, where: str) -> Iterator[Stream]:
    """A tag may stand before MP3 and, against the specification, before FLAC."""
    data = path.read_bytes()
    position = 0
    while position < len(data) and (length := tag_length(data, position)):
        position += length
    if data[position : position + 4] == b"fLaC":
        found = flac_streams(data, where)
        yield from (Stream(content, stated, to_the_end=True) for content, stated in found)
    elif is_mp3(data):
        for stream in mp3_streams(data, where):
            yield Stream(stream.content, stream.samples)
    else:
        yield Stream(path)


def _drain(file: Forward, stream: Stream, kept: Kept) -> None:
    """Give the stream's samples to ``kept``; UserError if there are fewer or more than stated."""
    announced = None if stream.to_the_end or file.frames > UNKNOWN else file.frames
    where, done = kept.part.where, 0
    kept.refuse_long(announced or stream.stated or 0)
    if announced is not None and kept.first > 0 and kept.position == 0 and _finds_places(file):
        done = min(kept.first, announced)
        soundfile.SoundFile.seek(file, done)
        kept.skip(done)
    step = max(1, BLOCK // file.channels)
    while not kept.complete and done != announced:
        count = min(n for n in (step, kept.wanted(), announced and announced - done) if n)
        samples = file.read(count, dtype="float32", always_2d=True)
        kept.add(samples)
        done += len(samples)
        if len(samples) < count:
            break
    stated = announced if stream.stated is None else stream.stated
    if not kept.complete and stated and done != stated:
        more = "truncated, the" if done < stated else "the"
        raise UserError(
            f"{where}: {more} header announces {stated} frames but {done} could be decoded; copy "
            "the file again."
        )


def _finds_places(file: Forward) -> bool:
    exact = file.subtype.split("_")[0] in EXACT_PLACE
    return exact and soundfile.SoundFile.seekable(file)
